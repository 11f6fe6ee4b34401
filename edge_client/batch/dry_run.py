"""``edge-client batch --dry-run``: what would run, a line each as it is found, and the sums.

Reads the bucket as a batch does; writes and posts nothing.

How long the recordings are that a batch would run: measured first, estimated from then on.

Takes `Item`s; yields a `Planned` each, in order. A length costs a ranged GET: for the first 500
it is read from the recording's header, for all others computed from the listed size, at the bytes
a second of those.

What a batch would come to: for people and for programs. Holds counts, never the bucket. Pure.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, TextIO

from edge_client.batch.listing import Later, Scope, in_order
from edge_client.batch.plan import Wishes, items
from edge_client.batch.types import Item, Need
from edge_client.errors import AudioNotFound
from edge_client.jobs.submit import measured
from edge_client.services.edge import Edge
from edge_client.services.presign import Length, LengthSource
from edge_client.text import audio_length, clock_time, safe_line, visible

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


GPU_FACTOR = 0.2
"""The seed's rented GPU took 892 s for 4,447 s of audio."""
GPU_S_A_JOB = 15.0
"""Assumed: fetching the recording, storing the transcript. Cold starts come on top."""
NAMED_AT_MOST = 20
_NAMED = {
    Need.NOT_MERGED: "not merged: {} (chunks, but no audio.wav yet)",
    Need.NO_AUDIO: "no audio: {}",
    Need.FAILED_BEFORE: "failed before: {} (--session, --retry-failed or --force run them)",
    Need.REFUSED: "refused: {}",
}


class Forecast:
    """The sums of a dry run.

    Args:
        limit: ``--limit``, if it was given.
        price_per_s: Of a GPU second, in any currency.
    """

    def __init__(self, limit: int | None = None, price_per_s: Decimal | None = None) -> None:
        self._limit, self._price = limit, price_per_s
        self.needs: Counter[Need] = Counter()
        self._audio_s: defaultdict[Need, float] = defaultdict(float)
        self._about = 0
        self._named: dict[Need, list[Item]] = {}

    def add(self, planned: Planned) -> None:
        """Count one more session."""
        need = planned.item.need
        self.needs[need] += 1
        self._audio_s[need] += planned.audio_s or 0.0
        self._about += planned.is_about
        named = self._named.setdefault(need, [])
        if need in _NAMED and len(named) < NAMED_AT_MOST:
            named.append(planned.item)

    @property
    def work(self) -> int:
        """How many sessions would be submitted or followed."""
        return self.needs[Need.SUBMIT] + self.needs[Need.FOLLOW]

    @property
    def gpu_s(self) -> float:
        """Estimated seconds of GPU time of what would be submitted."""
        jobs = self.needs[Need.SUBMIT]
        return GPU_FACTOR * self._audio_s[Need.SUBMIT] + GPU_S_A_JOB * jobs

    @property
    def is_cut_short(self) -> bool:
        """Whether the listing ended because there was as much work as was allowed."""
        return self._limit is not None and self.work >= self._limit

    def text(self, encoding: str = "utf-8") -> str:
        """Say it to people."""
        lines = [*self._work(), *self._others(encoding), f"already done: {self.needs[Need.DONE]:,}"]
        if self.is_cut_short:
            lines.append(f"the listing ended at --limit {self._limit}: there may be more")
        return "\n".join(lines)

    def _work(self) -> Iterator[str]:
        submitted, followed = self.needs[Need.SUBMIT], self.needs[Need.FOLLOW]
        if not self.work:
            yield "No sessions pending transcription"
        if submitted:
            about = "about " if self._about else ""
            audio = audio_length(self._audio_s[Need.SUBMIT])
            yield f"would submit: {_sessions(submitted)}, {about}{audio}"
            if self._about:
                yield f"  lengths: {submitted - self._about:,} measured, {self._about:,} estimated"
            yield f"  GPU time, estimated: {_span(self.gpu_s)}{self._cost()}" + (
                f" ({GPU_FACTOR} x audio + {GPU_S_A_JOB:.0f} s a job, without cold starts)"
            )
        if followed:
            audio = audio_length(self._audio_s[Need.FOLLOW])
            yield f"would follow: {_sessions(followed)}, {audio}"

    def _cost(self) -> str:
        return "" if self._price is None else f", cost {self._estimated_cost():,.2f}"

    def _estimated_cost(self) -> float:
        return self.gpu_s * float(self._price or 0)

    def _others(self, encoding: str) -> Iterator[str]:
        for need, text in _NAMED.items():
            count, named = self.needs[need], self._named.get(need, [])
            if not count:
                continue
            yield text.format(f"{count:,}")
            for item in named:
                prefix, why = visible(item.session.prefix, encoding), safe_line(item.why, encoding)
                yield f"  {prefix}: {why}"
            if count > len(named):
                yield f"  and {count - len(named):,} more"

    def facts(self) -> dict[str, Any]:
        """Say it to programs."""
        cost = None if self._price is None else round(self._estimated_cost(), 4)
        return {
            "sessions": {need.value: self.needs[need] for need in Need},
            "audio_seconds": round(self._audio_s[Need.SUBMIT], 3),
            "audio_seconds_followed": round(self._audio_s[Need.FOLLOW], 3),
            "lengths_estimated": self._about,
            "gpu_seconds_estimated": round(self.gpu_s, 3),
            "cost_estimated": cost,
            "ended_at_limit": self.is_cut_short,
        }


def _sessions(count: int) -> str:
    return f"{count:,} session{'' if count == 1 else 's'}"


def _span(seconds: float) -> str:
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


SESSION_CHARS = 44
_UNITS = ("B", "kB", "MB", "GB")
_HEADER = f"{'':6}  {'size':>9}  {'audio':>9}  {'session':{SESSION_CHARS}}  why\n"


def dry_run(edge: Edge, scope: Scope, wishes: Wishes, as_json: bool) -> int:
    """Print what a batch would run; return the exit code: 1 if something is refused.

    Raises:
        EdgeError: S3 does not answer, or refuses.
    """
    forecast = Forecast(wishes.limit, edge.settings.price_per_s)
    with (
        closing(items(edge, scope, wishes)) as found,
        closing(with_lengths(found, partial(_length, edge))) as planned,
    ):
        show(planned, forecast, as_json, sys.stdout)
    return 1 if forecast.needs[Need.REFUSED] else 0


def _length(edge: Edge, item: Item) -> Length | None:
    try:
        return measured(edge, item.session.audio_key)[0]
    except AudioNotFound:
        return None


def show(planned: Iterable[Planned], forecast: Forecast, as_json: bool, out: TextIO) -> None:
    """Print sessions as they come, and the sums at the end.

    Args:
        planned: The sessions.
        forecast: Sums them up.
        as_json: A JSON object a line: every session but those done, then ``summary``.
        out: Where to.
    """
    encoding = out.encoding or "utf-8"
    for one in planned:
        forecast.add(one)
        if as_json and one.item.need is not Need.DONE:
            out.write(_json(_facts(one)))
        elif not as_json and one.item.need.is_work:
            out.write(_HEADER if forecast.work == 1 else "")
            out.write(_line(one, encoding))
    if as_json:
        out.write(_json({"summary": forecast.facts()}))
    else:
        out.write(("\n" if forecast.work else "") + forecast.text(encoding) + "\n")


def _line(one: Planned, encoding: str) -> str:
    item = one.item
    size = "" if item.audio is None else _size(item.audio.size_bytes)
    audio = ("~" if one.is_about else "") + clock_time(one.audio_s or 0.0)
    session = visible(item.session.prefix, encoding)
    why = safe_line(item.why, encoding)
    return f"{item.need:6}  {size:>9}  {audio:>9}  {session:{SESSION_CHARS}}  {why}\n"


def _facts(one: Planned) -> dict[str, Any]:
    item, claim = one.item, one.item.held.claim if one.item.held is not None else None
    return {
        "session": item.session.prefix,
        "need": item.need.value,
        "why": item.why,
        "audio_bytes": None if item.audio is None else item.audio.size_bytes,
        "audio_seconds": None if one.audio_s is None else round(one.audio_s, 3),
        "is_estimated": one.is_about,
        "job_id": claim.job_id if claim is not None and item.need is Need.FOLLOW else None,
    }


def _json(facts: dict[str, Any]) -> str:
    return json.dumps(facts) + "\n"


def _size(size_bytes: int) -> str:
    power = min((len(str(size_bytes)) - 1) // 3, len(_UNITS) - 1)
    return f"{size_bytes / 1000**power:,.{1 if power else 0}f} {_UNITS[power]}"
