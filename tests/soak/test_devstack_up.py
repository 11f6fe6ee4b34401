"""`python -m devstack up` as people and programs use it: a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import requests
from botocore.config import Config

import devstack
from devstack.stack import ROOT
from tests.processes import is_running, wait_until

HANDLER = f"{sys.executable} {Path(__file__).parents[1] / 'fakes/echo_worker.py'}"
NAMES = [
    "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION",
    "COGNITO_S3_BUCKET", "RUNPOD_ENDPOINT_BASE_URL", "RUNPOD_ENDPOINT_ID", "RUNPOD_API_KEY",
]  # fmt: skip


def descendants(pid: int) -> set[int]:
    """Return the running processes below `pid`."""
    found = {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return {child for child in found if is_running(child)}


def check_nothing_is_left(folder: Path, processes: set[int]) -> None:
    """See that the stack removed its processes, its env file and its temporary files."""
    assert not [pid for pid in processes if is_running(pid)]
    assert not (folder / "env").exists()
    assert not list((folder / "tmp").iterdir())


@contextmanager
def up(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start the stack; kill it if the test did not end it."""
    command = [sys.executable, "-m", "devstack", "up", "--env-file", str(folder / "env")]
    command += ["--logs", str(folder / "logs"), "--worker-command", HANDLER, *options]
    (folder / "tmp").mkdir()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_env(folder: Path) -> dict[str, str]:
    """Wait for the env file and return it."""
    path = folder / "env"
    wait_until(path.exists, 60)
    assert path.stat().st_mode & 0o777 == 0o600
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def run_job(env: dict[str, str], job_input: dict[str, Any], how: str = "runsync") -> dict[str, Any]:
    """Run a job to its end, or submit it."""
    url = f"{env['RUNPOD_ENDPOINT_BASE_URL']}/{env['RUNPOD_ENDPOINT_ID']}/{how}"
    headers = {"Authorization": f"Bearer {env['RUNPOD_API_KEY']}"}
    return requests.post(url, json={"input": job_input}, headers=headers, timeout=60).json()


def test_up_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """The env file is all a client needs; afterwards nothing is left, not even a process."""
    with up(tmp_path, "--workers", "2") as process:
        env = read_env(tmp_path)
        assert list(env) == NAMES
        assert run_job(env, {"echo": "x"})["status"] == "COMPLETED"
        s3 = boto3.client(
            "s3",
            endpoint_url=env["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            region_name=env["AWS_REGION"],
            config=Config(s3={"addressing_style": "path"}),
        )
        assert s3.list_objects_v2(Bucket=env["COGNITO_S3_BUCKET"])["KeyCount"] == 0
        assert requests.get(env["AWS_ENDPOINT_URL_S3"], timeout=5).status_code == 403
        running = descendants(process.pid)
        assert list((tmp_path / "tmp").iterdir()), "or the check below would see nothing"
        assert len(running) >= 6, "guard, weed, two workers with a heartbeat each"
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        output = "".join(iter(process.stdout.readline, "stopping\n"))
        assert not (tmp_path / "env").exists(), "a client would find a stack that is leaving"
        output += process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert [line.split()[0] for line in output.splitlines()] == [
        "s3", "queue", "workers", "ready",
    ]  # fmt: skip
    check_nothing_is_left(tmp_path, running)
    for url in (env["AWS_ENDPOINT_URL_S3"], env["RUNPOD_ENDPOINT_BASE_URL"]):
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=5)
    logs = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert set(logs) == {"s3.log", "queue.jsonl", "worker-1.log", "worker-2.log"}
    for secret in (env["RUNPOD_API_KEY"], env["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in output + "".join(logs.values())


def test_sigint_during_startup_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while SeaweedFS starts is a normal end."""
    with up(tmp_path) as process:
        wait_until(lambda: (tmp_path / "logs" / "s3.log").exists())
        running = wait_until(lambda: descendants(process.pid))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert (process.returncode, output) == (0, "")
    check_nothing_is_left(tmp_path, running)


def test_a_start_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    """S3 and queue are up when the worker's command turns out to be missing."""
    with up(tmp_path, "--worker-command", "no-such-command") as process:
        running = wait_until(lambda: descendants(process.pid))
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "no-such-command" in output
    assert "Traceback" not in output
    check_nothing_is_left(tmp_path, running)


def test_sigkill_leaves_nothing_for_long(tmp_path: Path) -> None:
    """The guard ends what the stack itself no longer can."""
    with up(tmp_path) as process:
        env = read_env(tmp_path)
        run_job(env, {})
        running = descendants(process.pid)
        assert len(running) >= 4
        process.kill()
        wait_until(lambda: not any(map(is_running, running)), 10)
    wait_until(lambda: not (tmp_path / "env").exists() and not [*(tmp_path / "tmp").iterdir()], 5)


def test_the_library_gives_the_same_stack(tmp_path: Path) -> None:
    """Tests use it as a context manager and count events; a job at work ends before its worker."""
    with devstack.Stack(
        logs=tmp_path, worker_command=HANDLER.split(), worker_env={"EXTRA": "1"}
    ) as stack:
        assert list(stack.env) == NAMES
        answer = run_job(stack.env, {"env": True})
        env = answer["output"]["env"]
        assert (env["EXTRA"], env["MODELS_DIR"]) == ("1", str(ROOT / "models"))
        assert env["TMPDIR"] == str(stack.worker_home / "tmp")
        assert stack.worker_pids() == [answer["output"]["pid"]]
        pids = stack.worker_pids()
        last = run_job(stack.env, {"sleep_s": 1.5, "started": str(tmp_path / "at")}, "run")
        wait_until((tmp_path / "at").exists)
    done = stack.queue_events(devstack.EventKind.COMPLETED)
    assert [event.job_id for event in done] == [answer["id"], last["id"]]
    assert not any(map(is_running, pids))
