"""Child processes end with all they started, whatever happens to the stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.guard import Guard
from devstack.process import ChildProcess, clean_environment
from devstack.stack import write_env_file
from devstack.workers import FIRST_DELAY_S, Worker
from tests.fakes.queue_client import group_members, is_running, wait_until

FAMILY = "sleep 60 & trap 'exit 3' TERM; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; sleep 60 & while :; do sleep 0.05; done"


@pytest.fixture
def guard() -> Iterator[Guard]:
    """Yield a guard that is running."""
    with Guard() as guard:
        yield guard


def spawn(script: str, folder: Path, guard: Guard) -> ChildProcess:
    """Start a shell script that has started a process of its own."""
    env = clean_environment(folder)
    child = ChildProcess(["sh", "-c", script], env, folder, folder / "log", guard)
    wait_until(lambda: len(group_members(child.pid)) >= 2)
    return child


@pytest.mark.parametrize(("script", "grace_s", "code"), [(FAMILY, 60, 3), (STUBBORN, 0.4, -9)])
def test_stopping_a_child_ends_its_children_and_kills_it_after_its_grace(
    tmp_path: Path, guard: Guard, script: str, grace_s: float, code: int
) -> None:
    child = spawn(script, tmp_path, guard)
    begin_s = time.monotonic()
    child.stop(grace_s)
    assert code == 3 or time.monotonic() - begin_s > 0.3
    assert child.wait() == code
    wait_until(lambda: not group_members(child.pid))


def test_the_environment_has_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by name nor through files of the home folder."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "RUNPOD_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "secret")
    env = clean_environment(tmp_path)
    assert "secret" not in env.values()
    assert env["HOME"] == str(tmp_path)
    assert Path(env["TMPDIR"]).parent == tmp_path
    assert Path(env["TMPDIR"]).is_dir()
    assert env["PATH"] == os.environ["PATH"]


STACK = """
import os, signal, sys, time
from pathlib import Path
from devstack.guard import Guard
from devstack.process import ChildProcess, clean_environment
folder = Path(sys.argv[1])
guard = Guard()
child = ChildProcess(["sh", "-c", sys.argv[2]], clean_environment(folder), folder,
                     folder / "log", guard)
guard.watch_path(folder / "state")
guard.watch_path(folder / "env")
(folder / "pids").write_text(f"{child.pid} {guard.pid}")
time.sleep(60)
"""


def test_a_killed_stack_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL gives no time to clean up: the guard does it, and leaves."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "file").touch()
    (tmp_path / "env").touch()
    stack = subprocess.Popen([sys.executable, "-c", STACK, str(tmp_path), STUBBORN])
    try:
        pids = wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
        child, guard = map(int, pids.split())
        wait_until(lambda: len(group_members(child)) >= 2)
    finally:
        stack.kill()
        stack.wait()
    wait_until(lambda: not group_members(child), 5)
    wait_until(lambda: not is_running(guard), 5)
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "env").exists()


def test_the_guard_leaves_what_was_released(tmp_path: Path) -> None:
    """A group's number may belong to someone else by then."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        with Guard() as guard:
            guard.watch_group(other.pid)
            guard.release_group(other.pid)
        assert other.poll() is None
        other.kill()


def test_a_worker_is_started_again_under_a_new_id(tmp_path: Path, guard: Guard) -> None:
    """The log says so, and a stopped worker stays stopped."""
    ids: list[str] = []

    def start(worker_id: str) -> ChildProcess:
        ids.append(worker_id)
        return spawn(FAMILY, tmp_path, guard)

    worker = Worker("worker-7", start, tmp_path / "log", grace_s=5)
    worker.start()
    first = worker.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: worker.pid not in (None, first))
    assert ids == ["worker-7-1", "worker-7-2"]
    assert "worker-7-1 exited with -9" in (tmp_path / "log").read_text()
    second = worker.pid
    worker.stop(time.monotonic() + 5)
    assert worker.pid is None
    assert len(ids) == 2
    assert second is not None
    wait_until(lambda: not group_members(first) + group_members(second), 2)


def test_a_worker_that_fails_at_once_is_given_pauses(tmp_path: Path, guard: Guard) -> None:
    """The pauses double, so a broken handler does not burn the machine."""
    times_s: list[float] = []

    def start(_: str) -> ChildProcess:
        times_s.append(time.monotonic())
        env = clean_environment(tmp_path)
        return ChildProcess(["false"], env, tmp_path, tmp_path / "log", guard)

    worker = Worker("worker-1", start, tmp_path / "log", grace_s=1)
    worker.start()
    wait_until(lambda: len(times_s) == 3)
    worker.stop(time.monotonic() + 1)
    assert times_s[1] - times_s[0] >= FIRST_DELAY_S
    assert times_s[2] - times_s[1] >= 2 * FIRST_DELAY_S


def test_the_env_file_is_private_and_whole(tmp_path: Path) -> None:
    """It replaces what was there, and leaves no temporary file, even if it fails."""
    path, folder = tmp_path / "env", tmp_path / "folder"
    path.write_text("old")
    folder.mkdir()
    write_env_file(path, {"A": "1", "B": "x/y+z="})
    assert path.read_text() == "A=1\nB=x/y+z=\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="folder"):
        write_env_file(folder, {"A": "1"})
    assert sorted(tmp_path.iterdir()) == [path, folder]
