"""The real SDK's worker loop on the queue: nothing here is simulated but the work."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.events import EventKind
from devstack.guard import Guard
from devstack.process import ChildProcess
from devstack.queue import QueueConfig
from devstack.server import QueueServer
from devstack.workers import WorkerPool, worker_environment
from tests.fakes.queue_client import API_KEY, ENDPOINT_ID, QueueClient
from tests.processes import group_members, is_running, wait_until

HANDLER = Path(__file__).parents[1] / "fakes" / "echo_worker.py"
COMMAND = [sys.executable, str(HANDLER)]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the workers' logs."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def pool(logs: Path) -> Iterator[tuple[QueueClient, WorkerPool]]:
    """Yield a queue and two workers on it."""
    config = QueueConfig(worker_silence_s=4.0, take_poll_s=2.0)
    with Guard() as guard, QueueServer(ENDPOINT_ID, API_KEY, config) as server:

        def spawn(worker_id: str, log: Path) -> ChildProcess:
            env = worker_environment(server.endpoint_url, worker_id, logs)
            return ChildProcess(COMMAND, env, HANDLER.parent, log, guard)

        pool = WorkerPool(2, spawn, logs, server.release_polls, grace_s=20)
        server.events.listen(pool.on_event)
        client = QueueClient(server)
        with pool, client.session:
            wait_until(lambda: client.call("GET", "health").json()["workers"]["idle"] == 2)
            yield client, pool


@pytest.fixture
def queue(pool: tuple[QueueClient, WorkerPool]) -> QueueClient:
    """Return a client of the queue, whose two workers are there."""
    client = pool[0]
    wait_until(lambda: client.call("GET", "health").json()["workers"]["idle"] == 2)
    return client


def ended(client: QueueClient, job_id: str) -> dict[str, Any]:
    """Wait for the job's end and return its status."""

    def look() -> dict[str, Any] | None:
        shown = client.status(job_id)
        return None if shown["status"] in ("IN_QUEUE", "IN_PROGRESS") else shown

    return wait_until(look, 30)  # type: ignore[no-any-return]


def test_a_job_runs_with_progress(queue: QueueClient) -> None:
    """The client sees progress, then the result, and late progress changes nothing."""
    job_id = queue.run({"echo": "grüße", "progress": [{"percent": 1}, {"percent": 2}]})
    seen = wait_until(lambda: queue.status(job_id).get("output"))
    assert seen in ({"percent": 1}, {"percent": 2})
    shown = ended(queue, job_id)
    assert (shown["status"], shown["output"]["echo"]) == ("COMPLETED", "grüße")
    assert shown["output"]["worker"] == shown["workerId"]
    assert queue.kinds(job_id).count(EventKind.PROGRESS) == 2


def test_a_failure_keeps_its_message(queue: QueueClient) -> None:
    """What the handler returned as error is what the client reads."""
    shown = ended(queue, queue.run({"fail": '{"code": "AUDIO_NOT_FOUND"}'}))
    assert (shown["status"], shown["error"]) == ("FAILED", '{"code": "AUDIO_NOT_FOUND"}')


def test_workers_see_no_credentials(queue: QueueClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment holds what RunPod sets and little else."""
    env = ended(queue, queue.run({"env": True}))["output"]["env"]
    assert not [name for name in env if name.startswith("AWS_")]
    assert API_KEY not in env.values()
    assert env["ALLOW_LOOPBACK_URLS"] == "1"
    assert env["RUNPOD_LOG_LEVEL"] == "INFO"


def test_cancel_stops_the_running_handler(queue: QueueClient, tmp_path: Path) -> None:
    """Within seconds, and the worker is free for the next job."""
    order = {"sleep_s": 60, "stopped": str(tmp_path / "stopped"), "started": str(tmp_path / "at")}
    job_id = queue.run(order)
    wait_until((tmp_path / "at").exists)
    assert queue.call("POST", f"cancel/{job_id}").json()["status"] == "CANCELLED"
    wait_until((tmp_path / "stopped").exists, 5)
    assert queue.status(job_id)["status"] == "CANCELLED"


def test_execution_timeout_stops_the_running_handler(queue: QueueClient, tmp_path: Path) -> None:
    """The client reads TIMED_OUT, and the worker does not go on."""
    order = {"sleep_s": 60, "stopped": str(tmp_path / "stopped")}
    job_id = queue.run(order, policy={"executionTimeout": 5000, "ttl": 60_000})
    shown = ended(queue, job_id)
    assert shown["status"] == "TIMED_OUT"
    assert 5000 <= shown["executionTime"] < 6000
    wait_until((tmp_path / "stopped").exists, 5)


def test_a_killed_workers_job_is_done_by_another(
    queue: QueueClient, pool: tuple[QueueClient, WorkerPool], tmp_path: Path
) -> None:
    """SIGKILL leaves a heartbeat process behind: unless that goes too, the job hangs."""
    order = {"sleep_s": 2, "started": str(tmp_path / "at")}
    job_id = queue.run(order)
    wait_until((tmp_path / "at").exists)
    killed = int((tmp_path / "at").read_text())
    assert len(group_members(killed)) >= 2
    os.kill(killed, signal.SIGKILL)
    shown = ended(queue, job_id)
    assert (shown["status"], shown["retries"]) == ("COMPLETED", 1)
    assert shown["output"]["pid"] != killed
    kinds = [kind for kind in queue.kinds(job_id) if kind is not EventKind.STOP_SENT]
    assert kinds == ["submitted", "taken", "requeued", "taken", "completed"]
    assert not group_members(killed)


def test_refresh_starts_the_worker_afresh_after_its_job(queue: QueueClient) -> None:
    """The job counts, the process is another one afterwards."""
    shown = ended(queue, queue.run({"refresh": True, "echo": 1}))
    assert shown["status"] == "COMPLETED"
    wait_until(lambda: not is_running(shown["output"]["pid"]))
    name, _, start = shown["workerId"].rpartition("-")
    joined = f"{name}-{int(start) + 1}"
    wait_until(
        lambda: any(
            event.kind is EventKind.WORKER_JOINED and event.worker_id == joined
            for event in queue.server.events.since()
        )
    )


def test_stopping_lets_the_running_job_finish(tmp_path: Path) -> None:
    """SIGTERM is RunPod's way too: the job at hand is delivered, then all is gone."""
    with Guard() as guard, QueueServer(ENDPOINT_ID, API_KEY) as server:
        client = QueueClient(server)
        child = ChildProcess(
            COMMAND,
            worker_environment(server.endpoint_url, "w", tmp_path),
            tmp_path,
            tmp_path / "log",
            guard,
        )
        job_id = client.run({"sleep_s": 1.5, "started": str(tmp_path / "at")})
        wait_until((tmp_path / "at").exists)
        begin_s = time.monotonic()
        child.terminate()
        server.release_polls()
        child.stop(grace_s=20)
        assert time.monotonic() - begin_s < 6
        assert client.status(job_id)["status"] == "COMPLETED"
        assert child.wait() == 0
        wait_until(lambda: not group_members(child.pid), 2)
        client.session.close()
