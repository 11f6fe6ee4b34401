"""How long the recordings are that a batch would run: measured first, estimated from then on.

Takes `Item`s; yields a `Planned` each, in order. A length costs a ranged GET: for the first 500
it is read from the recording's header, for all others computed from the listed size, at the bytes
a second of those.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from edge_client.batch.in_order import Later, in_order
from edge_client.batch.values import Item, Need
from edge_client.recording import Length, LengthSource

MEASURED_AT_MOST = 500
READERS = 4
DRAWN_AHEAD = 64
WAV_BYTES_PER_S = 32_000.0
"""16 kHz, 16 bits, mono: what the seed's recordings are."""

Measure = Callable[[Item], Length | None]


@dataclass(frozen=True, slots=True)
class Planned:
    """What a session needs, and for how much audio.

    Attributes:
        audio_s: Seconds; None where nothing would run.
        is_about: They are an estimate.
    """

    item: Item
    audio_s: float | None = None
    is_about: bool = False


def with_lengths(
    items: Iterable[Item], measure: Measure, at_most: int = MEASURED_AT_MOST
) -> Generator[Planned, None, None]:
    """Add to each session that would run how long its recording is.

    Args:
        items: From the triage.
        measure: Reads a recording's length, in a thread; None if it is gone.
        at_most: So many are measured.
    """
    rate = _Rate()
    measured = in_order(_measured(items, measure, at_most), workers=READERS, ahead=DRAWN_AHEAD)
    for item, length in measured:
        yield rate.planned(item, length)


_Measured = tuple[Item, Length | None]


def _measured(
    items: Iterable[Item], measure: Measure, left: int
) -> Iterator[_Measured | Later[_Measured]]:
    for item in items:
        if item.need is Need.SUBMIT and left > 0:
            left -= 1
            yield Later(partial(_with_length, item, measure))
        else:
            yield item, None


def _with_length(item: Item, measure: Measure) -> _Measured:
    return item, measure(item)


class _Rate:
    """How many bytes a second of the recordings takes, as far as they were measured."""

    def __init__(self) -> None:
        self._bytes = self._seconds = 0.0

    def planned(self, item: Item, length: Length | None) -> Planned:
        """Return a session's length, the best that is known."""
        if not item.need.is_work:
            return Planned(item)
        if item.need is Need.FOLLOW and item.held is not None and item.held.claim is not None:
            return Planned(item, item.held.claim.duration_s)
        size_bytes = item.audio.size_bytes if item.audio is not None else 0
        if length is None:
            return Planned(item, size_bytes / self._bytes_per_s, is_about=True)
        if length.source is not LengthSource.HEADER:
            return Planned(item, length.duration_s, is_about=True)
        self._bytes += size_bytes
        self._seconds += length.duration_s
        return Planned(item, length.duration_s)

    @property
    def _bytes_per_s(self) -> float:
        return self._bytes / self._seconds if self._seconds else WAV_BYTES_PER_S
