"""A recording's length: exact from a WAV header, safe from anything else."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.services.presign import (
    ASSUMED_BYTES_PER_S,
    MAX_ESTIMATE_S,
    LengthSource,
    recording_length,
)
from tests.unit.edge_client.samples import wav, wav_header


def test_wav_length_is_exact() -> None:
    body = wav(2.5)
    length = recording_length(body[:65536], len(body))
    assert (length.duration_s, length.source) == (2.5, LengthSource.HEADER)


def test_74_minutes_from_the_first_64_kib() -> None:
    head = wav_header(4447.5)
    assert recording_length(head, 44 + 142_320_000).duration_s == 4447.5


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_streaming_writers_size_comes_from_the_object(size: int) -> None:
    body = bytearray(wav(3))
    body[40:44] = struct.pack("<I", size)
    assert recording_length(bytes(body), len(body)).duration_s == 3.0


def test_truncated_object_counts_what_is_there() -> None:
    body = wav(4)
    assert recording_length(body, 44 + 16_000).duration_s == 1.0


def test_bytes_after_the_sound_do_not_count() -> None:
    body = wav(1)
    assert recording_length(body, len(body) + 5000).duration_s == 1.0


def test_no_wav_is_estimated_from_its_size() -> None:
    length = recording_length(b"\x1aE\xdf\xa3webm", 60 * ASSUMED_BYTES_PER_S)
    assert (length.duration_s, length.source) == (60.0, LengthSource.ESTIMATE)


def test_estimate_stays_submittable() -> None:
    assert recording_length(b"OggS", 5_000_000_000).duration_s == MAX_ESTIMATE_S


@given(st.binary(max_size=300), st.integers(0, 10**12))
def test_any_bytes_have_a_length(head: bytes, object_bytes: int) -> None:
    assert recording_length(head, object_bytes).duration_s >= 0


@given(st.binary(max_size=120), st.integers(0, 10**12))
def test_any_broken_header_has_a_length(tail: bytes, object_bytes: int) -> None:
    assert recording_length(b"RIFF\0\0\0\0WAVE" + tail, object_bytes).duration_s >= 0
