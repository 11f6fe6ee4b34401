"""Start the decoder's process ahead of time, give it one recording, watch it, end it.

Takes open files and what is wanted of them; returns what the child found. Raises `DecoderStopped`
where the child died or had to be killed, `DecoderFailed` where it could not work at all, and what
``check`` raises.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from worker.engines.decoder import Wanted

STALL_S = 120.0  # wall clock without a word from the child; its CPU time has closer limits
_POLL_S = 0.2
_EXIT_S = 1.0
_ROOT = Path(__file__).resolve().parents[3]


class DecoderStopped(Exception):
    """The child died of the recording, or was killed; says why."""


class DecoderFailed(Exception):
    """The child could not start, or could not write."""


class _Child:
    """One process: it decodes one recording at most."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {"PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1"}
            if "LD_LIBRARY_PATH" in os.environ:
                environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
            self._process = subprocess.Popen(  # noqa: S603 our own module
                [sys.executable, "-m", "worker.engines.decoder.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        self._socket = ours

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def answers(self, check: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """Give what the child says, until it ends, or says nothing for too long."""
        self._socket.settimeout(_POLL_S)
        heard, said = time.monotonic(), b""
        while True:
            check()
            try:
                block = self._socket.recv(1 << 16)
            except TimeoutError:
                if time.monotonic() - heard > STALL_S:
                    return
                continue
            except OSError:
                return
            if not block:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_EXIT_S)
                return
            heard = time.monotonic()
            *lines, said = (said + block).split(b"\n")
            yield from map(json.loads, lines)

    def send(self, wanted: Wanted, source: IO[bytes], target: IO[bytes]) -> None:
        request = json.dumps(asdict(wanted)).encode()
        socket.send_fds(self._socket, [request], [source.fileno(), target.fileno()])

    def close(self) -> int:
        """End the process; return its exit status, negative for a signal."""
        self._socket.close()
        with suppress(PermissionError):  # root without CAP_KILL: the CPU limit ends it
            self._process.kill()
        return self._process.wait()


_lock = threading.Lock()
_spare: _Child | None = None


def start_spare() -> None:
    """Start the child that decodes the next recording, if none is waiting and one can start."""
    global _spare
    with _lock, suppress(OSError):
        if _spare is not None and not _spare.is_alive:
            _spare.close()
            _spare = None
        _spare = _spare or _Child()


@atexit.register
def stop_spare() -> None:
    """End the child that waits, if one does."""
    global _spare
    with _lock:
        spare, _spare = _spare, None
    if spare is not None:
        spare.close()


def decode_file(
    source: IO[bytes],
    target: IO[bytes],
    wanted: Wanted,
    check: Callable[[], None],
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """Decode a recording in the child that waits, or in a new one.

    Args:
        source: The recording.
        target: Empty; takes the waveform, int16.
        wanted: Which part of it.
        check: Called several times a second; what it raises stops the child.
        progress: Told the share that is done.

    Returns:
        The fields of `audio.Decoded`; or ``unreadable``, with the reason; or ``too_long``.
    """
    try:
        child = _take()
    except OSError as exc:
        raise DecoderFailed(f"the decoder's process did not start ({exc.strerror})") from exc
    is_ready = False
    try:
        for answer in child.answers(check):
            if "ready" in answer:
                is_ready = True
                child.send(wanted, source, target)
            elif "share" in answer:
                progress(answer["share"])
            elif "failed" in answer:
                raise DecoderFailed(f"the waveform could not be written ({answer['failed']})")
            else:
                return answer
    finally:
        status = child.close()
    if not is_ready:
        raise DecoderFailed(f"the decoder's process did not start (exit status {status})")
    if status == -signal.SIGXCPU:
        raise DecoderStopped("decoding it takes more time than any recording needs")
    if status == -signal.SIGKILL:
        raise DecoderStopped("decoding it stands still, or was killed")
    raise DecoderStopped(f"the decoder died of it (exit status {status})")


def _take() -> _Child:
    global _spare
    start_spare()
    with _lock:
        child, _spare = _spare, None
    return child or _Child()
