"""The image runs: no network but loopback, read-only, an unprivileged user, process 1."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.image.conftest import ROOT, Image

pytestmark = pytest.mark.timeout(600)

WHO = """
import json, os, socket
def fails(act):
    try:
        act()
    except OSError as exc:
        return type(exc).__name__ + " " + os.strerror(exc.errno)
    return "done"
print(json.dumps({
    "pid": os.getpid(), "ids": os.getresuid() + os.getresgid(), "groups": os.getgroups(),
    "capabilities": [l.split()[1] for l in open("/proc/self/status") if l.startswith("CapEff")],
    "root": fails(lambda: open("/app/new", "w")),
    "models": fails(lambda: open("/models/new", "w")),
    "tmp": fails(lambda: open("/tmp/new", "w")),
    "out": fails(lambda: socket.create_connection(("192.0.2.1", 443), 2)),
    "loopback": fails(lambda: socket.create_server(("127.0.0.1", 0))),
    "interfaces": [name for _, name in socket.if_nameindex()],
}))
"""


def test_it_is_process_1_without_rights_network_or_anywhere_to_write(image: Image) -> None:
    told = json.loads(image.python(WHO))
    assert told == {
        "pid": 1,
        "ids": [10001] * 6,
        "groups": [],
        "capabilities": ["0000000000000000"],
        "root": "OSError Read-only file system",
        "models": "OSError Read-only file system",
        "tmp": "done",
        "out": "OSError Network is unreachable",
        "loopback": "done",
        "interfaces": ["lo"],
    }


def test_all_models_work_offline(image: Image, tmp_path: Path) -> None:
    """By the builder's check, which is not in the image."""
    lent = shutil.copytree(ROOT / "builder", tmp_path / "lent" / "builder").parent
    for path in (lent, *lent.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    command = ("env", "PYTHONPATH=/mnt", "python", "-m", "builder.verify_offline", "/models")
    done = image.run(*command, bind=lent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" ok ") >= 2
    assert "FAILED" not in done.stdout


def test_compiled_alignment_is_taken_from_the_image(image: Image) -> None:
    told = image.python(
        "from worker.engines.alignment import ctc; ctc.warm();"
        "print([tuple(sum(getattr(f.stats, n).values()) for n in ('cache_hits', 'cache_misses'))"
        " for f in ctc._compiled()])"
    )
    assert told.strip() == "[(1, 0), (1, 0)]"


def test_python_finds_its_compiled_files(image: Image) -> None:
    told = image.python(
        "import os, sys, whisperx.alignment, whisperx.diarize, whisperx.vads, worker.models.load\n"
        "specs = [getattr(module, '__spec__', None) for module in [*sys.modules.values()]]\n"
        "cached = [spec.cached for spec in specs if spec and spec.has_location and spec.cached]\n"
        "print(len(cached) > 3000, [c for c in cached if c[:5] in ('/opt/', '/app/')"
        " and not os.path.exists(c)])"
    )
    assert told.splitlines()[-1] == "True []"


def test_onnxruntime_writes_and_reports_nothing(image: Image) -> None:
    looking = "print(sorted(os.listdir('/tmp')), [f for _, _, n in os.walk('/dev/shm') for f in n])"
    done = image.run("python", "-c", f"import os, onnxruntime; {looking}")
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "[] []", "")
