"""A thousand jobs in a row on one worker, one in ten bad: nothing grows, nothing is left."""

from __future__ import annotations

import base64
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bucketscribe_contract import JobFailure
from devstack import Stack
from tests.e2e.conftest import UNREADABLE, Bench
from tests.recordings import short_speech, write_recording

pytestmark = pytest.mark.timeout(3600)
JOBS, SETTLED = int(os.environ.get("LONG_LIFE_JOBS", "1000")), 100
SECOND = 16_000


@dataclass(frozen=True)
class Held:
    """What an idle worker holds."""

    rss: int
    descriptors: int
    threads: int
    processes: int
    files: int

    @classmethod
    def by(cls, process: psutil.Process, home: Path) -> Held:
        """Look until it is idle: the least of some seconds."""
        seen = []
        for _ in range(10):
            time.sleep(0.5)
            children = process.children(recursive=True)
            files = [path for path in home.rglob("*") if path.is_file()]
            counts = process.num_fds(), process.num_threads(), len(children), len(files)
            seen.append((process.memory_info().rss, *counts))
        return cls(*map(min, zip(*seen, strict=True)))


def good_jobs(folder: Path) -> list[dict[str, str]]:
    """Return nine jobs of a second or two of speech."""
    jobs = []
    for n in range(9):
        path = folder / f"{n}.wav"
        write_recording(path, short_speech()[n * 4000 : n * 4000 + SECOND + n * 1000])
        jobs.append({"audio_base64": base64.b64encode(path.read_bytes()).decode()})
    return jobs


BAD = [
    {"audio_base64": base64.b64encode(UNREADABLE).decode()},
    {"audio_base64": "!"},
    {"audio_url": "http://169.254.169.254/k"},
    {"audio_base64": base64.b64encode(UNREADABLE[:20]).decode()},
]


def test_a_worker_is_after_a_thousand_jobs_as_it_was_after_a_hundred(tmp_path: Path) -> None:
    good, ends = good_jobs(tmp_path), Counter[str]()
    with Stack(logs=tmp_path / "logs") as stack:
        bench = Bench(stack)
        (worker,) = stack.workers
        before: Held | None = None
        for ten in range(JOBS // 10):
            submitted = [bench.submit(job) for job in [*good, BAD[ten % len(BAD)]]]
            for job_id in submitted:
                status = bench.result(job_id)
                failed = status.get("error")
                code = JobFailure.model_validate_json(failed).code if failed else "done"
                ends[str(code)] += 1
            if (ten + 1) * 10 == SETTLED:
                before = Held.by(psutil.Process(worker.pid), stack.worker_home)
        after = Held.by(psutil.Process(worker.pid), stack.worker_home)
        assert worker.starts == 1
    assert before is not None
    print(before, after, ends)  # noqa: T201
    assert ends["done"] == JOBS * 9 // 10, ends
    assert after.rss < 1.05 * before.rss
    for name in ("descriptors", "threads", "processes", "files"):
        assert getattr(after, name) <= getattr(before, name), name
