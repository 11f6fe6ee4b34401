"""WAV headers: what they say, and that no bytes upset the reader."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketscribe_contract.wav import NotWav, parse_wav


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


START = b"RIFF" + struct.pack("<I", 32_036) + b"WAVE"
FMT = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
PLAIN = START + chunk(b"fmt ", FMT)
DATA = b"data" + struct.pack("<I", 32_000)


@pytest.mark.parametrize("before", [b"", chunk(b"LIST", b"abcde") + b"\0"])
def test_a_header_tells_rate_offset_and_length(before: bytes) -> None:
    """Chunks before the sound are walked over."""
    found = parse_wav(PLAIN + before + DATA)
    offset = 44 + len(before)
    assert (found.bytes_per_s, found.data_offset, found.data_bytes) == (32_000, offset, 32_000)


@pytest.mark.parametrize(
    ("fmt", "is_plain"),
    [
        (FMT, True),
        (struct.pack("<HHIIHH", 1, 2, 16_000, 64_000, 4, 16), False),
        (struct.pack("<HHIIHH", 1, 1, 16_000, 16_000, 1, 8), False),
        (struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32), False),
        (struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 16_000, 32_000, 2, 16, 22, 16, 4, 1), True),
        (struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 16_000, 32_000, 2, 16, 22, 16, 4, 3), False),
    ],
)
def test_sound_that_needs_no_decoder_is_told(fmt: bytes, is_plain: bool) -> None:
    assert parse_wav(START + chunk(b"fmt ", fmt) + DATA).is_pcm16_mono is is_plain


def test_a_streaming_writers_length_is_unknown_and_rf64_keeps_its_in_ds64() -> None:
    for unknown in (0, 0xFFFFFFFF):
        assert parse_wav(PLAIN + b"data" + struct.pack("<I", unknown)).data_bytes is None
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, 5_000_000_000, 0, 0))
    long = b"RF64" + START[4:] + ds64 + chunk(b"fmt ", FMT) + b"data\xff\xff\xff\xff"
    assert parse_wav(long).data_bytes == 5_000_000_000


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: PLAIN + b))
def test_no_bytes_raise_anything_but_not_wav(head: bytes) -> None:
    try:
        found = parse_wav(head)
    except NotWav:
        return
    assert found.bytes_per_s >= 500
