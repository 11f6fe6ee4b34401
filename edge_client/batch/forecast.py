"""What a batch would come to: for people and for programs. Holds counts, never the bucket. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from edge_client.batch.lengths import Planned
from edge_client.batch.printable import audio_length, safe_line, visible
from edge_client.batch.values import Item, Need

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
