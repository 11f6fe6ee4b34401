"""The decoder's child: hostile recordings end it or it ends them, and the worker goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from bucketscribe_contract import Stage
from tests import hostile_recordings as hostile
from tests.mutated_recordings import Forked, mutated, sound
from tests.processes import is_running, wait_until
from worker.cancel import CancelToken, StageContext
from worker.engines.decoder import child, process
from worker.errors import JobCancelled, WorkerError
from worker.stages.decode import DecodeLimits, decode
from worker.types import Recording

ROOT = Path(__file__).parents[4]
Act = Callable[[psutil.Process], object]
ENDLESS = partial(hostile.flac_with_comments, 100_000)  # opening it takes minutes


class WhileItDecodes(CancelToken):
    """Does something to the child once it decodes."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self._act: Act | None = act
        self.child = psutil.Process()

    def check(self, stage: Stage) -> None:
        """Look at the child, as the product looks whether the job is cancelled."""
        if self._act is not None and (children := psutil.Process().children()):
            self.child = children[0]
            limits = Path(f"/proc/{self.child.pid}/limits").read_text().splitlines()
            if [line.split()[3] for line in limits if line.startswith("Max open")] == ["0"]:
                act, self._act = self._act, None
                act(self.child)
        super().check(stage)


def run(folder: Path, data: bytes, token: CancelToken | None = None) -> str:
    """Decode as a job does; return how it ended: the failure's code and text, or "read"."""
    path = folder / "recording"
    path.write_bytes(data)
    context = StageContext(token or CancelToken())
    try:
        waveform = decode(Recording(path, len(data)), DecodeLimits(3600), context)
    except JobCancelled:
        return "cancelled"
    except WorkerError as exc:
        return f"{exc.code}: {exc}"
    finally:
        assert [each.name for each in folder.iterdir()] == ["recording"]
    return f"read: {waveform.duration_s:.2f} s {waveform.warnings}"


@pytest.fixture(autouse=True)
def _no_child_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    process.stop_spare()
    monkeypatch.setattr(process, "_POLL_S", 0.01)
    yield
    process.stop_spare()
    assert psutil.Process().children() == []


@pytest.fixture
def highest_memory() -> Callable[[], int]:
    """Tells how many bytes this process has had at most during the test, beyond its start."""

    def read(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

    Path("/proc/self/clear_refs").write_text("5")
    start = read("VmRSS:")
    return lambda: read("VmHWM:") - start


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are forked from here, which takes a tenth of a start's time."""
    monkeypatch.setattr(process.subprocess, "Popen", Forked)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("made", "end"),
    [
        (hostile.wav_with_title, "AUDIO_UNREADABLE: "),
        (partial(hostile.mp4, 50_000_000), "AUDIO_UNREADABLE: "),
        (hostile.wav_of_exbibytes, "read: 1.50 s ()"),
        (hostile.caf_of_exbibytes, "AUDIO_UNREADABLE: "),
        (partial(hostile.mp4, codec=b"ac-4"), "AUDIO_UNREADABLE: FFmpeg has no decoder"),
        (partial(mutated, 2439), "read: 1.6"),  # a stream appears after the start
        (hostile.mp4, "read: 1.25 s ()"),
        (hostile.mp3_that_changes, "read: 3.1"),
    ],
)
def test_a_hostile_recording_takes_neither_memory_nor_time(
    tmp_path: Path, made: Callable[[], bytes], end: str, highest_memory: Callable[[], int]
) -> None:
    data, started = made(), time.monotonic()
    assert run(tmp_path, data).startswith(end)
    assert time.monotonic() - started < 10
    assert highest_memory() < (48 << 20) + 2 * len(data)


@pytest.mark.usefixtures("forked")
def test_a_recording_that_takes_too_much_time_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engines.decoder.child.CPU_S", 1)
    end = run(tmp_path, hostile.flac_with_comments(500_000))
    assert end.startswith("AUDIO_UNREADABLE: decoding it takes more time than any recording needs")


def test_a_second_reading_of_a_file_has_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[int] = []
    monkeypatch.setattr(child, "_REPORT_S", 0)
    monkeypatch.setattr(child.resource, "getrlimit", lambda _: (0, 9_999))
    monkeypatch.setattr(child.resource, "setrlimit", lambda _, pair: allowed.append(pair[0]))
    ours, theirs = child.socket.socketpair()
    with ours, theirs:
        report = child._Reporter(ours)
        report(3600, 0)
        report(10, 0)
        report(20, 0)
    assert allowed == [390, 390, 391]


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (signal.SIGKILL, "decoding it stands still, or was killed"),
        (signal.SIGSEGV, "the decoder died of it (exit status -11)"),
    ],
)
def test_a_child_that_dies_makes_the_recording_unreadable(
    tmp_path: Path, number: signal.Signals, why: str
) -> None:
    end = run(tmp_path, ENDLESS(), WhileItDecodes(lambda child: child.send_signal(number)))
    assert end.startswith(f"AUDIO_UNREADABLE: {why}")
    assert run(tmp_path, sound("mp3")).startswith("read: 1.5")


def test_a_child_that_stands_still_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STALL_S", 0.5)
    process.start_spare()
    wait_until(lambda: process._spare and _is_ready(process._spare))
    token = WhileItDecodes(psutil.Process.suspend)
    assert run(tmp_path, ENDLESS(), token).startswith("AUDIO_UNREADABLE: decoding it stands still")
    assert not is_running(token.child.pid)


def _is_ready(child: process._Child) -> bool:
    return bool(process.socket.socket.recv(child._socket, 1, process.socket.MSG_PEEK))


def test_a_cancelled_job_kills_its_child(tmp_path: Path) -> None:
    token = WhileItDecodes(lambda _: token.cancel())
    assert run(tmp_path, ENDLESS(), token) == "cancelled"
    assert not is_running(token.child.pid)


def test_a_spare_that_died_is_replaced(tmp_path: Path) -> None:
    process.start_spare()
    (spare,) = psutil.Process().children()
    spare.kill()
    wait_until(lambda: not is_running(spare.pid))
    assert run(tmp_path, sound("mp3")).startswith("read: 1.5")


@pytest.mark.parametrize("is_ready", [False, True])
def test_a_worker_that_dies_leaves_no_child(is_ready: bool) -> None:
    script = (
        "from worker.engines.decoder import process; import time; process.start_spare(); "
        f"{is_ready} and process._spare._socket.recv(99); "
        "print(process._spare._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        assert is_running(child)
        worker.kill()
    wait_until(lambda: not is_running(child))


ATTEMPTS = """
import json, os, resource, socket, sys
from worker.engines.decoder import Wanted, child
child._decode_once()
child._give_up_rights(Wanted(0, None, 16_000))
found = {"uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups()}
for name, attempt in {
    "file": lambda: open("/etc/hostname"),
    "folder": lambda: os.listdir("/"),
    "socket": socket.socket,
    "pair": socket.socketpair,
    "pipe": os.pipe,
    "more": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "root": lambda: os.setuid(0) or os.getuid() or 1 / os.getuid(),
    "memory": lambda: bytearray(child.MAX_MEMORY_BYTES),
}.items():
    try:
        found[name] = repr(attempt())
    except Exception as exc:
        found[name] = type(exc).__name__
print(json.dumps(found))
"""


def test_a_child_that_decodes_has_no_rights_left() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    user = os.getuid() or 65_534
    assert (found.pop("uids"), found.pop("gids")[0]) == ([user] * 3, os.getgid() or 65_534)
    groups = found.pop("groups")
    assert os.getuid() or groups == []
    assert found == {
        "file": "OSError",
        "folder": "OSError",
        "socket": "OSError",
        "pair": "OSError",
        "pipe": "OSError",
        "more": "ValueError",
        "root": "PermissionError",
        "memory": "MemoryError",
    }


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("name", hostile.files_that_name_others())
def test_a_file_that_names_another_is_no_way_to_it(tmp_path: Path, name: str) -> None:
    """That nothing is opened, the soak test sees; here that it ends as a recording does."""
    end = run(tmp_path, hostile.files_that_name_others()[name])
    assert end.startswith(("AUDIO_UNREADABLE", "read: 1."))


def test_mutated_recordings_end_as_recordings_do() -> None:
    """A sample of those that `make soak` decodes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutated_recordings", "0", "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["wrong"] == {}
    assert found["left"] == []
    assert found["slowest"][0][0] < 20
    assert sum(found["ends"].values()) == 60
    assert found["ends"]["READ"] > 10
    assert found["grown"] < 1.05
