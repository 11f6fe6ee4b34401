"""WAV headers: what they say, and that no bytes upset the reader."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketscribe_contract.wav import NotWav, parse_wav


def header(*, tag: int = 1, rate_hz: int = 16_000, data_bytes: int = 32_000) -> bytes:
    """A canonical 44-byte header: mono, 16 bits."""
    fmt = struct.pack("<HHIIHH", tag, 1, rate_hz, rate_hz * 2, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + data_bytes) + b"WAVE"
        + b"fmt " + struct.pack("<I", len(fmt)) + fmt
        + b"data" + struct.pack("<I", data_bytes)
    )  # fmt: skip


def test_a_canonical_header_tells_rate_offset_and_length() -> None:
    found = parse_wav(header())
    assert (found.bytes_per_s, found.data_offset, found.data_bytes) == (32_000, 44, 32_000)


@pytest.mark.parametrize(
    ("fmt", "is_plain"),
    [
        (struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16), True),
        (struct.pack("<HHIIHH", 1, 2, 16_000, 64_000, 4, 16), False),
        (struct.pack("<HHIIHH", 1, 1, 16_000, 16_000, 1, 8), False),
        (struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32), False),
        (struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 16_000, 32_000, 2, 16, 22, 16, 4, 1), True),
        (struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 16_000, 32_000, 2, 16, 22, 16, 4, 3), False),
    ],
)
def test_sound_that_needs_no_decoder_is_told(fmt: bytes, is_plain: bool) -> None:
    plain = header()
    made = plain[:16] + struct.pack("<I", len(fmt)) + fmt + plain[36:]
    assert parse_wav(made).is_pcm16_mono is is_plain


def test_chunks_before_the_sound_are_walked_over() -> None:
    plain = header()
    extra = b"LIST" + struct.pack("<I", 5) + b"abcde\0"
    found = parse_wav(plain[:36] + extra + plain[36:])
    assert (found.data_offset, found.data_bytes) == (44 + len(extra), 32_000)


@pytest.mark.parametrize("unknown", [0, 0xFFFFFFFF])
def test_a_streaming_writers_length_is_unknown(unknown: int) -> None:
    plain = header()
    assert parse_wav(plain[:40] + struct.pack("<I", unknown)).data_bytes is None


def test_rf64_keeps_its_length_in_ds64() -> None:
    plain = header()
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 0, 5_000_000_000, 0, 0)
    long = b"RF64" + plain[4:12] + ds64 + plain[12:40] + b"\xff\xff\xff\xff"
    assert parse_wav(long).data_bytes == 5_000_000_000


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: header()[:36] + b))
def test_no_bytes_raise_anything_but_not_wav(head: bytes) -> None:
    try:
        found = parse_wav(head)
    except NotWav:
        return
    assert found.bytes_per_s >= 500
