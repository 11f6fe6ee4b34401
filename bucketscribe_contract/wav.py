"""Read a WAV file's header: how fast its sound runs, where it starts and where it ends.

The edge reads a recording's length from it, the worker its sound and whether it was cut short.
Takes bytes, touches no file and no network (RIFF and RF64/BW64 chunk walk: "Multimedia Programming
Interface and Data Specifications 1.0", EBU Tech 3306). Raises `NotWav`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

HEAD_BYTES = 65_536
"""As much of a file's beginning as writers put before the sound."""
_MIN_BYTES_PER_S = 500
_MAX_BYTES = 1 << 43  # S3 holds less, and a seek beyond 2^44 is an error on ext4
_CONSTANT_RATE_TAGS = frozenset({0x0001, 0x0003, 0x0006, 0x0007})  # PCM, float, A-law, µ-law
_NAME = re.compile(rb"[ -~]{4}")
_RIFFS = (b"RIFF", b"RF64", b"BW64")
_NEVER_SOUND = (*_RIFFS, b"LIST", b"id3 ", b"ID3", b"TAG", b"APETAGEX")  # even if cut short


class NotWav(ValueError):
    """The bytes are no WAV header that tells a length."""


@dataclass(frozen=True)
class WavHeader:
    """What a WAV header says.

    Attributes:
        bytes_per_s: Of the sound, at least 500.
        data_offset: Where the sound starts in the file; if that is after the bytes that were
            read, at the earliest.
        data_bytes: Its length; None if the writer did not know it.
        is_pcm16_mono: Whether it was found and is 16-bit PCM of one channel.
        riff_bytes: What the header gives as the file's size, less 8.
    """

    bytes_per_s: int
    data_offset: int
    data_bytes: int | None
    is_pcm16_mono: bool = False
    riff_bytes: int = 0

    @property
    def declared_end(self) -> int:
        """Where in the file the sound ends, by the header."""
        return self.data_offset + (self.data_bytes or 0)

    def is_waveform(self, rate_hz: int) -> bool:
        """Whether the sound is 16-bit PCM of one channel at that rate."""
        return self.is_pcm16_mono and self.bytes_per_s == rate_hz * 2

    def sound(self, file_bytes: int, after: bytes) -> WavSound:
        """Tell how much of the file is sound, whatever the header says.

        Args:
            file_bytes: The file's size.
            after: Up to `HEAD_BYTES` from `declared_end` on; what is not known counts as sound.
        """
        there = max(file_bytes - self.data_offset, 0)
        declared = there if self.data_bytes is None else self.data_bytes
        if declared > there:
            is_whole = _is_placeholder(declared) or abs(self.riff_bytes + 8 - file_bytes) <= 1
            return WavSound(there, 0.0 if is_whole else (declared - there) / self.bytes_per_s)
        rest, pad = there - declared, declared % 2  # not all writers pad
        chunks = _chunks(after, rest) or _chunks(after[pad:], rest - pad)
        if chunks or rest < 8:
            return WavSound(declared, is_joined=not chunks.isdisjoint(_RIFFS))
        return WavSound(there, outlasts_header=True)


@dataclass(frozen=True)
class WavSound:
    """How much of a file is sound.

    Attributes:
        bytes: Of sound that are there, from the header's ``data_offset`` on.
        missing_s: Seconds that the header declares and the file has not.
        outlasts_header: Whether it goes on after its declared end (``ignore_length`` of FFmpeg).
        is_joined: Whether another WAV follows it.
    """

    bytes: int
    missing_s: float = 0.0
    outlasts_header: bool = False
    is_joined: bool = False


def parse_wav(head: bytes) -> WavHeader:
    """Read a WAV header from the file's first bytes.

    Raises:
        NotWav: For any bytes that are not such a header, or end before its ``fmt`` chunk does.
    """
    if head[8:12] != b"WAVE" or head[:4] not in _RIFFS:
        raise NotWav("no RIFF/WAVE signature")
    bytes_per_s, is_plain, long_size, at = 0, False, 0, 12
    while at + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, at)
        body = head[at + 8 : at + 8 + size]
        if name == b"data":
            break
        if name == b"fmt ":
            bytes_per_s, is_plain = _format(body)
        elif name == b"ds64" and len(body) >= 16:
            long_size = struct.unpack_from("<Q", body, 8)[0]
        at += 8 + size + size % 2
    else:
        size, is_plain = 0, False
    if bytes_per_s < _MIN_BYTES_PER_S:
        raise NotWav("no usable fmt chunk before the sound")
    at += 8
    if size == 0xFFFFFFFF:
        size = long_size if long_size < _MAX_BYTES else 0
    is_known = size or _NAME.match(head, at)  # else sound that the header does not count
    riff_bytes = struct.unpack_from("<I", head, 4)[0]
    return WavHeader(bytes_per_s, at, size if is_known else None, is_plain, riff_bytes)


def _is_placeholder(size: int) -> bool:
    """Whether a program that writes into a pipe gives this size: about 2^31 or 2^32.

    Sox and espeak-ng 7ffff000, less a part of a frame; GStreamer 7fff0000, LAME 7fffffff, arecord
    80000000. A recording of 2 to 4 GB that was cut short is taken for such a one in 16,000 times.
    """
    return size >= 1 << 30 and (size + 0x10000) % 0x80000000 <= 0x20000


def _chunks(after: bytes, rest: int) -> set[bytes]:
    """Return the names of the chunks that fill the ``rest`` of the file; none if it is sound."""
    names: set[bytes] = set()
    at = 0
    while at + 8 <= len(after):
        name, size = struct.unpack_from("<4sI", after, at)
        fits = _NAME.match(name) and at + 8 + size <= rest
        if not fits and not after.startswith(_NEVER_SOUND, at):
            break
        names.add(name)
        at += 8 + size + size % 2
    return names


def _format(fmt: bytes) -> tuple[int, bool]:
    """Return the sound's bytes a second, and whether it is 16-bit PCM of one channel.

    Some writers leave the header's own figure at 0 or wrong, PCM needs it not.
    """
    if len(fmt) < 16:
        raise NotWav("the fmt chunk is cut short")
    tag, channels, rate_hz, byte_rate, frame_bytes, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == 0xFFFE and len(fmt) >= 26:
        tag = struct.unpack_from("<H", fmt, 24)[0]  # "extensible": SubFormat begins with it
    is_plain = (tag, channels, frame_bytes, bits) == (1, 1, 2, 16)
    return rate_hz * frame_bytes if tag in _CONSTANT_RATE_TAGS else byte_rate, is_plain
