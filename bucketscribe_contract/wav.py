"""Read a WAV file's header: how fast its sound runs, where it starts, how long it claims to be.

The edge reads a recording's length from it, the worker whether the file was cut short. Takes
bytes, touches no file and no network (RIFF and RF64/BW64 chunk walk: "Multimedia Programming
Interface and Data Specifications 1.0", EBU Tech 3306).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEAD_BYTES = 65_536
"""As much of a file's beginning as writers put before the sound."""
_MIN_BYTES_PER_S = 500
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)
_CONSTANT_RATE_TAGS = frozenset({0x0001, 0x0003, 0x0006, 0x0007})  # PCM, float, A-law, µ-law
_PCM = 0x0001
_EXTENSIBLE = 0xFFFE


class NotWav(ValueError):
    """The bytes are no WAV header that tells a length."""


@dataclass(frozen=True)
class WavHeader:
    """What a WAV header says.

    Attributes:
        bytes_per_s: Of the sound, at least 500.
        data_offset: Where the sound starts in the file.
        data_bytes: Its length; None if the writer did not know it (a stream), or if the
            ``data`` chunk starts after the bytes that were read.
        is_pcm16_mono: Whether the sound is 16-bit PCM of one channel.
    """

    bytes_per_s: int
    data_offset: int
    data_bytes: int | None
    is_pcm16_mono: bool = False

    def is_waveform(self, rate_hz: int) -> bool:
        """Whether the sound is 16-bit PCM of one channel at that rate, its length declared."""
        at_rate = self.bytes_per_s == rate_hz * 2
        return self.is_pcm16_mono and at_rate and self.data_bytes is not None


def parse_wav(head: bytes) -> WavHeader:
    """Read a WAV header.

    Args:
        head: The file's first bytes; the ``fmt`` chunk must be among them.

    Raises:
        NotWav: For any bytes that are not such a header.
    """
    if head[8:12] != b"WAVE" or head[:4] not in (b"RIFF", b"RF64", b"BW64"):
        raise NotWav("no RIFF/WAVE signature")
    bytes_per_s, is_plain, long_size, at = 0, False, None, 12
    while at + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, at)
        body = head[at + 8 : at + 8 + size]
        if name == b"data":
            return _header(bytes_per_s, is_plain, at + 8, _data_size(size, long_size))
        if name == b"fmt ":
            bytes_per_s, is_plain = _byte_rate(body), _is_pcm16_mono(body)
        elif name == b"ds64" and len(body) >= 16:
            long_size = int(struct.unpack_from("<Q", body, 8)[0])
        at += 8 + size + size % 2
    return _header(bytes_per_s, is_plain, at, None)


def _data_size(size: int, long_size: int | None) -> int | None:
    if size == 0xFFFFFFFF and long_size:
        return long_size
    return None if size in _UNKNOWN_SIZES else size


def _header(bytes_per_s: int, is_plain: bool, offset: int, data_bytes: int | None) -> WavHeader:
    if bytes_per_s < _MIN_BYTES_PER_S:
        raise NotWav("no usable fmt chunk before the sound")
    return WavHeader(bytes_per_s, offset, data_bytes, is_plain)


def _byte_rate(fmt: bytes) -> int:
    """Return the sound's bytes a second; computed where the format is of constant rate.

    Some writers leave the header's own figure at 0 or wrong, PCM needs it not.
    """
    if len(fmt) < 16:
        raise NotWav("the fmt chunk is cut short")
    rate_hz, byte_rate, frame_bytes = struct.unpack_from("<IIH", fmt, 4)
    constant = _format_tag(fmt) in _CONSTANT_RATE_TAGS
    return int(rate_hz * frame_bytes) if constant else int(byte_rate)


def _is_pcm16_mono(fmt: bytes) -> bool:
    channels, frame_bytes, bits = struct.unpack_from("<2xH8xHH", fmt)
    return _format_tag(fmt) == _PCM and (channels, frame_bytes, bits) == (1, 2, 16)


def _format_tag(fmt: bytes) -> int:
    tag = int(struct.unpack_from("<H", fmt)[0])
    if tag == _EXTENSIBLE and len(fmt) >= 26:
        tag = int(struct.unpack_from("<H", fmt, 24)[0])  # the first two bytes of SubFormat
    return tag
