"""A worker that could do no job ends before it takes one, and says what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from devstack import EventKind, Stack
from devstack.stack import worker_environment
from edge_client import api
from edge_client.batch import engine
from edge_client.batch.engine import Engine
from edge_client.batch.limits import Shutdown, ShutdownLevel
from edge_client.batch.plan import plan
from edge_client.batch.types import RunConfig
from edge_client.errors import WaitTimedOut
from edge_client.jobs.claim import Wanted
from edge_client.jobs.poll import NotesView, PollInterval
from edge_client.services.edge import Edge
from tests.e2e.conftest import ROOT, Bench
from tests.fakes.loopback import LoopbackServer, send
from tests.processes import wait_until
from tests.unit.edge_client.samples import Recorder

SESSIONS = "users/u/audio/sessions"


class Queue(LoopbackServer):
    """RunPod's side of a worker: it has no job, and notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Say that there is nothing to do."""
        self.asked.append(request.path)
        send(request, 204)

    def named(self, word: str) -> list[str]:
        """Return the paths that hold a word."""
        return [path for path in self.asked if word in path]


@contextmanager
def worker(
    queue: Queue, home: Path, fault: str, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    settings = worker_environment(f"{queue.url}/v2/ep", "pod-1", home)
    settings |= {"RUNPOD_ENDPOINT_ID": "ep", "MODELS_DIR": str(ROOT / "models")} | environment
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.unfit_worker", fault],
        cwd=ROOT,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def broken_models(folder: Path, fault: str) -> Path:
    """Copy the models by links; one of them is missing, or of other bytes of the same number."""
    shutil.copytree(ROOT / "models", folder, copy_function=lambda a, b: Path(b).symlink_to(a))
    if fault == "missing_file":
        (folder / "whisper" / "tiny.en" / "model.bin").unlink()
    if fault == "wrong_pickle":
        pickled = folder / "vad" / "pytorch_model.bin"
        content = bytearray(pickled.read_bytes())
        content[-1] ^= 1
        pickled.unlink()
        pickled.write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("fault", "device", "check", "remedy"),
    [
        ("old_driver", "cuda", "gpu_runs_the_models", "unsupported toolchain.*allow CUDA 12.8"),
        ("no_gpu", "cuda", "gpu_runs_a_kernel", "there is no GPU: choose GPU types"),
        ("full_gpu", "cuda", "gpu_runs_the_models", "0.1 GB free.*a GPU type with more memory"),
        ("missing_kernel", "cuda", "gpu_runs_a_kernel", "no kernel image.*choose Ampere, Ada"),
        ("wrong_pickle", "cpu", "models_are_complete", "vad/pytorch_model.bin.*fetch_models"),
        ("missing_file", "cpu", "models_are_complete", "tiny.en/model.bin.*fetch_models"),
    ],
)
def test_a_worker_that_cannot_work_is_unfit_and_takes_no_job(
    tmp_path: Path, fault: str, device: str, check: str, remedy: str
) -> None:
    models = broken_models(tmp_path / "models", fault)
    with (
        Queue() as queue,
        worker(queue, tmp_path, fault, DEVICE=device, MODELS_DIR=str(models)) as process,
    ):
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1, printed
    assert queue.named("job-take") == []
    (report,) = queue.named("status=unhealthy")
    told = parse_qs(urlsplit(report).query)
    assert told["check"] == [check]
    (failed,) = [line for line in printed.splitlines() if "Fitness check failed" in line]
    assert re.search(remedy, json.loads(failed)["message"])


def test_who_waits_for_unhealthy_workers_is_told_where_the_remedy_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_wav: bytes
) -> None:
    monkeypatch.setattr(api, "EXPLAIN_S", 0.5)
    monkeypatch.setattr(engine, "HEALTH_EVERY_S", 0.5)
    command = (sys.executable, "-m", "tests.fakes.unfit_worker", "missing_kernel")
    with Stack(
        logs=tmp_path, worker_command=command, worker_env={"DEVICE": "cuda"}, grace_s=1
    ) as stack:
        for name, value in stack.env.items():
            monkeypatch.setenv(name, value)
        edge, shutdown = Edge.load(), Shutdown()
        is_seen = lambda: edge.api.health()["workers"]["unhealthy"]  # noqa: E731
        wait_until(is_seen, 60, "a worker's report")
        for name in ("one", "two"):
            Bench(stack).put(f"{SESSIONS}/{name}/audio.wav", short_wav)
        said = list[str]()
        submitted = api.submit(edge, f"{SESSIONS}/one")
        with pytest.raises(WaitTimedOut):
            api.wait(edge, submitted, timeout_s=5, view=NotesView(said.append))
        (told,) = said

        class Progress(Recorder):
            def note(self, message: str) -> None:
                super().note(message)
                shutdown.request(ShutdownLevel.LEAVE_NOW)

        progress, run = Progress(), RunConfig(Wanted(), lambda _: PollInterval(0.1, 0.3))
        Engine(edge, run, progress, shutdown).run(lambda: plan(edge, run.chosen, closes=True))
        assert not stack.queue_events(EventKind.TAKEN)
    assert progress.notes == [told.replace("the job waits", "jobs wait")]
    assert "1 of the endpoint's workers unhealthy" in told
    assert "a worker's log, in RunPod's console, names the remedy" in told


def test_a_fit_worker_passes_the_sdks_own_checks_and_beats_from_a_small_process(
    tmp_path: Path,
) -> None:
    own = {"RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "", "RUNPOD_SKIP_GPU_CHECK": ""}
    limits = {"RUNPOD_MIN_MEMORY_GB": "0.1", "RUNPOD_MIN_DISK_PERCENT": "1"}
    with (
        Queue() as queue,
        worker(queue, tmp_path, "no_internet", DEVICE="cpu", **own, **limits) as process,
    ):
        wait_until(lambda: queue.named("job-take") and queue.named("/ping/"), 60)
        heartbeats = [
            child
            for child in psutil.Process(process.pid).children()
            if child.cmdline() == psutil.Process(process.pid).cmdline()
        ]
        assert len(heartbeats) == 1
        assert heartbeats[0].memory_info().rss < 200_000_000
        assert psutil.Process(process.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)
        process.terminate()
        printed, _ = process.communicate(timeout=60)
    for passed in (
        "Memory check",
        "Disk space check",
        "Network connectivity",
        "All fitness checks",
    ):
        assert f"{passed} passed" in printed
    assert queue.named("unhealthy") == []
