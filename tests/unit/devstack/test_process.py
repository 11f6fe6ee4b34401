"""Child processes end with all they started, whatever happens to the stack."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.process import ChildProcess, Guard, clean_environment
from devstack.stack import FIRST_DELAY_S, Worker, write_env_file
from tests.processes import group_members, wait_until

FAMILY = "trap 'exit 3' TERM; sleep 60 & while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; sleep 60 & while :; do sleep 0.05; done"


@pytest.fixture
def guard() -> Iterator[Guard]:
    """Yield a guard that is running."""
    with Guard() as guard:
        yield guard


@pytest.mark.parametrize(("script", "grace_s", "code"), [(FAMILY, 60, 3), (STUBBORN, 0.4, -9)])
def test_stopping_a_child_ends_its_children_and_kills_it_after_its_grace(
    tmp_path: Path, guard: Guard, script: str, grace_s: float, code: int
) -> None:
    child = ChildProcess(
        ["sh", "-c", script], clean_environment(tmp_path), tmp_path, tmp_path / "log", guard
    )
    wait_until(lambda: len(group_members(child.pid)) >= 2)
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


def test_the_guard_leaves_what_was_released(tmp_path: Path) -> None:
    """A group's number may belong to someone else by then."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        with Guard() as guard:
            guard.watch_group(other.pid)
            guard.release_group(other.pid)
        assert other.poll() is None
        other.kill()


def test_a_worker_that_exits_is_started_again_under_a_new_id_after_a_pause(
    tmp_path: Path, guard: Guard
) -> None:
    """The pauses double, so a broken handler does not burn the machine; stopped, it stays so."""
    started: list[tuple[str, float]] = []

    def start(worker_id: str, log: Path) -> ChildProcess:
        started.append((worker_id, time.monotonic()))
        return ChildProcess(["false"], clean_environment(tmp_path), tmp_path, log, guard)

    worker = Worker("worker-7", start, tmp_path / "log", grace_s=1)
    worker.start()
    wait_until(lambda: len(started) == 3)
    worker.stop(time.monotonic() + 1)
    ids, times_s = zip(*started, strict=True)
    assert ids == ("worker-7-1", "worker-7-2", "worker-7-3")
    assert times_s[1] - times_s[0] >= FIRST_DELAY_S
    assert times_s[2] - times_s[1] >= 2 * FIRST_DELAY_S
    assert "worker-7-1 exited with 1" in (tmp_path / "log").read_text()
    assert worker.pid is None


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
