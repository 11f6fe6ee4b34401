"""The health check tells a worker that can take a job from one that cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from image.healthcheck import find_fault


def process(folder: Path, *arguments: str, state: str = "S") -> Path:
    """Write what procfs says of a process."""
    (folder / "cmdline").write_bytes(b"\0".join(a.encode() for a in arguments) + b"\0")
    (folder / "stat").write_text(f"1 (py) thon) {state} 0 1 1")
    return folder


def test_a_running_handler_is_healthy(tmp_path: Path) -> None:
    assert find_fault(process(tmp_path, "python", "-u", "handler.py"), str(tmp_path)) is None


@pytest.mark.parametrize("state", ["T", "t", "Z", "X"])
def test_a_process_that_does_not_run_is_not(tmp_path: Path, state: str) -> None:
    fault = find_fault(process(tmp_path, "python", "handler.py", state=state), str(tmp_path))
    assert fault == f"process 1 is in state {state}"


def test_another_process_is_not_the_worker(tmp_path: Path) -> None:
    fault = find_fault(process(tmp_path, "sleep", "9"), str(tmp_path))
    assert fault == "process 1 is not handler.py"


def test_no_process_is_a_fault(tmp_path: Path) -> None:
    assert "cannot be seen" in str(find_fault(tmp_path / "none"))


def test_a_folder_that_cannot_be_written_to_is_a_fault(tmp_path: Path) -> None:
    handler = process(tmp_path, "python", "handler.py")
    assert "cannot be written to" in str(find_fault(handler, str(tmp_path / "none")))


def test_it_runs_alone_and_says_what_is_wrong() -> None:
    script = Path(__file__).parents[2] / "image" / "healthcheck.py"
    command = [sys.executable, "-I", "-S", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=os.sep)
    assert done.returncode == 1
    assert done.stderr.startswith("process 1")
