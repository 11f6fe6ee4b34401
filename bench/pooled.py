"""Several recordings together: rates of all their words, each with an interval.

Takes the `Counts` of each recording by each way of making a transcript; returns a table. Intervals
are of 95 %, by drawing as many recordings again (bootstrap); a single recording has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.scoring import Counts

DRAWS = 2_000
SEED = 16
FEWEST_WORDS = 10
"""Said in a recording: with fewer its rates mean nothing, and it is not pooled."""
RATES: dict[str, Callable[[Counts], tuple[int, int]]] = {
    "WER": lambda c: (c.edits, c.words),
    "cpWER": lambda c: (c.cp_edits, c.words),
    "cpWER − WER": lambda c: (c.cp_edits - c.edits, c.words),
    "right speaker": lambda c: (c.right, c.matched),
}
"""Of a group's counts together: parts and whole."""


def interval(
    counts: Sequence[Counts], rate: Callable[[Counts], tuple[int, int]]
) -> tuple[float, float] | None:
    """Return the 2.5th and 97.5th percentile of a rate; None of fewer than three recordings."""
    if len(counts) < 3:  # noqa: PLR2004  # two give a handful of draws
        return None
    parts = np.array([rate(one) for one in counts])
    draws = np.random.default_rng(SEED).integers(len(parts), size=(DRAWS, len(parts)))
    sums = parts[draws].sum(axis=1)
    low, high = np.percentile(sums[:, 0] / np.maximum(sums[:, 1], 1), [2.5, 97.5])
    return float(low), float(high)


def markdown(groups: Mapping[str, Mapping[str, Sequence[Counts]]]) -> str:
    """Lay out the table: a line for each way of each group.

    Args:
        groups: By name, and by the name of the way: its recordings' counts.
    """
    heads = " | ".join(RATES)
    lines = [
        f"| recordings | | {heads} | segments (of two speakers) |",
        "|---|---|" + "---:|" * (len(RATES) + 1),
    ]
    for group, ways in groups.items():
        for number, (way, counts) in enumerate(ways.items()):
            title = "" if number else f"{_title(group, counts)} "
            lines.append(f"| {title}| {way} | {_cells(counts)} |")
    return "\n".join(lines) + "\n"


def _title(group: str, counts: Sequence[Counts]) -> str:
    words = sum(one.words for one in counts)
    plural = "" if len(counts) == 1 else "s"
    return f"{group}: {len(counts)} recording{plural}, {words:,} words"


def _cells(counts: Sequence[Counts]) -> str:
    total = sum(counts[1:], counts[0])
    cells = [_cell(rate(total), interval(counts, rate)) for rate in RATES.values()]
    cells[-1] += f" of {total.matched:,}"
    return " | ".join([*cells, f"{total.segments} ({total.mixed})"])


def _cell(parts: tuple[int, int], bounds: tuple[float, float] | None) -> str:
    rate = f"{parts[0] / max(parts[1], 1):.1%}"
    return rate if bounds is None else f"{rate} [{bounds[0]:.1%}, {bounds[1]:.1%}]"
