"""Fetch: what S3 answers becomes bytes on disk or the contract's code."""

import base64
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from bucketscribe_contract import FailureCode, JobInput
from tests.fakes.worker import LOOPBACK, Answer, LoopbackS3
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
LIMITS = DownloadLimits(LIMIT, LOOPBACK)
BODY = bytes(range(256)) * (10 * BLOCK_BYTES // 256)
ETAG = f'"{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}"'
SIGNED = "/b/k?X-Amz-Signature=5ec2e7"
Run = Callable[..., Recording]


@pytest.fixture
def run(s3: LoopbackS3, tmp_path: Path) -> Run:
    """Fetch from a server that answers so, in turn."""

    def run(*answers: Answer, path: str = SIGNED, limits: DownloadLimits = LIMITS) -> Recording:
        s3.answers = [*answers]
        return fetch(JobInput(audio_url=s3.url(path)), tmp_path, limits, StageContext())

    return run


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
def test_the_url_goes_out_exactly_as_it_was_signed(s3: LoopbackS3, run: Run, path: str) -> None:
    run(Answer(), path=path)
    assert s3.requests[0][1] == path


def signed_for(seconds: int) -> str:
    """A URL signed an hour ago for so many seconds."""
    signed = datetime.now(UTC) - timedelta(hours=1)
    life = f"X-Amz-Date={signed:%Y%m%dT%H%M%SZ}&X-Amz-Expires={seconds}"
    return f"/b/k?{life}&X-Amz-Signature=5ec2e7"


def cut_at(share: float) -> Answer:
    """Declare everything, send a part, hang up."""
    return Answer(body=BODY, headers={"ETag": ETAG}, drop_after=int(len(BODY) * share))


def rest_from(start: int) -> Answer:
    """What S3 answers to a range."""
    rest = BODY[start:]
    return Answer(
        206, rest, {"ETag": ETAG, "Content-Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"}
    )


def lying(start: int, **changes: int) -> Answer:
    """The answer to a range, with other figures in its head, or another body."""
    figures = {"first": start, "last": len(BODY) - 1, "total": len(BODY), "begin": start} | changes
    said = "bytes {first}-{last}/{total}".format(**figures)
    return Answer(206, BODY[figures["begin"] :], {"ETag": '"2-2"', "Content-Range": said})


DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
SAYS_EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
REDIRECT = Answer(307, headers={"Location": "http://127.0.0.1:1/"})
TOO_LARGE = b"x" * (LIMIT + 1)
OF_NO_LENGTH = Answer(body=TOO_LARGE, headers={"Transfer-Encoding": "identity"})
HALF = Answer(body=b"half", headers={"Content-Length": "100"})


@pytest.mark.parametrize(
    ("answers", "path", "code"),
    [
        ([Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")], SIGNED, "AUDIO_NOT_FOUND"),
        ([Answer(403, SAYS_EXPIRED)], SIGNED, "AUDIO_URL_EXPIRED"),
        ([Answer(403, DENIED)], signed_for(seconds=3000), "AUDIO_URL_EXPIRED"),
        ([Answer(403, DENIED)], signed_for(seconds=7200), "AUDIO_FORBIDDEN"),
        ([Answer(400, b"<Error><Code>ExpiredToken</Code></Error>")], SIGNED, "AUDIO_URL_EXPIRED"),
        ([Answer(503, b"slow down")] * 3, SIGNED, "STORAGE_UNAVAILABLE"),
        ([Answer(429)] * 3, SIGNED, "STORAGE_UNAVAILABLE"),
        ([REDIRECT], SIGNED, "URL_NOT_ALLOWED"),
        ([Answer(206, b"a part")] * 3, SIGNED, "STORAGE_UNAVAILABLE"),
        ([Answer(body=TOO_LARGE)], SIGNED, "AUDIO_TOO_LARGE"),
        ([OF_NO_LENGTH], SIGNED, "AUDIO_TOO_LARGE"),
        ([HALF] * 3, SIGNED, "STORAGE_UNAVAILABLE"),
        ([cut_at(0.5), Answer(416), Answer(503)], SIGNED, "STORAGE_UNAVAILABLE"),
        ([Answer(body=BODY[::-1], headers={"ETag": ETAG})] * 3, SIGNED, "AUDIO_TRUNCATED"),
    ],
    ids=[
        "404", "expired", "ended", "denied", "old token", "503", "429", "redirect",
        "a part unasked", "too large", "no length", "breaks each time",
        "shorter than declared", "not the bytes that S3 stores",
    ],
)  # fmt: skip
def test_every_refusal_has_its_code(
    s3: LoopbackS3, run: Run, tmp_path: Path, answers: list[Answer], path: str, code: str
) -> None:
    with pytest.raises(WorkerError) as caught:
        run(*answers, path=path)
    assert caught.value.code == code
    assert "5ec2e7" not in str(caught.value)
    assert len(s3.requests) == len(answers)
    stored = tmp_path / "recording"
    assert not stored.exists() or stored.stat().st_size <= LIMIT


def test_no_server_is_storage_unavailable(s3: LoopbackS3, run: Run) -> None:
    s3.port = 1
    with pytest.raises(WorkerError) as caught:
        run()
    assert caught.value.code is FailureCode.STORAGE_UNAVAILABLE


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


@pytest.mark.parametrize("share", [0.1, 0.99])
def test_a_broken_download_goes_on_where_it_stopped(s3: LoopbackS3, run: Run, share: float) -> None:
    """A 5xx in between does not have it start over."""
    arrived = int(len(BODY) * share)
    recording = run(cut_at(share), Answer(503), rest_from(arrived))
    assert (recording.path.read_bytes(), recording.etag) == (BODY, ETAG)
    for _, _, asked, _ in s3.requests[1:]:
        assert (asked["Range"], asked["If-Match"]) == (f"bytes={arrived}-", ETAG)


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1"'}])
def test_without_an_etag_to_match_a_broken_download_starts_over(
    s3: LoopbackS3, run: Run, headers: dict[str, str]
) -> None:
    cut = Answer(body=BODY, headers=headers, drop_after=len(BODY) // 2)
    assert run(cut, Answer(body=BODY, headers=headers)).path.read_bytes() == BODY
    assert not {"Range", "If-Match"} & set(s3.requests[1][2])


def test_a_length_that_was_too_large_has_the_download_begin_anew(s3: LoopbackS3, run: Run) -> None:
    """What S3 has is all there: it says so, to who asks for the rest."""
    too_large = {"ETag": ETAG, "Content-Length": str(len(BODY) + 1000)}
    recording = run(Answer(body=BODY, headers=too_large), Answer(416), Answer(body=BODY))
    assert recording.path.read_bytes() == BODY
    assert ["Range" in asked for _, _, asked, _ in s3.requests] == [False, True, False]


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
def test_a_rest_of_another_version_is_not_glued_on(run: Run, answers: list[Answer]) -> None:
    recording = run(cut_at(0.5), *answers)
    assert (recording.path.read_bytes(), recording.etag) == (b"another recording", '"2"')


@pytest.mark.parametrize(
    "lie",
    [
        lambda at: lying(at, first=at - 1),
        lambda at: lying(at, first=at + 1),
        lambda at: lying(at, first=0, begin=0),
        lambda at: lying(at, last=len(BODY) - 2),
        lambda at: lying(at, total=len(BODY) + 1),
        lambda at: lying(at, last=len(BODY), total=len(BODY) + 1),
        lambda at: lying(at, begin=at - 1),
        lambda at: lying(at, begin=at + 1),
        lambda _: Answer(206, BODY[100:], {"ETag": '"2-2"'}),
        lambda _: Answer(206, BODY, {"ETag": '"2-2"', "Content-Range": "junk"}),
        lambda at: Answer(206, BODY[at:], {"Content-Range": f"bytes {at}-/{len(BODY)}"}),
        lambda at: Answer(206, BODY[at:], {"Content-Range": f"bytes {at}-{'9' * 30}/*"}),
    ],
)
def test_a_rest_that_is_not_what_was_asked_for_is_never_glued_on(
    s3: LoopbackS3, run: Run, lie: Callable[[int], Answer]
) -> None:
    """The ETag of an upload in parts says nothing about the bytes."""
    half = len(BODY) // 2
    whole = Answer(body=BODY, headers={"ETag": '"2-2"'})
    begun = Answer(body=BODY, headers={"ETag": '"2-2"'}, drop_after=half)
    assert run(begun, lie(half), whole).path.read_bytes() == BODY
    assert "Range" in s3.requests[1][2]


def test_an_object_without_a_length_goes_on_by_what_the_range_says(run: Run) -> None:
    half, etag = len(BODY) // 2, {"ETag": ETAG}
    chunk = b"%x\r\n%b" % (len(BODY), BODY[:half])
    begun = Answer(body=chunk, headers={"Transfer-Encoding": "chunked", **etag})
    assert run(begun, rest_from(half)).path.read_bytes() == BODY
    with pytest.raises(WorkerError):
        run(begun, rest_from(half - 1))


@pytest.mark.parametrize("encoding", ["gzip", "br", "aws-chunked"])
def test_an_encoded_object_is_read_as_it_is_stored(run: Run, encoding: str) -> None:
    stored = gzip.compress(BODY)
    etag = f'"{hashlib.md5(stored, usedforsecurity=False).hexdigest()}"'
    answer = Answer(body=stored, headers={"ETag": etag, "Content-Encoding": encoding})
    assert run(answer).path.read_bytes() == stored


@pytest.mark.parametrize("length", ["-1", "1e3", "٣", "5, 5", "9" * 5000, "0x10", "+4", ""])
def test_a_length_that_is_none_is_storage_unavailable(
    s3: LoopbackS3, run: Run, length: str
) -> None:
    with pytest.raises(WorkerError) as caught:
        run(Answer(body=b"four", headers={"Content-Length": length.encode().decode("latin-1")}))
    assert caught.value.code is FailureCode.STORAGE_UNAVAILABLE
    assert len(s3.requests) == 3


@pytest.mark.parametrize(
    "date",
    ["junk", "0", "Mon", "Mon, 99 Foo 99999 99:99:99 GMT", "1 Jan 0001 00:00:00 +2359",
     "31 Dec 9999 23:59:59 -2359", "1 Jan 99999999999999999999 00:00:00 GMT", "x" * 60000],
)  # fmt: skip
def test_a_date_that_is_none_is_not_believed(run: Run, date: str) -> None:
    assert run(Answer(headers={"Date": date})).clock_skew_s == 0
    with pytest.raises(WorkerError) as caught:
        run(Answer(403, DENIED, {"Date": date}), path=signed_for(seconds=7200))
    assert caught.value.code is FailureCode.AUDIO_FORBIDDEN


def test_what_s3_says_is_one_printable_line(run: Run) -> None:
    said = "no\n\x1b[31m\u202ekey https://h/k?X-Amz-Signature=5ec2e7" + "?" * 30_000
    with pytest.raises(WorkerError) as caught:
        run(Answer(403, f"<Code>Denied</Code><Message>{said[:3000]}</Message>".encode()))
    assert str(caught.value).isprintable()
    assert r"S3 answered 403 Denied no \x1b[31m\u202ekey" in str(caught.value)
    assert "5ec2e7" not in str(caught.value)


def test_other_bytes_than_s3_stores_are_fetched_again(run: Run) -> None:
    wrong = Answer(body=BODY[::-1], headers={"ETag": ETAG})
    assert run(wrong, Answer(body=BODY)).path.read_bytes() == BODY


@pytest.mark.parametrize("etag", ["", '"' + "e" * 64 + '"', '"\xfc"'])
def test_an_etag_that_is_none_or_does_not_fit_is_not_told(run: Run, etag: str) -> None:
    assert run(Answer(body=b"sound", headers={"ETag": etag} if etag else {})).etag is None


def test_a_cancelled_job_stops_within_a_block(s3: LoopbackS3, tmp_path: Path) -> None:
    s3.answers = [Answer(body=b"x" * BLOCK_BYTES * 2)]
    token = CancelToken()
    token.cancel()
    with pytest.raises(JobCancelled):
        fetch(JobInput(audio_url=s3.url()), tmp_path, LIMITS, StageContext(token))


def test_a_download_that_takes_too_long_is_given_up(run: Run) -> None:
    with pytest.raises(WorkerError, match="took over") as caught:
        run(Answer(body=BODY), limits=DownloadLimits(LIMIT, LOOPBACK, -1))
    assert caught.value.code is FailureCode.STORAGE_UNAVAILABLE


def test_a_full_disk_is_told_before_it_is_full(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(WorkerError, match="larger container disk"):
        run(Answer(body=BODY))
    assert not (tmp_path / "recording").exists()


def test_s3s_clock_is_compared_with_ours(run: Run) -> None:
    assert abs(run(Answer()).clock_skew_s) < 5
    ahead = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert run(Answer(headers={"Date": ahead})).clock_skew_s == pytest.approx(3600, abs=5)


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
