"""Memory that runs out or creeps, lifetimes, left-behind directories, and the last resort."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bucketscribe_contract import FailureCode, PresignedUrl, Segment, Stage, Transcript, Word
from worker.errors import WorkerError
from worker.memory import Growth, is_out_of_memory, is_poisoned, with_smaller_batches
from worker.stages.deliver import MAX_OUTPUT_BYTES, encode, inline_fallback
from worker.stages.fetch import clear_what_was_left, job_directory
from worker.stages.validate import Speed, check_result_url


@pytest.mark.parametrize(
    ("error", "memory", "poison"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True, False),
        (RuntimeError("CUDA failed with error out of memory"), True, False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True, False),
        (MemoryError("batch_size ( 32) is probably too large. "), True, False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, True),
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False, True),
        (ValueError("out of memory of what was said"), False, False),
        (RuntimeError("shapes do not match"), False, False),
    ],
)
def test_errors_are_told_apart(error: Exception, memory: bool, poison: bool) -> None:
    assert is_out_of_memory(error) is memory
    assert is_poisoned(error) is poison


def test_a_poisoned_cause_poisons() -> None:
    error = WorkerError(FailureCode.INTERNAL, "strict", Stage.ALIGN)
    error.__cause__ = RuntimeError("CUDA error: unspecified launch failure")
    assert is_poisoned(error)


def test_batches_are_halved_until_one_fits() -> None:
    tried = []

    def run(batch: int) -> str:
        tried.append(batch)
        if batch > 5:
            raise RuntimeError("out of memory")
        return "done"

    assert with_smaller_batches(Stage.SPEECH, 32, run) == ("done", ("BATCH_REDUCED: speech 4",))
    assert tried == [32, 16, 8, 4]


def test_another_error_is_not_tried_again() -> None:
    def run(_: int) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        with_smaller_batches(Stage.SPEECH, 32, run)


def test_growth_is_seen_against_the_first_job() -> None:
    growth = Growth(share=0.1)
    assert not growth.is_too_much()
    assert not growth.is_too_much()
    hoard = bytearray(os.urandom(1 << 20)) * 700
    assert growth.is_too_much()
    assert len(hoard) == 700 << 20


def test_speed_is_learnt_from_recordings_that_are_long_enough() -> None:
    speed = Speed(1.0)
    speed.learn(audio_s=5, work_s=50)
    assert speed.needed_s(100) == 180
    speed.learn(audio_s=100, work_s=20)
    assert speed.needed_s(100) == pytest.approx(60)
    speed.learn(audio_s=100, work_s=120)
    assert 0.2 < speed.seconds_per_second < 1.2


def ends_in(seconds: float) -> PresignedUrl:
    """A URL that ends then, by this machine's clock."""
    signed = datetime.now(UTC) + timedelta(seconds=seconds - 100)
    return PresignedUrl(f"https://h/k?X-Amz-Date={signed:%Y%m%dT%H%M%SZ}&X-Amz-Expires=100")


def test_the_time_is_s3s() -> None:
    speed = Speed(1.0)
    check_result_url(ends_in(100), 10, speed)
    check_result_url(ends_in(-1000), 10, speed, clock_skew_s=-1100)
    with pytest.raises(WorkerError):
        check_result_url(ends_in(100), 10, speed, clock_skew_s=90)


def test_a_url_without_an_end_is_not_judged() -> None:
    check_result_url(PresignedUrl("https://h/k?token=1"), 1e6, Speed(1.0))


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
    assert clear_what_was_left() == 1
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, "other"}
    with job_directory() as mine:
        assert mine.is_dir()
    assert not mine.exists()


def document(words: int) -> Transcript:
    """A transcript that does not compress well."""
    noise = random.Random(1)  # noqa: S311
    spoken = tuple(
        Word(
            word="".join(noise.choices("abcdefghijklmnopqrstuvwxyz", k=8)),
            start=i,
            end=i + 1,
            score=noise.random(),
            speaker=None,
            timing="aligned",
        )
        for i in range(words)
    )
    text = " ".join(word.word for word in spoken)
    segment = Segment(id=0, start=0, end=words, text=text, speaker=None, words=spoken)
    return Transcript(
        segments=(segment,),
        speakers=(),
        language="en",
        language_probability=None,
        duration_seconds=words,
        processing_time_seconds=1,
        models={},
    )


def test_the_largest_form_that_fits_is_sent() -> None:
    error = WorkerError(FailureCode.STORAGE_UNAVAILABLE, "S3 is away", Stage.DELIVER)
    whole = document(5000)
    sizes = {}
    for limit in (MAX_OUTPUT_BYTES, 150_000, 50_000):
        output = inline_fallback(whole, error, limit)
        assert len(encode(output)) <= limit
        sizes[output["form"]] = output
    assert list(sizes) == ["complete", "without_scores", "without_words"]
    bare = json.loads(gzip.decompress(base64.b64decode(output["transcript_gzip_base64"])))
    assert bare["segments"][0]["text"] == whole.segments[0].text
    with pytest.raises(WorkerError, match="too large"):
        inline_fallback(whole, error, 10_000)
