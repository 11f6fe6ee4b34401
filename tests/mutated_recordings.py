"""Damage small recordings of ten kinds, the same way for the same number, and decode them.

``python -m tests.mutated_recordings FIRST COUNT`` decodes so many of them by the product's stage
and prints, as JSON, how they ended. Its children are forked from it instead of started anew, which
takes a tenth of the time, and from there on they do what the product's child does.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer

from tests.recordings import SAMPLE_RATE_HZ, short_speech
from worker.cancel import StageContext
from worker.engines.decoder import child, process
from worker.errors import WorkerError
from worker.stages.decode import DecodeLimits, decode
from worker.types import Recording

KINDS: dict[str, tuple[str, str, int]] = {  # container, encoder, Hz
    "wav": ("wav", "pcm_s16le", 44_100),
    "mp3": ("mp3", "libmp3lame", 16_000),
    "m4a": ("ipod", "aac", 16_000),
    "flac": ("flac", "flac", 16_000),
    "ogg": ("ogg", "libopus", 48_000),
    "webm": ("webm", "libopus", 48_000),
    "aac": ("adts", "aac", 16_000),
    "caf": ("caf", "pcm_s16be", 16_000),
    "avi": ("avi", "libmp3lame", 16_000),
    "ts": ("mpegts", "aac", 16_000),
}
SECONDS = 1.5
HEAD_BYTES = 600  # where most containers keep their lengths
LENGTHS = (0, 1, 0xFF, 0x7FFF, 0xFFFF, 1 << 24, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFF)


@cache
def sound(kind: str, rate_hz: int | None = None) -> bytes:
    """Return a small whole recording."""
    container, encoder, usual_hz = KINDS[kind]
    rate_hz = rate_hz or usual_hz
    speech = short_speech()[SAMPLE_RATE_HZ // 2 :][: int(SECONDS * SAMPLE_RATE_HZ)]
    with tempfile.TemporaryFile() as file:
        options = {"fflags": "+bitexact"}
        with cast(OutputContainer, av.open(file, "w", format=container, options=options)) as output:
            stream = cast(AudioStream, output.add_stream(encoder, rate=rate_hz, layout="mono"))
            stream.codec_context.options = {"flags": "+bitexact"}
            frame = av.AudioFrame.from_ndarray(speech[None], format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE_HZ
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        file.seek(0)
        return file.read()


def _flip_bits(chance: random.Random, data: bytearray) -> None:
    for _ in range(chance.randint(1, 24)):
        data[_place(chance, data)] ^= 1 << chance.randrange(8)


def _cut(chance: random.Random, data: bytearray) -> None:
    at = _place(chance, data)
    del data[at : at + chance.choice((1, 4, 188, 5_000, len(data)))]


def _repeat(chance: random.Random, data: bytearray) -> None:
    at = _place(chance, data)
    data[at:at] = data[at : at + chance.choice((1, 8, 188, 3_000))] * chance.choice((1, 2, 50))


def _insert(chance: random.Random, data: bytearray) -> None:
    at = _place(chance, data)
    data[at:at] = chance.randbytes(chance.choice((1, 4, 100, 4_000)))


def _set_length(chance: random.Random, data: bytearray) -> None:
    """Overwrite what may be a length."""
    for _ in range(chance.randint(1, 3)):
        at, size = _place(chance, data), chance.choice((1, 2, 4, 4, 8))
        value = chance.choice((*LENGTHS, len(data), chance.getrandbits(8 * size)))
        order = chance.choice(("big", "little"))
        data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, order)


def _splice(chance: random.Random, data: bytearray) -> None:
    """Put another kind's head, or any part of it, before or into the file."""
    other = sound(chance.choice(list(KINDS)))
    at, start = _place(chance, data), chance.choice((0, chance.randrange(len(other))))
    part = other[start : start + chance.choice((16, 64, 600, 6_000))]
    end = at + chance.choice((0, len(part)))
    data[chance.choice((0, at)) : end] = part


MUTATIONS = (_flip_bits, _cut, _repeat, _insert, _set_length, _set_length, _splice)


def _place(chance: random.Random, data: bytearray) -> int:
    return chance.randrange(min(len(data), chance.choice((64, HEAD_BYTES, len(data)))))


def mutated(number: int) -> bytes:
    """Return the recording of this number, damaged; the same bytes for the same number."""
    chance = random.Random(number)  # noqa: S311 - to repeat it
    data = bytearray(sound(list(KINDS)[number % len(KINDS)]))
    for _ in range(chance.randint(1, 4)):
        chance.choice(MUTATIONS)(chance, data)
        data = data or bytearray(1)
    return bytes(data)


class Forked(subprocess.Popen[bytes]):
    """`Popen` of the decoder's child, forked from a process that has it imported."""

    def _execute_child(self, *arguments: Any) -> None:
        """Fork, and be the child where `Popen` would execute its command.

        Args:
            arguments: As `Popen` gives them: ``pass_fds`` the fifth, stdin the eleventh.
        """
        self.pid = os.fork()
        if self.pid:
            self._child_created = True
            return
        try:
            (kept,) = arguments[4]
            for standard in range(3):
                os.dup2(arguments[10], standard)
            for opened in Path("/proc/self/fd").iterdir():
                if int(opened.name) not in (0, 1, 2, kept):
                    with suppress(OSError):
                        os.close(int(opened.name))
            sys.argv[1:] = [str(kept)]
            child.main()
        finally:
            os._exit(sys.exc_info()[0] is not None)


@dataclass
class Ends:
    """How recordings ended.

    Attributes:
        ends: How many were read, or have which failure's code or which other exception.
        wrong: The numbers of those that ended in a way that no recording may.
        killed: The messages of children that died or were killed, by number.
        slowest: The longest time, in seconds, and the number of its recording.
        grown: RSS at the end as a share of what it was after the first hundredth.
        left: Files that are left.
    """

    ends: dict[str, int] = field(default_factory=dict)
    wrong: dict[int, str] = field(default_factory=dict)
    killed: dict[int, str] = field(default_factory=dict)
    slowest: list[tuple[float, int]] = field(default_factory=list)
    grown: float = 0.0
    left: list[str] = field(default_factory=list)


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"a share of {share}")


def decode_all(numbers: range, folder: Path) -> Ends:
    """Decode the recordings of these numbers."""
    found, path, early = Ends(), folder / "recording", 0
    for number in numbers:
        path.write_bytes(mutated(number))
        started = time.monotonic()
        try:
            decode(
                Recording(path, path.stat().st_size),
                DecodeLimits(3600.0),
                StageContext(progress=_check_share),
            )
            end = "READ"
        except WorkerError as exc:
            end = exc.code
            if "decoding it" in str(exc) or "died" in str(exc):
                found.killed[number] = str(exc)
            if end not in EXPECTED:
                found.wrong[number] = str(exc)
        except Exception as exc:
            end = type(exc).__name__
            found.wrong[number] = repr(exc)
        found.ends[end] = found.ends.get(end, 0) + 1
        found.slowest.append((round(time.monotonic() - started, 2), number))
        if number - numbers.start == len(numbers) // 10:
            early = _rss()
    path.unlink()
    found.slowest = sorted(found.slowest, reverse=True)[:10]
    found.grown, found.left = _rss() / early, [each.name for each in folder.iterdir()]
    return found


EXPECTED = ("AUDIO_UNREADABLE", "AUDIO_TRUNCATED", "AUDIO_TOO_LONG")


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def main() -> None:
    """Decode what the command names."""
    first, count = map(int, sys.argv[1:])
    process.subprocess.Popen = Forked  # type: ignore[misc]
    child._decode_once()
    child._decode_once = lambda: None  # each is a copy of this process, which has imported all
    for kind in KINDS:
        sound(kind)
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        found = decode_all(range(first, first + count), Path(folder))
    json.dump(asdict(found), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
