"""Ten thousand damaged recordings: each ends as a recording may, nothing is left or grows."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from bucketscribe_contract import JobFailure
from devstack import Stack
from tests.e2e.conftest import Bench
from tests.mutated_recordings import EXPECTED, mutated
from tests.processes import processes_left
from tests.recordings import SHORT_SPEECH
from tests.soak.conftest import Tell

pytestmark = pytest.mark.timeout(3600)
ROOT = Path(__file__).parents[3]
DECODED, THROUGH_A_WORKER, AT_ONCE = 10_000, 500, 2
SLOW_S = 60.0  # beyond what the child may take of the CPU, twice


def decode(first: int, count: int) -> dict[str, Any]:
    """Decode mutated recordings in a process of their own; return how they ended."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutated_recordings", str(first), str(count)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_ten_thousand_mutated_recordings_end_as_recordings_do(tell: Tell) -> None:
    started, share = time.monotonic(), DECODED // AT_ONCE
    with ThreadPoolExecutor(AT_ONCE) as threads:
        parts = list(threads.map(decode, range(0, DECODED, share), [share] * AT_ONCE))
    ends = sum((Counter(part["ends"]) for part in parts), Counter[str]())
    slowest = max(part["slowest"][0] for part in parts)
    killed = {number: why for part in parts for number, why in part["killed"].items()}
    tell(f"{dict(ends)} in {time.monotonic() - started:.0f} s; slowest {slowest}; killed {killed}")
    assert [part["wrong"] for part in parts] == [{}] * AT_ONCE
    assert [part["left"] for part in parts] == [[]] * AT_ONCE
    assert ends.total() == DECODED
    assert slowest[0] < SLOW_S
    assert max(part["grown"] for part in parts) < 1.05


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A stack with one real worker."""
    with Stack(logs=tmp_path / "logs") as stack:
        yield Bench(stack)
        assert list(stack.worker_home.rglob("bucketscribe-*")) == [], "jobs' files are left"
    assert processes_left(str(stack.worker_home)) == []


def test_a_worker_lives_through_five_hundred_mutated_recordings(bench: Bench, tell: Tell) -> None:
    """Its memory after the last is what it was after the first hundred."""
    good = {"audio_base64": base64.b64encode(SHORT_SPEECH.read_bytes()).decode(), "language": "en"}
    assert bench.run(good)["status"] == "COMPLETED"  # the models are loaded
    (worker,), ends, early = bench.stack.worker_pids(), Counter[str](), 0
    started = time.monotonic()
    for number in range(THROUGH_A_WORKER):
        bench.put("mutated", mutated(DECODED + number))
        status = bench.run({"audio_url": bench.presign("mutated"), "diarize": False})
        failed = JobFailure.model_validate_json(status["error"]) if "error" in status else None
        ends[failed.code if failed else status["status"]] += 1
        assert failed is None or failed.code in EXPECTED, f"{DECODED + number}: {failed}"
        if number == 100:
            early = psutil.Process(worker).memory_info().rss
    assert bench.stack.worker_pids() == [worker]
    grown = psutil.Process(worker).memory_info().rss / early
    tell(f"{dict(ends)} in {time.monotonic() - started:.0f} s; RSS {grown:.1%}")
    commands = [" ".join(child.cmdline()) for child in psutil.Process(worker).children()]
    assert sum("decoder.child" in each for each in commands) == 1  # the next job's
    assert grown < 1.05
