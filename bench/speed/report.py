"""docs/benchmarks.md from docs/benchmarks.json: a table for each part.

Takes and returns documents; `bench.speed.__main__` reads and writes the files. A part that was not
measured is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Part = Mapping[str, Any]

INTRODUCTION = """\
# Benchmarks

For whoever asks how fast this is. `make bench` writes it from [benchmarks.json](benchmarks.json).
Figures are medians (lowest–highest run); ratios are ours / stock, by pairs.

- *Stock* is WhisperX's README recipe (`bench/stock.py`) with warm models; *ours* is the worker's
  runtime with `FIDELITY=stock`, from the job's input to the stored transcript; *default* is the
  worker as it comes, which decodes loops again, times what the aligner cannot and has LSTMs
  multiply in bfloat16 where the CPU does.
- Both use the same weights, number format otherwise and batch size, decode with PyAV, alternate,
  and run each time in a fresh process after a warm-up. Our stages run at once: one's seconds hold
  waiting for others.
- `telephone` is pyannote.audio's sample, a real call; the others are synthetic (`bench/speech`).
  `german` uses the multilingual model and, on both sides, the English aligner. `architectures` is
  `telephone` with production's architectures (wav2vec2 of the base size, WeSpeaker's ResNet34) and
  random weights, since the real ones are not available here.
"""


def merge(document: Part, part: str, measured: Part) -> dict[str, Any]:
    """Put what a part measured in the place of what the document has of it."""
    return {**document, "parts": {**document.get("parts", {}), part: dict(measured)}}


def markdown(document: Part) -> str:
    """Lay out the whole page; parts that were not measured are left out."""
    parts: Part = document.get("parts", {})
    recordings = {
        name: found
        for part in ("english", "german", "stages")
        for name, found in parts.get(part, {}).get("recordings", {}).items()
    }
    lines = [INTRODUCTION, *_machine(parts), ""]
    if recordings:
        lines += ["## Whole job", "", *_whole_jobs(recordings), ""]
        lines += ["## Parity", "", *_parity(recordings), ""]
    for name, lay_out in (("memory", _memory), ("cold_start", _cold_start)):
        if name in parts:
            lines += [*lay_out(parts[name]), ""]
    return "\n".join(lines).rstrip() + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a table: the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


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
    return [f"Measured {words} Parts: {', '.join(of)}." for words, of in by_machine.items()]


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
                "yes" if recording["same_every_time"] else "**no**",
            )
        )
    return table(head, found)


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
    """When the worker gave its first result, and when stock gave its."""
    worker, stock = _seconds(part["worker"]), _seconds(part["stock"])
    return [
        "## Cold start\n",
        "`handler.py` with `telephone` as its first job, against a process that goes through",
        f"stock's recipe: first result after {worker} s, stock's after {stock} s.",
        f"Ratio: {_ratio(part['ratio'])}.",
    ]


def _seconds(figure: Part, digits: int = 2) -> str:
    median, low, high = (f"{figure[key]:.{digits}f}" for key in ("median", "low", "high"))
    return median if figure["runs"] == 1 else f"{median} ({low}–{high})"


def _ratio(figure: Part) -> str:
    return _seconds(figure, 3)
