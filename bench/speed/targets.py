"""What was asked for, and whether it is met.

Takes the parts of ``docs/benchmarks.json``; a row whose part was not measured stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.speed.inputs import MEETING, TELEPHONE
from bench.speed.summaries import efficiency

Parts = Mapping[str, Any]
ADDED_S = 0.3
ADDED_SHARE = 0.02


@dataclass(frozen=True)
class Target:
    """One row.

    Attributes:
        what: In words.
        limit: The most that is allowed, or the least where `at_least`.
        measure: Finds the figure in the parts; raises KeyError where it was not measured.
        at_least: Whether more is better.
    """

    what: str
    limit: float
    measure: Callable[[Parts], float]
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """Whether a figure is within the limit."""
        return value >= self.limit if self.at_least else value <= self.limit


def whole_job(parts: Parts) -> Any:
    """Return the meeting's figures."""
    return parts["english"]["recordings"][MEETING.name]


def floor_share(parts: Parts, floor: str = "floor_s") -> float:
    """Return which part of the meeting's wall time the bare forwards would need."""
    return efficiency(parts["floor"][floor], whole_job(parts)["ours"]["wall_s"]["median"])


def threads_in_words(threads: Mapping[str, Any]) -> str:
    """Say what a setting is."""
    whisper = threads["whisper"] or "4 (whisperx's own)"
    torch = threads["torch"] or "the cores (its own)"
    again = ", set again after each transcription" if threads["again"] else ""
    return f"CTranslate2 {whisper}, torch {torch}{again}"


TARGETS = (
    Target(
        "whole job, warm, demo weights, 5-minute dialogue, against stock as its README writes it",
        0.40,
        lambda parts: float(whole_job(parts)["ratio"]["median"]),
    ),
    Target(
        "the same against stock with the best thread settings found for it",
        0.55,
        lambda parts: float(whole_job(parts)["tuned"]["ratio"]["median"]),
    ),
    Target(
        "alignment without the model forward",
        0.10,
        lambda parts: float(
            parts["stages"]["alignment"]["demo"]["without_forward"]["ratio"]["median"]
        ),
    ),
    Target(
        "alignment, whole stage, WAV2VEC2_BASE architecture",
        0.60,
        lambda parts: float(parts["stages"]["alignment"]["wav2vec2-base"]["ratio"]["median"]),
    ),
    Target(
        "diarization, WeSpeaker ResNet34 architecture",
        0.45,
        lambda parts: float(parts["stages"]["diarization"]["ratio"]["median"]),
    ),
    Target(
        "peak RSS of the job over the loaded models, 30-minute recording",
        0.50,
        lambda parts: float(parts["memory"]["ratio"]),
    ),
    Target("efficiency floor / wall, whole job", 0.85, floor_share, at_least=True),
    Target(
        "cold start to first result, against loading one after the other",
        0.70,
        lambda parts: float(parts["cold_start"]["ratio"]["median"]),
    ),
    Target(
        "time with the download throttled to 20 MB/s, against max(download, compute)",
        1.15,
        lambda parts: float(parts["throttled"]["20 MB/s"]["ratio"]["median"]),
    ),
)


def rows(parts: Parts) -> list[tuple[str, str, str, str]]:
    """Return the table: what, limit, measured, whether it is met."""
    return [*(_row(target, parts) for target in TARGETS), _overhead(parts)]


def _row(target: Target, parts: Parts) -> tuple[str, str, str, str]:
    limit = f"{'≥ ' if target.at_least else ''}{target.limit:.2f}"
    try:
        value = target.measure(parts)
    except KeyError:
        return target.what, limit, "–", "not measured"
    return target.what, limit, f"{value:.3f}", "yes" if target.is_met(value) else "**no**"


def _overhead(parts: Parts) -> tuple[str, str, str, str]:
    """Handle the row with two limits: either will do, on every recording."""
    what = "what handler, queue and delivery add to the pipeline's own wall time"
    limit = f"{ADDED_SHARE:.0%} or {ADDED_S:g} s"
    try:
        found = [parts["overhead"][name] for name in (TELEPHONE, MEETING.name)]
    except KeyError:
        return what, limit, "–", "not measured"
    measured = [(one["added_s"]["median"], one["added_share"]["median"]) for one in found]
    is_met = all(seconds <= ADDED_S or share <= ADDED_SHARE for seconds, share in measured)
    text = "; ".join(f"{seconds:.2f} s, {share:.1%}" for seconds, share in measured)
    return what, limit, text, "yes" if is_met else "**no**"
