"""Ours next to stock: where it is worse, and the table.

Pure: takes `Score`s; returns complaints, Markdown and JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.scoring import COLLAR_S, Score

TOLERANCES: dict[str, float] = {
    "wer": 0.005,
    "cpwer": 0.01,
    "der": 0.01,
    "der_no_collar": 0.01,
    "first_word_median_s": 0.005,
    "first_word_p90_s": 0.02,
}
"""How much worse than stock a figure may be, absolute: rates are parts of one, times seconds."""


@dataclass(frozen=True)
class Comparison:
    """One recording, both ways.

    Attributes:
        recording: Its name.
        duration_s: Its length.
        ours: From ``transcription.json``, through the whole path.
        stock: From WhisperX's functions, on the same weights.
        diarizer_der: DER of stock's diarizer by its own turns, before they are put on words,
            with `COLLAR_S`.
    """

    recording: str
    duration_s: float
    ours: Score
    stock: Score
    diarizer_der: float


def complaints(comparison: Comparison) -> list[str]:
    """Say in what ours is worse than stock by more than `TOLERANCES`; empty: in nothing."""
    ours, stock = comparison.ours, comparison.stock
    worse = [
        f"{comparison.recording}: {name} {_plain(getattr(ours, name))}, "
        f"stock {_plain(getattr(stock, name))}, tolerance {tolerance}"
        for name, tolerance in TOLERANCES.items()
        if _is_worse(getattr(ours, name), getattr(stock, name), tolerance)
    ]
    if _miscounted(ours) > _miscounted(stock):
        worse.append(
            f"{comparison.recording}: {ours.speakers_found} speakers for {ours.speakers_true}, "
            f"stock {stock.speakers_found}"
        )
    if ours.first_words < stock.first_words:
        worse.append(
            f"{comparison.recording}: {ours.first_words} first words found, "
            f"stock {stock.first_words}"
        )
    return worse


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Lay out the table, two lines a recording, ours first."""
    lines = [
        f"| recording | | WER | cpWER | DER ({COLLAR_S:g} s) | DER (no collar) | speakers "
        "| first words, error ms (median / p90) |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for comparison in comparisons:
        title = f"{comparison.recording}, {comparison.duration_s:.0f} s"
        lines.append(f"| {title} | ours | {_cells(comparison.ours)} |")
        lines.append(f"| | stock | {_cells(comparison.stock)} |")
    return "\n".join(lines) + "\n"


def diarizer_markdown(comparisons: Sequence[Comparison]) -> str:
    """Lay out what stock's diarizer reaches before its turns are put on words."""
    head = f"| recording | DER of the diarizer's own turns ({COLLAR_S:g} s) |\n|---|---:|\n"
    return head + "".join(f"| {c.recording} | {c.diarizer_der:.1%} |\n" for c in comparisons)


def to_json(comparisons: Sequence[Comparison], models: dict[str, str]) -> str:
    """Write the figures for programs; rates are parts of one, times are seconds."""
    document = {
        "collar_s": COLLAR_S,
        "tolerances": TOLERANCES,
        "models": models,
        "recordings": [_rounded(asdict(comparison)) for comparison in comparisons],
    }
    return json.dumps(document, indent=2) + "\n"


def _is_worse(ours: float | None, stock: float | None, tolerance: float) -> bool:
    if stock is None:
        return False
    return ours is None or ours > stock + tolerance


def _miscounted(score: Score) -> int:
    return abs(score.speakers_found - score.speakers_true)


def _cells(score: Score) -> str:
    return " | ".join(
        [
            f"{score.wer:.1%}",
            f"{score.cpwer:.1%}",
            f"{score.der:.1%}",
            f"{score.der_no_collar:.1%}",
            f"{score.speakers_found} of {score.speakers_true}",
            f"{score.first_words}: {_ms(score.first_word_median_s)}"
            f" / {_ms(score.first_word_p90_s)}",
        ]
    )


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.0f}"


def _plain(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _rounded(value: Any) -> Any:
    """Round floats to what is measured, so that a rerun changes a file only when it says so."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value
