"""How long a recording is, from the first bytes of its object.

Takes the first 64 KiB and the object's size; returns a `Length`. A WAV header gives the exact
length; anything else is estimated from its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from riff import NotWav, parse_wav

ASSUMED_BYTES_PER_S = 2_000
"""16 kbit/s: low for the speech codecs that phones and browsers record with, so that the
estimate is rather too long than too short: it bounds how long a job may run."""
MAX_ESTIMATE_S = 172_800.0
"""An estimate never says more than two days; a big file is rather well encoded than that long."""


class LengthSource(StrEnum):
    """Where a length comes from."""

    HEADER = "header"
    ESTIMATE = "estimate"


@dataclass(frozen=True)
class Length:
    """A recording's length in seconds, and how it is known."""

    duration_s: float
    source: LengthSource


def length_of(head: bytes, object_bytes: int) -> Length:
    """Tell a recording's length.

    Args:
        head: The object's first bytes, `riff.HEAD_BYTES` or fewer.
        object_bytes: The object's whole size.
    """
    try:
        header = parse_wav(head)
    except NotWav:
        estimate_s = min(object_bytes / ASSUMED_BYTES_PER_S, MAX_ESTIMATE_S)
        return Length(estimate_s, LengthSource.ESTIMATE)
    there = max(0, object_bytes - header.data_offset)
    data_bytes = there if header.data_bytes is None else min(header.data_bytes, there)
    return Length(data_bytes / header.bytes_per_s, LengthSource.HEADER)
