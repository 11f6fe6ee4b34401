"""docs/benchmarks.md from docs/benchmarks.json.

Pure: takes and returns documents; `bench.speed.__main__` reads and writes the files.

What was asked for, and whether it is met.

Takes the parts of ``docs/benchmarks.json``; a row whose part was not measured stays open.

Markdown tables of what the parts measured: one function a section.

Each takes its part of ``docs/benchmarks.json`` and returns lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.speed.inputs import MEETING, TELEPHONE
from bench.speed.measure import efficiency

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


INTRODUCTION = """\
# Benchmarks

Written by `make bench` from [benchmarks.json](benchmarks.json); do not edit. Every figure is a
median, with the lowest and the highest run in brackets; ratios are ours / stock, taken pair by
pair, so less is faster.

- *Stock* is WhisperX's README recipe by its public functions alone (`bench/stock.py`): load_audio,
  transcribe, align, DiarizationPipeline, assign_word_speakers; models warm, the aligner loaded
  once, threads left alone. *Ours* is the worker's runtime with its real models; its time begins
  with the job's input and ends when storage has the transcript.
- Both run on the same weights, number format and batch, in turns (A B A B), each time in a fresh
  process, after a warm-up on the beginning of the first recording.
- There is no ffmpeg command where this runs: on both sides FFmpeg's libraries decode (PyAV), stock
  from a file, ours after a fetch over HTTP on loopback. Both are inside the whole job, as *load*.
- Recordings: `telephone` is pyannote.audio's sample, two people on a real line; `meeting`, `panel`
  and `half-hour` are put together from the synthetic speech in `bench/speech` by a seed (the same
  samples on every machine); `german` is synthetic too, with the multilingual model, and aligned
  with the English aligner on both sides, since the demo profile has no German one.
"""

FLOOR = """\
What goes into each model in our own run of `meeting`, done again with nothing around it, one
after the other; torch's in a process without CTranslate2. The floor takes each forward at the
number of threads that is fastest for it. A job that overlaps its stages can beat it, so the packed
floor is given too: one thread each, spread over all cores without a gap, which no run can reach.
"""
STAGES = """\
After a whole job in the same process, as in a worker that has been at work. The architectures are
those of production, their weights are seeded and random, since real ones cannot be had here; only
PyanNet's are whisperx's own, turned from multi-label to powerset (`bench/speed/stages.py`).
"""
MEMORY = """\
The kernel's peak of resident memory (and of child processes, were there any) during one job of
half an hour, above what was resident once the models were loaded. Without a warm-up.
"""
COLD = """\
The worker is `handler.py`, given the telephone sample as its first job when it starts. *One after
the other* is what loading costs with imports and models in sequence; the first job after that is
the one of a worker that is ready. See `bench/cold_start.py`.
"""
THROTTLED = """\
One warm worker, `meeting`. *The longer one* is the download or the unlimited job. In the second
row the recording comes just as fast as it is worked on: what does not overlap shows there.
"""
OVERHEAD = """\
The development stack end to end: from the moment the queue has the job to the moment it has the
answer, less the pipeline's own time in the same run without its delivery.
"""
THREADS = """\
Tried once, on a minute of speech, and used again on machines with as many cores. CTranslate2 and
torch share one OpenMP pool and overwrite each other's number of threads.
"""


def merge(document: Mapping[str, Any], part: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Put what a part measured in the place of what the document has of it."""
    return {**document, "parts": {**document.get("parts", {}), part: dict(measured)}}


def markdown(document: Mapping[str, Any]) -> str:
    """Lay out the whole page; parts that were not measured are left out."""
    parts: Parts = document.get("parts", {})
    recordings = {
        name: found
        for part in ("english", "german")
        for name, found in parts.get(part, {}).get("recordings", {}).items()
    }
    lines = [INTRODUCTION, *_machine(parts), "", "## What was asked for", "", *_asked(parts), ""]
    if recordings:
        lines += ["## Whole job", "", *whole_jobs(recordings)]
        lines += ["## Parity", "", *parity(recordings), ""]
    for part, title, text, lay_out in _SECTIONS:
        if part in parts:
            lines += [f"## {title}", "", text, *lay_out(parts), ""]
    return "\n".join(lines).rstrip() + "\n"


def _asked(parts: Parts) -> list[str]:
    lines = table(("what", "at most", "measured", "met?"), rows(parts))
    if "english" in parts:
        threads = threads_in_words(parts["english"]["tuned_threads"])
        lines += ["", f"Best threads found for stock: {threads}."]
    return lines


def _machine(parts: Parts) -> list[str]:
    """Name what it was measured on; once, where all parts have it in common."""
    by_machine: dict[str, list[str]] = {}
    for name, part in parts.items():
        by_machine.setdefault(_in_words(part["machine"]), []).append(f"{name} {part['date']}")
    lines = [f"Measured on {machine} Parts: {', '.join(m)}." for machine, m in by_machine.items()]
    without = [name for name, part in parts.items() if not part["machine"]["gpu"]]
    if without:
        lines.append(f"\n**Measured on a CPU only so far:** {', '.join(without)}.")
    return lines


def _in_words(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    gpu = machine["gpu"] or "no GPU"
    return (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['ram_gib']} GiB, {gpu}; "
        f"Python {machine['python']}, {versions}."
    )


Section = tuple[str, str, str, Callable[[Parts], list[str]]]
_SECTIONS: tuple[Section, ...] = (
    ("floor", "Floor", FLOOR, floor),
    ("stages", "Stages alone", STAGES, lambda parts: stages(parts["stages"])),
    ("memory", "Memory", MEMORY, lambda parts: memory(parts["memory"])),
    ("cold_start", "Cold start", COLD, lambda parts: cold_start(parts["cold_start"])),
    ("throttled", "Slow downloads", THROTTLED, lambda parts: throttled(parts["throttled"])),
    (
        "overhead",
        "Around the pipeline",
        OVERHEAD,
        lambda parts: overhead(parts["overhead"]),
    ),
    ("threads", "Stock's threads", THREADS, lambda parts: threads(parts["threads"])),
)
