"""Markdown tables of what the parts measured: one function a section.

Each takes its part of ``docs/benchmarks.json`` and returns lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.speed.targets import floor_share, threads_in_words

Part = Mapping[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a table: the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


def whole_jobs(recordings: Mapping[str, Part]) -> list[str]:
    """Seconds by step, stock and ours, and their ratio."""
    lines: list[str] = []
    for name, found in recordings.items():
        lines += [f"### {name}, {found['duration_s']:.0f} s", ""]
        steps = [
            [step, *_sides(found, "steps_s", step), _ratio(found["ratio_by_step"].get(step))]
            for step in dict.fromkeys([*found["stock"]["steps_s"], *found["ours"]["steps_s"]])
        ]
        whole = ["**whole job**", *_sides(found, "wall_s"), _ratio(found["ratio"])]
        lines += table(("step", "stock s", "ours s", "ours / stock"), [*steps, whole])
        if "tuned" in found:
            tuned = found["tuned"]
            seconds = _seconds(tuned["seconds"]["wall_s"])
            lines += ["", f"Stock with its best threads: {seconds} s, {_ratio(tuned['ratio'])}."]
        own = ", ".join(
            f"{stage} {one['median']:.2f}" for stage, one in found["our_stages"].items()
        )
        lines += ["", f"Our own stages, seconds (those that overlap count twice): {own}.", ""]
    return lines


def parity(recordings: Mapping[str, Part]) -> list[str]:
    """Whether the transcripts are the same."""
    head = (
        "recording",
        "text",
        "sentences",
        "words",
        "equal, ≤ 1 ms",
        "largest shift s",
        "speaker of the word",
        "DER",
        "speakers",
        "every run alike",
    )
    return table(
        head,
        (
            (
                name,
                _equal(one["text_equal"]),
                _equal(one["sentences_equal"]),
                f"{one['words']} ({one['untimed_words']} untimed)",
                f"{one['words_equal']:.2%}",
                f"{one['largest_shift_s']:g}",
                f"{one['speakers_equal']:.2%}",
                f"{one['der']:.4f}",
                f"{one['speakers']} / {one['stock_speakers']}",
                "yes" if found["same_every_time"] else "**no**",
            )
            for name, found in recordings.items()
            for one in (found["parity"],)
        ),
    )


def floor(parts: Part) -> list[str]:
    """What the bare forwards cost, and how close the job comes."""
    part = parts["floor"]
    counts = list(part["by_threads_s"])
    lines = table(
        ("forward", *(f"{count} thread{'s' * (count != '1')} s" for count in counts)),
        (
            (f"`{model}`", *(f"{part['by_threads_s'][count][model]:.3f}" for count in counts))
            for model in part["forwards_s"]
        ),
    )
    text = f"Floor {part['floor_s']:.2f} s, packed floor {part['packed_floor_s']:.2f} s"
    if "english" in parts:
        shares = floor_share(parts), floor_share(parts, "packed_floor_s")
        text += f": {shares[0]:.1%} and {shares[1]:.1%} of the wall time of the same job"
    return [*lines, "", f"{text}."]


def stages(part: Part) -> list[str]:
    """Alignment and diarization alone."""
    rows = []
    for name, one in part["alignment"].items():
        what = f"alignment, {name}, {one['audio_s']:.0f} s, {one['segments']} segments"
        same = f"{one['parity']['words_equal']:.2%} of {one['parity']['words']} words"
        rows.append((what, *_both(one), same))
        if "without_forward" in one:
            rows.append(
                (f"alignment, {name}, without the forward", *_both(one["without_forward"]), "")
            )
    one = part["diarization"]
    same = "turns equal" if one["turns_equal"] else f"DER {one['der']:.4f}"
    rows.append(
        (f"diarization, ResNet34 and PyanNet 10 s, {one['audio_s']:.0f} s", *_both(one), same)
    )
    lines = table(("stage", "stock s", "ours s", "ours / stock", "the same"), rows)
    return [*lines, "", *_forward_shares(part["alignment"])]


def _forward_shares(aligners: Mapping[str, Part]) -> list[str]:
    """Say how much of stock's time no engine around the same forwards can save."""
    shares = {
        name: 1 - one["without_forward"]["stock"]["median"] / one["stock"]["median"]
        for name, one in aligners.items()
        if "without_forward" in one
    }
    text = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return [f"Forwards in stock's alignment, which ours runs too: {text} of its time."]


def memory(part: Part) -> list[str]:
    """Peak above the loaded models."""
    rows = [
        (
            side,
            *(f"{part[side][key] / (1 << 20):.0f}" for key in ("before", "added", "cuda")),
            f"{part[side]['wall_s']:.0f}",
        )
        for side in ("stock", "ours")
    ]
    rows.append(("ours / stock", "", f"{part['ratio']:.3f}", "", f"{part['wall_ratio']:.3f}"))
    head = ("", "models loaded MiB", "added by the job MiB", "torch on CUDA MiB", "job s")
    return table(head, rows)


def cold_start(part: Part) -> list[str]:
    """Moments of the worker, causes of loading one after the other."""
    moments = [(what, _seconds(one)) for what, one in part["worker"].items()]
    causes = [(what, _seconds(one)) for what, one in part["one after the other"].items()]
    causes.append(("first job", _seconds(part["first job"])))
    causes.append(("**first result**", _seconds(part["earlier first result"])))
    return [
        *table(("worker: moment", "s after the start"), moments),
        "",
        *table(("one after the other: cause", "s"), causes),
        "",
        f"Worker / one after the other: {_ratio(part['ratio'])}.",
    ]


def throttled(part: Part) -> list[str]:
    """Jobs whose recording comes slowly."""
    return table(
        ("download", "takes s", "job s", "job, unlimited s", "job / the longer one"),
        (
            (
                name,
                f"{one['download_s']:.2f}",
                _seconds(one["slow_s"]),
                _seconds(one["unlimited_s"]),
                _ratio(one["ratio"]),
            )
            for name, one in part.items()
            if isinstance(one, Mapping) and "download_s" in one
        ),
    )


def overhead(part: Part) -> list[str]:
    """What is around the pipeline."""
    return table(
        ("recording", "pipeline s", "of the added: delivery s", "added s", "added"),
        (
            (
                name,
                _seconds(one["pipeline_s"]),
                _seconds(one["deliver_s"]),
                _seconds(one["added_s"]),
                f"{one['added_share']['median']:.1%}",
            )
            for name, one in part.items()
            if isinstance(one, Mapping) and "added_s" in one
        ),
    )


def threads(part: Part) -> list[str]:
    """What was tried for stock."""
    return table(
        ("threads", "s"),
        ((threads_in_words(one["threads"]), f"{one['wall_s']:.1f}") for one in part["tried"]),
    )


def _sides(found: Part, *keys: str) -> list[str]:
    return [_seconds(_dig(found[side], keys)) for side in ("stock", "ours")]


def _dig(found: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        found = found.get(key) if found else None
    return found


def _both(found: Part) -> tuple[str, str, str]:
    return _seconds(found["stock"]), _seconds(found["ours"]), _ratio(found["ratio"])


def _seconds(figure: Part | None) -> str:
    if figure is None:
        return "–"
    text = f"{figure['median']:.2f}"
    return text if figure["runs"] == 1 else f"{text} ({figure['low']:.2f}–{figure['high']:.2f})"


def _ratio(figure: Part | None) -> str:
    if figure is None:
        return "–"
    text = f"{figure['median']:.3f}"
    return text if figure["runs"] == 1 else f"{text} ({figure['low']:.3f}–{figure['high']:.3f})"


def _equal(is_equal: bool) -> str:
    return "equal" if is_equal else "**differs**"
