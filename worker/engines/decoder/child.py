"""The process that decodes one recording and ends; `process` starts it while the worker is idle.

It gets two open files and a request over a socket, then gives up what a hostile file could abuse:
it opens no file and no socket, is root no longer, and has limits of memory, CPU time and output.
It imports PyAV and numpy, and nothing of the worker beyond this package, to be ready early.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import socket
import sys
import time
import wave
from dataclasses import asdict
from typing import Any

import av
import av.error

from worker.engines.decoder import Wanted
from worker.engines.decoder.audio import Unreadable, decode_audio
from worker.engines.decoder.waveform import RATE_HZ, TooLong

MAX_MEMORY_BYTES = 768 << 20  # beyond what the idle process has
CPU_S = 30  # before the first sample; then more, as long as samples come ten times in real time
_SPEED = 10
_REPORT_S = 0.2
_REQUEST_BYTES = 1 << 16
_NOBODY = 65_534


def main() -> None:
    """Get ready, wait for a recording, decode it, say what was found."""
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _decode_once()
        control.sendall(b'{"ready": true}\n')
        request, files, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 2)
        if not request:
            return  # the worker ended
        answer = _answer(json.loads(request), files, control)
        control.sendall(json.dumps(answer).encode() + b"\n")


def _decode_once() -> None:
    """Decode a wave of silence, since PyAV and numpy import what they need when they need it."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((3, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(48_000))
    for sound in (buffer, io.BytesIO(b"no sound" * 100)):
        with contextlib.suppress(av.error.FFmpegError):
            decode_audio(sound, io.BytesIO(), Wanted(0, None, RATE_HZ * 9), lambda *_: None)


def _answer(request: dict[str, Any], files: list[int], control: socket.socket) -> dict[str, Any]:
    wanted = Wanted(**request)
    reporter = _Reporter(control)
    with _Recording(files[0]) as source, open(files[1], "wb", 1 << 20) as target:  # noqa: PTH123
        _give_up_rights(wanted)
        try:
            return asdict(decode_audio(source, target, wanted, reporter))
        except TooLong:
            return {"too_long": True}
        except Unreadable as exc:
            return {"unreadable": str(exc)}
        except av.error.FFmpegError as exc:
            return {"unreadable": f"no decodable audio ({exc.strerror})"}
        except MemoryError:
            return {"unreadable": "decoding it takes more memory than any recording needs"}
        except OSError as exc:
            return {"failed": exc.strerror}


class _Recording(io.FileIO):
    """A file in which FFmpeg may look anywhere: what a damaged length points to is the end."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return super().seek(min(offset, os.fstat(self.fileno()).st_size), whence)


def _give_up_rights(wanted: Wanted) -> None:
    """Keep memory, CPU time and the open files; give up everything else."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # a container without CAP_SETUID
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    longest_s = wanted.limit // RATE_HZ + wanted.start // RATE_HZ
    for limit, value in (
        (resource.RLIMIT_AS, _address_space() + MAX_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, (wanted.limit + RATE_HZ) * 2),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, 2 * CPU_S + longest_s // _SPEED))


def _address_space() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()


class _Reporter:
    """Tells the worker how far the decoder is, and allows itself more CPU time for it."""

    def __init__(self, control: socket.socket) -> None:
        self._control, self._last = control, time.monotonic()
        self._done_s = self._sum_s = 0.0

    def __call__(self, done_s: float, about_s: float) -> None:
        self._sum_s += max(done_s - self._done_s, 0.0)  # a file may be read more than once
        self._done_s = done_s
        now = time.monotonic()
        if now - self._last < _REPORT_S:
            return
        self._last = now
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = min(CPU_S + int(self._sum_s) // _SPEED, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
        share = min(done_s / about_s, 1.0) if about_s else 0.0
        self._control.sendall(b'{"share": %.3f}\n' % share)


if __name__ == "__main__":
    main()
