"""docs/benchmarks.md from docs/benchmarks.json: what was asked for, and a table for each part.

Takes and returns documents; `bench.speed.__main__` reads and writes the files. A part that was not
measured is left out, and stays open among the targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.speed.inputs import MEETING

Part = Mapping[str, Any]

INTRODUCTION = """\
# Benchmarks

For whoever asks how fast this is. `make bench` writes it from [benchmarks.json](benchmarks.json).
Figures are medians (lowest–highest run); ratios are ours / stock, by pairs.

- *Stock* is WhisperX's README recipe (`bench/stock.py`) with warm models; *ours* is the worker's
  runtime with `FIDELITY=stock`, from the job's input to the stored transcript; *default* is the
  worker as it comes, which decodes loops again and times what the aligner cannot.
- Both use the same weights, number format and batch size, decode with PyAV, alternate, and run each
  time in a fresh process after a warm-up.
- `telephone` is pyannote.audio's sample, a real call; the others are synthetic (`bench/speech`).
  `german` uses the multilingual model and, on both sides, the English aligner.
"""
_MEETING = f"english / recordings / {MEETING.name}"
_WHOLE = "whole job, warm, demo weights, 5-minute dialogue"
_WITHOUT = "stages / alignment / demo / without_forward / ratio"
TARGETS: tuple[tuple[str, float, str], ...] = (
    (f"{_WHOLE}, against stock as its README writes it", 0.40, f"{_MEETING} / default / ratio"),
    ("the same with `FIDELITY=stock`", 0.34, f"{_MEETING} / ratio"),
    ("alignment without the model forward", 0.10, _WITHOUT),
    ("alignment, WAV2VEC2_BASE architecture", 0.60, "stages / alignment / wav2vec2-base / ratio"),
    ("diarization, WeSpeaker ResNet34 architecture", 0.45, "stages / diarization / ratio"),
    ("peak RSS of the job over the loaded models, 30-minute recording", 0.50, "memory / ratio"),
    ("cold start to first result, against one after the other", 0.70, "cold_start / ratio"),
)
"""What, the most that is allowed, and where among the parts the figure is (`dig`)."""


def merge(document: Part, part: str, measured: Part) -> dict[str, Any]:
    """Put what a part measured in the place of what the document has of it."""
    return {**document, "parts": {**document.get("parts", {}), part: dict(measured)}}


def markdown(document: Part) -> str:
    """Lay out the whole page; parts that were not measured are left out."""
    parts: Part = document.get("parts", {})
    recordings = {
        name: found
        for part in ("english", "german")
        for name, found in parts.get(part, {}).get("recordings", {}).items()
    }
    asked = table(("what", "at most", "measured", "met?"), rows(parts))
    lines = [INTRODUCTION, *_machine(parts), "", "## What was asked for", "", *asked, ""]
    if recordings:
        lines += ["## Whole job", "", *_whole_jobs(recordings), ""]
        lines += ["## Parity", "", *_parity(recordings), ""]
    for name, lay_out in (("stages", _stages), ("memory", _memory), ("cold_start", _cold_start)):
        if name in parts:
            lines += [*lay_out(parts[name]), ""]
    return "\n".join(lines).rstrip() + "\n"


def rows(parts: Part) -> list[tuple[str, str, str, str]]:
    """Return the rows of what was asked for: what, limit, measured, whether it is met."""
    return [_row(what, limit, dig(parts, path)) for what, limit, path in TARGETS]


def dig(found: Any, path: str) -> Any:
    """Follow names separated by `` / ``, to a figure's median; None where one is missing."""
    for key in path.split(" / "):
        found = found.get(key) if found else None
    return found["median"] if isinstance(found, Mapping) else found


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a table: the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


def _row(what: str, limit: float, value: float | None) -> tuple[str, str, str, str]:
    measured = ("–", "not measured") if value is None else (f"{value:.3f}", _met(value <= limit))
    return what, f"{limit:.2f}", *measured


def _machine(parts: Part) -> list[str]:
    """Name what each part was measured on."""
    by_machine: dict[str, list[str]] = {}
    for name, part in parts.items():
        one = part["machine"]
        versions = ", ".join(f"{library} {v}" for library, v in one["versions"].items())
        words = (
            f"{one['cores']} cores ({one['cpu']}), {one['ram_gib']} GiB, {one['gpu'] or 'no GPU'}; "
            f"Python {one['python']}, {versions}."
        )
        by_machine.setdefault(f"{part['date']} on {words}", []).append(name)
    lines = [f"Measured {words} Parts: {', '.join(of)}." for words, of in by_machine.items()]
    without = [name for name, part in parts.items() if not part["machine"]["gpu"]]
    if without:
        which = "all parts" if len(without) == len(parts) else ", ".join(without)
        lines.append(f"\n**Measured on a CPU only so far:** {which}.")
    return lines


def _whole_jobs(recordings: Mapping[str, Part]) -> list[str]:
    """Seconds of the whole job, and the ratio of it and of its longest stages."""
    steps = ("transcribe", "align", "diarize")
    head = ("recording", "", "s", "/ stock", *steps)
    rows = []
    for name, found in recordings.items():
        title = f"{name}, {found['duration_s']:.0f} s"
        rows.append((title, "stock", _seconds(found["stock"]["wall_s"]), *[""] * 4))
        for side, one in (("ours", found), ("default", found["default"])):
            by_step = (f"{one['ratio_by_step'][step]['median']:.3f}" for step in steps)
            seconds = _seconds(found[side]["wall_s"])
            rows.append(("", side, seconds, _ratio(one["ratio"]), *by_step))
    return table(head, rows)


def _parity(recordings: Mapping[str, Part]) -> list[str]:
    """Whether the transcripts are the same."""
    head = ("recording", "text, sentences", "words ≤ 1 ms", "shift s", "speakers", "DER", "stable")
    found = []
    for name, recording in recordings.items():
        one = recording["parity"]
        is_equal = one["text_equal"] and one["sentences_equal"]
        found.append(
            (
                name,
                "equal" if is_equal else "**differ**",
                f"{one['words_equal']:.2%} of {one['words']}",
                f"{one['largest_shift_s']:g}",
                f"{one['speakers_equal']:.2%}",
                f"{one['der']:.4f}",
                _met(recording["same_every_time"]),
            )
        )
    return table(head, found)


def _stages(part: Part) -> list[str]:
    """Alignment and diarization alone, and what no engine around the same forwards can save."""
    found, shares = [], []
    for name, one in part["alignment"].items():
        what = f"alignment, {name}, {one['audio_s']:.0f} s, {one['segments']} segments"
        same = f"{one['parity']['words_equal']:.2%} of {one['parity']['words']} words"
        found.append((what, *_both(one), same))
        if "without_forward" in one:
            without = one["without_forward"]
            found.append((f"alignment, {name}, without the forward", *_both(without), ""))
            share = 1 - without["stock"]["median"] / one["stock"]["median"]
            shares.append(f"{name} {share:.0%}")
    one = part["diarization"]
    what = f"diarization, ResNet34 and PyanNet 10 s, {one['audio_s']:.0f} s"
    same = "turns equal" if one["turns_equal"] else f"DER {one['der']:.4f}"
    found.append((what, *_both(one), same))
    return [
        "## Stages alone\n",
        "Production architectures with seeded random weights: the real ones are not available",
        "here.\n",
        *table(("stage", "stock s", "ours s", "ours / stock", "the same"), found),
        "",
        f"Forwards in stock's alignment, which ours runs too: {', '.join(shares)} of its time.",
    ]


def _memory(part: Part) -> list[str]:
    """Peak above the loaded models."""
    found = [
        (
            side,
            *(f"{part[side][key] / (1 << 20):.0f}" for key in ("before", "added", "cuda")),
            f"{part[side]['wall_s']:.0f}",
        )
        for side in ("stock", "ours")
    ]
    found.append(("ours / stock", "", f"{part['ratio']:.3f}", "", f"{part['wall_ratio']:.3f}"))
    head = ("", "models loaded MiB", "added by the job MiB", "torch on CUDA MiB", "job s")
    text = "Peak resident memory during a job of half an hour, above that of the loaded models."
    return ["## Memory\n", f"{text}\n", *table(head, found)]


def _cold_start(part: Part) -> list[str]:
    """When the worker was ready and gave its first result, and when a sequence would have."""
    ready, first = (_seconds(part["worker"][what]) for what in ("models ready", "first result"))
    earlier, ratio = _seconds(part["earlier first result"]), _ratio(part["ratio"])
    return [
        "## Cold start\n",
        "`handler.py` with `telephone` as its first job, against the same imports, models and",
        "job in sequence.\n",
        f"Models ready after {ready} s, first result after {first} s; one after the other, first",
        f"result after {earlier} s. Ratio of the first results: {ratio}.",
    ]


def _both(found: Part) -> tuple[str, str, str]:
    return _seconds(found["stock"]), _seconds(found["ours"]), _ratio(found["ratio"])


def _seconds(figure: Part, digits: int = 2) -> str:
    median, low, high = (f"{figure[key]:.{digits}f}" for key in ("median", "low", "high"))
    return median if figure["runs"] == 1 else f"{median} ({low}–{high})"


def _ratio(figure: Part) -> str:
    return _seconds(figure, 3)


def _met(is_met: bool) -> str:
    return "yes" if is_met else "**no**"
