"""WAV headers: what they say, and that no bytes upset the reader."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketscribe_contract.wav import HEAD_BYTES, NotWav, WavHeader, WavSound, parse_wav


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


SECOND = 32_000
UNKNOWN = 0xFFFFFFFF
NOISE = bytes(range(128, 228)) * 640
JUNK = chunk(b"LIST", b"x" * 20)
LETTERS = b"A" * 64_000


def plain(data: int, content: bytes, riff: int | None = None, fmt: bytes = FMT) -> bytes:
    """Return a WAV file whose header says anything."""
    said = 36 + data if riff is None else riff
    head = struct.pack("<4sI4s", b"RIFF", said & UNKNOWN, b"WAVE") + chunk(b"fmt ", fmt)
    return head + b"data" + struct.pack("<I", data) + content


def long(size: int, content: bytes, short_size: int = UNKNOWN) -> bytes:
    """Return an RF64 file whose ds64 chunk says anything."""
    ds64 = chunk(b"ds64", struct.pack("<QQQI", size, size, size, 0))
    head = b"RF64\xff\xff\xff\xffWAVE" + ds64 + chunk(b"fmt ", FMT)
    return head + b"data" + struct.pack("<I", short_size) + content


def sound(file: bytes) -> WavSound:
    """Look at a file as a stage does."""
    header = parse_wav(file[:HEAD_BYTES])
    return header.sound(len(file), file[header.declared_end :][:HEAD_BYTES])


PLACEHOLDERS = {
    "a stream's": UNKNOWN,
    "nothing": 0,
    "sox": 0x7FFFF000,
    "sox, frames of 6 bytes": 0x7FFFF000 // 6 * 6,
    "sox, frames of 7 bytes": 0x7FFFF000 // 7 * 7,
    "gstreamer": 0x7FFF0000,
    "lame": 0x7FFFFFFF,
    "31 bits less the header": 0x7FFFFFFF - 36,
    "arecord": 0x80000000,
    "31 bits and the header": 0x80000024,
    "32 bits less the header": UNKNOWN - 36,
    "32 bits less 8": UNKNOWN - 8,
    "32 bits in pages": 0xFFFFF000,
    "32 bits in 64 KiB": 0xFFFF0000,
}


@pytest.mark.parametrize("size", PLACEHOLDERS.values(), ids=PLACEHOLDERS)
def test_a_size_that_programs_write_when_they_know_none_is_none(size: int) -> None:
    for file in (plain(size, NOISE), plain(size, NOISE, 0), plain(size, NOISE, UNKNOWN)):
        assert sound(file) == WavSound(len(NOISE), outlasts_header=False)


@pytest.mark.parametrize(
    "size", [0, UNKNOWN, (1 << 63) - 1, (1 << 64) - 1, (3 << 62) + 123_456_789]
)
def test_a_ds64_chunk_may_not_know_either(size: int) -> None:
    assert sound(long(size, NOISE)) == WavSound(len(NOISE))


def test_a_size_beyond_32_bits_stands_in_ds64() -> None:
    found = parse_wav(long(5_000_000_000, b""))
    assert found.data_bytes == 5_000_000_000
    assert found.sound(found.data_offset + 4_999_968_000, b"").missing_s == 1
    assert parse_wav(long(5_000_000_000, b"", SECOND)).data_bytes == SECOND


@pytest.mark.parametrize(
    "size", [4 * SECOND, 2_200_000_000, 2_500_000_000, 3_000_000_000, 0x7FF00000, 0x90000000]
)
@pytest.mark.parametrize("riff", [None, 0, 36, UNKNOWN])
def test_a_real_size_beyond_the_file_tells_what_is_missing(size: int, riff: int | None) -> None:
    expected = WavSound(len(NOISE), (size - len(NOISE)) / SECOND)
    assert sound(plain(size, NOISE, riff)) == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    {
        "a small file was cut": (plain(40_000, NOISE[:8000]), (8000, 1.0)),
        "the RIFF size is the file's": (plain(9 * SECOND, NOISE, 36 + 64_000), (64_000,)),
        "a RIFF size of 0": (plain(64_000, NOISE, 0), (64_000,)),
        "a RIFF size less than the sound": (plain(64_000, NOISE, 1000), (64_000,)),
        "an odd size": (plain(63_999, NOISE), (63_999,)),
        "chunks after it": (plain(64_000, NOISE + JUNK + chunk(b"cue ", b"")), (64_000,)),
        "a chunk after a pad": (plain(5, b"12345\0" + JUNK), (5,)),
        "a chunk without a pad": (plain(5, b"12345" + JUNK), (5,)),
        "nothing, and a chunk": (plain(0, JUNK), (0,)),
        "a chunk that is cut short": (plain(64_000, NOISE + JUNK[:20]), (64_000,)),
        "tags of an mp3": (plain(64_000, NOISE + b"TAG" + bytes(125)), (64_000,)),
        "too little for a chunk": (plain(63_993, NOISE), (63_993,)),
        "2 s were not counted": (plain(640, NOISE), (64_000, 0.0, True)),
        "nothing was counted, letters": (plain(0, LETTERS), (64_000, 0.0, True)),
        "RF64, 2 s were not counted": (long(640, NOISE), (64_000, 0.0, True)),
        "two WAVs": (plain(64_000, NOISE + plain(1000, NOISE)), (64_000, 0.0, False, True)),
        "two, a chunk between": (
            plain(64_000, NOISE + JUNK + plain(64_000, NOISE)),
            (64_000, 0.0, False, True),
        ),
        "the second of a stream": (
            plain(64_000, NOISE + plain(UNKNOWN, NOISE)),
            (64_000, 0.0, False, True),
        ),
    }.values(),
)
def test_the_sound_ends_where_something_else_begins(file: bytes, expected: tuple[int]) -> None:
    assert sound(file) == WavSound(*expected)


def test_what_is_not_known_of_the_rest_counts_as_sound() -> None:
    file = plain(64_000, NOISE + JUNK)
    assert parse_wav(file).sound(len(file), b"").bytes == 64_000 + len(JUNK)


def test_sound_that_begins_after_what_was_read_is_not_read_without_a_decoder() -> None:
    file = long(32_000, NOISE).replace(b"data", chunk(b"JUNK", bytes(1000)) + b"data")
    found = parse_wav(file[:900])
    assert not found.is_waveform(16_000)
    assert found.data_offset > 900
    assert [found.sound(size, b"") for size in (900, 12_000)] == [
        WavSound(0),
        WavSound(12_000 - found.data_offset),
    ]
    assert parse_wav(file).is_waveform(16_000)


SIZES = st.integers(0, UNKNOWN) | st.sampled_from([*PLACEHOLDERS.values(), 4, 5, 6, 90])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Anything, or something like a WAV file."""
    content = draw(st.binary(max_size=100)) + draw(st.sampled_from([b"", JUNK, plain(4, b"1234")]))
    if draw(st.booleans()):
        size = draw(st.integers(0, (1 << 64) - 1) | SIZES)
        return long(size, content, draw(st.just(UNKNOWN) | SIZES))
    return draw(st.sampled_from([content, plain(draw(SIZES), content, draw(SIZES))]))


@given(heads(), st.integers(0, 200) | st.integers(0, 1 << 40), st.binary(max_size=40))
def test_no_bytes_raise_anything_but_not_wav_and_the_sound_ends_within_the_file(
    head: bytes, more: int, after: bytes
) -> None:
    try:
        found: WavHeader = parse_wav(head)
    except NotWav:
        return
    assert found.bytes_per_s >= 500
    assert 0 <= found.data_offset <= found.declared_end < 1 << 63  # a file can be read from there
    size = len(head) + more
    for rest in (b"", head[found.declared_end :], after):
        told = found.sound(size, rest)
        assert 0 <= told.bytes <= max(size - found.data_offset, 0)
        assert told.missing_s >= 0
        assert not (told.is_joined and told.outlasts_header)
