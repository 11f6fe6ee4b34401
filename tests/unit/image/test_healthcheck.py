"""The health check tells a worker that can take a job from one that cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from image.healthcheck import find_fault


@pytest.mark.parametrize(
    ("arguments", "state", "scratch", "fault"),
    [
        ("python -u handler.py", "S", ".", None),
        ("python -u handler.py", "R", "none", "the temporary folder cannot be written to"),
        *(("python handler.py", state, ".", f"process 1 is in state {state}") for state in "TtZX"),
        ("sleep 9", "S", ".", "process 1 is not handler.py"),
        (None, "S", ".", "process 1 cannot be seen"),
    ],
)
def test_what_process_1_does_decides(
    tmp_path: Path, arguments: str | None, state: str, scratch: str, fault: str | None
) -> None:
    if arguments is not None:
        (tmp_path / "cmdline").write_bytes(arguments.replace(" ", "\0").encode() + b"\0")
        (tmp_path / "stat").write_text(f"1 (py) thon) {state} 0 1 1")
    found = find_fault(tmp_path, str(tmp_path / scratch))
    assert found is None if fault is None else str(found).startswith(fault)
