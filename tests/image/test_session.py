"""The development stack drives the image's worker through a whole session."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from bucketscribe_contract import JobSummary, Transcript
from devstack import EventKind, Stack
from devstack.demo import telephone_wav
from tests.e2e.conftest import Bench
from tests.image.conftest import Image
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(600)

SESSION = "users/512b3590-30b1-707d-ed46-bf68df7b52d5/audio/sessions"
AUDIO = f"{SESSION}/one/audio.wav"


@pytest.fixture(scope="module")
def bench(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The stack, with the image's own command as its worker."""
    logs = tmp_path_factory.mktemp("logs")
    with Stack(logs=logs, worker_command=image.command(network="host")) as stack:
        bench = Bench(stack)
        bench.put(AUDIO, telephone_wav().read_bytes())
        yield bench
    said = log_of(bench)  # after all tests: neither signatures nor what was said
    assert [text for text in ("X-Amz-Signature", "Diane", "Traceback") if text in said] == []


def log_of(bench: Bench) -> str:
    """What the worker said so far."""
    return (bench.stack.logs / "worker-1.log").read_text(encoding="utf-8")


def test_a_session_becomes_a_transcript(bench: Bench) -> None:
    bench.edge_client("submit", f"{SESSION}/one", "--wait", "--json")
    document = Transcript.model_validate(bench.get_json(f"{SESSION}/one/transcription.json"))
    assert document.speakers == ("SPEAKER_00", "SPEAKER_01")
    assert "Diane" in " ".join(segment.text for segment in document.segments)
    assert document.warnings == ()
    claim = bench.get_json(f"{SESSION}/one/transcription.job.json")
    JobSummary.model_validate(bench.result(claim["job_id"])["output"])


def test_a_worker_that_gets_sigterm_finishes_its_job_and_exits(bench: Bench) -> None:
    job_id = bench.submit({"audio_url": bench.presign(AUDIO)})
    taken = bench.stack.queue_events
    wait_until(lambda: job_id in [event.job_id for event in taken(EventKind.TAKEN)], 120)
    (starter,) = bench.stack.worker_pids()
    os.kill(starter, signal.SIGTERM)
    assert bench.result(job_id)["status"] == "COMPLETED"
    wait_until(lambda: "worker-1-1 exited with 0 after" in log_of(bench), 60)
