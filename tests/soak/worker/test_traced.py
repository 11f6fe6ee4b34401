"""The decoder's child as the kernel sees it, while files would have it open others."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.hostile_recordings import files_that_name_others
from tests.mutated_recordings import KINDS, sound

ROOT = Path(__file__).parents[3]
OPENING = "open,openat,openat2,creat,socket,socketpair,connect,execve,execveat,fork,vfork,clone"
DECODE = """
import sys
from pathlib import Path
from worker.cancel import StageContext
from worker.errors import WorkerError
from worker.stages.decode import DecodeLimits, decode
from worker.types import Recording
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        decode(Recording(path, path.stat().st_size), DecodeLimits(60), StageContext())
    except WorkerError as exc:
        assert exc.code == "AUDIO_UNREADABLE", f"{path.name}: {exc}"
"""
RECEIVED = re.compile(r"recvmsg\(.*SCM_RIGHTS.* = [1-9]")
DONE = re.compile(r"(\w+)\((.*)\) += \d")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_child_that_has_a_recording_opens_nothing(tmp_path: Path) -> None:
    """Only its own memory's size it looks up, before it decodes."""
    folder, log = tmp_path / "files", tmp_path / "log"
    folder.mkdir()
    files = files_that_name_others() | {kind: sound(kind) for kind in KINDS}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    strace = ["strace", "-f", "-o", log, "-e", f"trace={OPENING},recvmsg", "-e", "signal=none"]
    subprocess.run([*strace, sys.executable, "-c", DECODE, folder], cwd=ROOT, check=True)
    before, after = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for line in log.read_text().splitlines():
        pid, call = line.split(maxsplit=1)
        if RECEIVED.match(call):
            after[pid] = []
        elif found := DONE.match(call):
            (after if pid in after else before)[pid].append(found[0])
    assert len(after) == len(files)
    assert all(len(before[pid]) > 100 for pid in after)
    for calls in after.values():
        assert len(calls) == 1, calls
        assert '"/proc/self/statm", O_RDONLY' in calls[0]
