"""The heartbeat: a small process from before the models, which pings when the SDK says so."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest

from tests.fakes.worker import LoopbackS3
from tests.processes import wait_until
from worker.host.heartbeat import Heartbeat


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch, s3: LoopbackS3) -> Iterator[None]:
    """The SDK on RunPod, whose pings the loopback server counts."""
    from runpod.serverless.modules import rp_ping, worker_state

    address = s3.url("/ping/$RUNPOD_POD_ID?gpu=none").reveal()
    for name, value in {
        "RUNPOD_WEBHOOK_PING": address,
        "RUNPOD_PING_INTERVAL": "1000",
        "RUNPOD_AI_API_KEY": "key",
        "RUNPOD_POD_ID": "pod",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(worker_state, "PingJobMirror", worker_state.PingJobMirror)
    monkeypatch.setattr(rp_ping, "Process", rp_ping.Process)
    monkeypatch.setattr(rp_ping.Heartbeat, "_process_started", False)
    yield
    for child in multiprocessing.active_children():
        child.terminate()
        child.join()


def test_it_is_forked_early_waits_for_the_sdk_and_tells_the_jobs(sdk: None, s3: LoopbackS3) -> None:
    from runpod.serverless.modules import rp_ping, worker_state

    heartbeat = Heartbeat()
    (child,) = multiprocessing.active_children()
    heartbeat.attach()
    mirror = worker_state.PingJobMirror()
    mirror.set("job-1,job-2")
    assert s3.requests == []
    rp_ping.Heartbeat().start_ping(mirror)
    assert multiprocessing.active_children() == [child]
    wait_until(lambda: bool(s3.requests), 20)
    assert "job_id=job-1%2Cjob-2" in s3.requests[0][1]
    mirror.set(None)
    wait_until(lambda: "job_id" not in s3.requests[-1][1], 20)


def test_a_worker_that_ends_before_takes_it_along(sdk: None) -> None:
    heartbeat = Heartbeat()
    (child,) = multiprocessing.active_children()
    del heartbeat  # its end of the pipe
    child.join(10)
    assert child.exitcode == 0


def test_where_nobody_is_pinged_there_is_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_WEBHOOK_PING", raising=False)
    heartbeat = Heartbeat()
    heartbeat.attach()
    heartbeat.start()
    assert multiprocessing.active_children() == []
