"""Fetch: what S3 answers becomes bytes on disk or the contract's code."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from bucketscribe_contract import FailureCode, JobInput
from tests.fakes.worker import Answer, LoopbackS3
from worker.cancel import CancelToken, StageContext
from worker.errors import JobCancelled, WorkerError
from worker.stages.fetch import (
    BLOCK_BYTES,
    DownloadLimits,
    fetch,
    job_directory,
    remove_stale_directories,
)
from worker.types import Recording

LIMIT = 12 * BLOCK_BYTES
LIMITS = DownloadLimits(LIMIT)


def run(s3: LoopbackS3, folder: Path, path: str = "/b/k?X-Amz-Signature=5ec2e7") -> Recording:
    """Fetch from the loopback server."""
    return fetch(JobInput(audio_url=s3.url(path)), folder, LIMITS, StageContext())


def failure(s3: LoopbackS3, folder: Path, path: str = "/b/k?X-Amz-Signature=5ec2e7") -> WorkerError:
    """Fetch what must fail."""
    with pytest.raises(WorkerError) as caught:
        run(s3, folder, path)
    assert "5ec2e7" not in str(caught.value)
    return caught.value


def test_bytes_arrive_whole_and_progress_is_told(s3: LoopbackS3, tmp_path: Path) -> None:
    body = bytes(range(256)) * (3 * BLOCK_BYTES // 256)
    s3.answers = [Answer(body=body)]
    shares: list[float] = []
    stored: list[tuple[int, int]] = []

    def note(size: int) -> None:
        stored.append((size, (tmp_path / "recording").stat().st_size))

    job = JobInput(audio_url=s3.url())
    recording = fetch(job, tmp_path, LIMITS, StageContext(progress=shares.append), note)
    assert stored == [(n * BLOCK_BYTES,) * 2 for n in range(4)]
    assert recording.path.read_bytes() == body
    assert recording.bytes == len(body)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    "path",
    [
        "/b/users/a%20b/%2B/%25/%C3%BC~(x)*'!.wav?X-Amz-Credential=AK%2F2025%2Fs3&X-Amz-Signature=ab",
        "/b/a/./b//c/..%2Fd?sig=%7E",
    ],
)
def test_the_url_goes_out_exactly_as_it_was_signed(
    s3: LoopbackS3, tmp_path: Path, path: str
) -> None:
    run(s3, tmp_path, path)
    assert s3.requests[0][1] == path


def signed_for(seconds: int) -> str:
    """A URL signed an hour ago for so many seconds."""
    signed = datetime.now(UTC) - timedelta(hours=1)
    life = f"X-Amz-Date={signed:%Y%m%dT%H%M%SZ}&X-Amz-Expires={seconds}"
    return f"/b/k?{life}&X-Amz-Signature=5ec2e7"


DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
SAYS_EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"


@pytest.mark.parametrize(
    ("answer", "path", "code"),
    [
        (Answer(404, b"<Error><Code>NoSuchKey</Code></Error>"), "/b/k", "AUDIO_NOT_FOUND"),
        (Answer(403, SAYS_EXPIRED), "/b/k?X-Amz-Signature=5ec2e7", "AUDIO_URL_EXPIRED"),
        (Answer(403, DENIED), signed_for(seconds=3000), "AUDIO_URL_EXPIRED"),
        (Answer(403, DENIED), signed_for(seconds=7200), "AUDIO_FORBIDDEN"),
        (Answer(400, b"<Error><Code>ExpiredToken</Code></Error>"), "/b/k", "AUDIO_URL_EXPIRED"),
        (Answer(503, b"slow down"), "/b/k", "STORAGE_UNAVAILABLE"),
        (Answer(429), "/b/k", "STORAGE_UNAVAILABLE"),
        (Answer(307, headers={"Location": "http://127.0.0.1:1/"}), "/b/k", "URL_NOT_ALLOWED"),
    ],
    ids=["404", "expired", "ended", "denied", "old token", "503", "429", "redirect"],
)
def test_every_refusal_has_its_code(
    s3: LoopbackS3, tmp_path: Path, answer: Answer, path: str, code: str
) -> None:
    s3.answers = [answer]
    assert failure(s3, tmp_path, path).code == code
    assert len(s3.requests) == (3 if code == "STORAGE_UNAVAILABLE" else 1)


@pytest.mark.parametrize("declared", [True, False])
def test_the_size_cap_holds_with_and_without_a_declared_length(
    s3: LoopbackS3, tmp_path: Path, declared: bool
) -> None:
    body = b"x" * (LIMIT + 1)
    headers = {} if declared else {"Transfer-Encoding": "identity"}
    s3.answers = [Answer(body=body, headers=headers)]
    assert failure(s3, tmp_path).code is FailureCode.AUDIO_TOO_LARGE
    stored = tmp_path / "recording"
    assert not stored.exists() or stored.stat().st_size <= LIMIT


def test_a_connection_that_breaks_half_way_or_is_refused_is_told(
    s3: LoopbackS3, tmp_path: Path
) -> None:
    s3.answers = [Answer(body=b"half of it", headers={"Content-Length": "100"})]
    assert failure(s3, tmp_path).code in ("AUDIO_TRUNCATED", "STORAGE_UNAVAILABLE")
    s3.port = 1
    assert failure(s3, tmp_path).code is FailureCode.STORAGE_UNAVAILABLE


def test_inline_audio_is_unpacked(tmp_path: Path) -> None:
    job = JobInput(audio_base64=base64.b64encode(b"sound").decode())
    assert fetch(job, tmp_path, LIMITS, StageContext()).path.read_bytes() == b"sound"


@pytest.mark.parametrize(
    ("text", "limit", "code"),
    [("not base64!", LIMIT, "INVALID_INPUT"), ("QUJDRA==", 3, "AUDIO_TOO_LARGE")],
)
def test_bad_inline_audio_has_its_code(tmp_path: Path, text: str, limit: int, code: str) -> None:
    with pytest.raises(WorkerError) as caught:
        fetch(JobInput(audio_base64=text), tmp_path, DownloadLimits(limit), StageContext())
    assert caught.value.code == code


BODY = bytes(range(256)) * (10 * BLOCK_BYTES // 256)
ETAG = f'"{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}"'


def cut_at(share: float) -> Answer:
    """Declare everything, send a part, hang up."""
    return Answer(body=BODY, headers={"ETag": ETAG}, drop_after=int(len(BODY) * share))


def rest_from(start: int) -> Answer:
    """What S3 answers to a range."""
    rest = BODY[start:]
    return Answer(206, rest, {"ETag": ETAG, "Content-Range": f"bytes {start}-/{len(BODY)}"})


@pytest.mark.parametrize("share", [0.1, 0.99])
def test_a_broken_download_goes_on_where_it_stopped(
    s3: LoopbackS3, tmp_path: Path, share: float
) -> None:
    """A 5xx in between does not have it start over."""
    arrived = int(len(BODY) * share) // BLOCK_BYTES * BLOCK_BYTES
    s3.answers = [cut_at(share), Answer(503), rest_from(arrived)]
    recording = run(s3, tmp_path)
    assert (recording.path.read_bytes(), recording.etag) == (BODY, ETAG)
    for _, _, asked, _ in s3.requests[1:]:
        assert (asked["Range"], asked["If-Match"]) == (f"bytes={arrived}-", ETAG)


@pytest.mark.parametrize("etag", ["", '"' + "e" * 64 + '"', '"\xfc"'])
def test_an_etag_that_is_none_or_does_not_fit_is_not_told(
    s3: LoopbackS3, tmp_path: Path, etag: str
) -> None:
    s3.answers = [Answer(body=b"sound", headers={"ETag": etag} if etag else {})]
    assert run(s3, tmp_path).etag is None


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1"'}])
def test_without_an_etag_to_match_a_broken_download_starts_over(
    s3: LoopbackS3, tmp_path: Path, headers: dict[str, str]
) -> None:
    cut = Answer(body=BODY, headers=headers, drop_after=len(BODY) // 2)
    s3.answers = [cut, Answer(body=BODY, headers=headers)]
    assert run(s3, tmp_path).path.read_bytes() == BODY
    assert not {"Range", "If-Match"} & set(s3.requests[1][2])


NEWER = Answer(body=b"another recording", headers={"ETag": '"2"'})


@pytest.mark.parametrize(
    "answers",
    [
        [Answer(206, b"rest", {"ETag": '"2"', "Content-Range": "bytes 4-"}), NEWER],
        [Answer(412), NEWER],
        [NEWER],
    ],
    ids=["another version's rest", "it was replaced", "ranges are ignored"],
)
def test_a_rest_of_another_version_is_not_glued_on(
    s3: LoopbackS3, tmp_path: Path, answers: list[Answer]
) -> None:
    s3.answers = [cut_at(0.5), *answers]
    recording = run(s3, tmp_path)
    assert (recording.path.read_bytes(), recording.etag) == (b"another recording", '"2"')


def test_other_bytes_than_s3_stores_are_not_believed(s3: LoopbackS3, tmp_path: Path) -> None:
    s3.answers = [Answer(body=BODY[::-1], headers={"ETag": ETAG})]
    assert failure(s3, tmp_path).code is FailureCode.AUDIO_TRUNCATED
    assert len(s3.requests) == 3
    s3.answers = [Answer(body=BODY[::-1], headers={"ETag": ETAG}), Answer(body=BODY)]
    assert run(s3, tmp_path).path.read_bytes() == BODY


def test_a_cancelled_job_stops_within_a_block(s3: LoopbackS3, tmp_path: Path) -> None:
    s3.answers = [Answer(body=b"x" * BLOCK_BYTES * 2)]
    token = CancelToken()
    token.cancel()
    with pytest.raises(JobCancelled):
        fetch(JobInput(audio_url=s3.url()), tmp_path, LIMITS, StageContext(token))


def test_an_object_that_ends_before_its_declared_length_is_truncated(
    s3: LoopbackS3, tmp_path: Path
) -> None:
    s3.answers = [cut_at(0.5), Answer(416)]
    assert failure(s3, tmp_path).code is FailureCode.AUDIO_TRUNCATED


def test_a_download_that_takes_too_long_is_given_up(s3: LoopbackS3, tmp_path: Path) -> None:
    s3.answers = [Answer(body=BODY)]
    with pytest.raises(WorkerError, match="took over") as caught:
        fetch(JobInput(audio_url=s3.url()), tmp_path, DownloadLimits(LIMIT, -1), StageContext())
    assert caught.value.code is FailureCode.STORAGE_UNAVAILABLE


def test_a_full_disk_is_told_before_it_is_full(
    s3: LoopbackS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    s3.answers = [Answer(body=BODY)]
    assert "larger container disk" in str(failure(s3, tmp_path))
    assert not (tmp_path / "recording").exists()


def test_s3s_clock_is_compared_with_ours(s3: LoopbackS3, tmp_path: Path) -> None:
    assert abs(run(s3, tmp_path).clock_skew_s) < 5
    ahead = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    s3.answers = [Answer(body=b"sound", headers={"Date": ahead})]
    assert run(s3, tmp_path).clock_skew_s == pytest.approx(3600, abs=5)


def test_directories_of_dead_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    script = (
        "import os, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from worker.stages.fetch import job_directory\n"
        "with job_directory() as d: (d / 'x').write_bytes(b'1'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    alive = tmp_path / f"bucketscribe-{os.getppid()}-alive"
    for folder in (alive, tmp_path / "other"):
        folder.mkdir()
    assert len(list(tmp_path.glob("bucketscribe-*"))) == 2
    assert remove_stale_directories() == 1
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, "other"}
    with job_directory() as mine:
        assert mine.is_dir()
    assert not mine.exists()
