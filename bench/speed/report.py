"""docs/benchmarks.md from docs/benchmarks.json.

Pure: takes and returns documents; `bench.speed.__main__` reads and writes the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.speed import tables
from bench.speed.targets import rows, threads_in_words

Parts = Mapping[str, Any]

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
PyanNet's are whisperx's own, turned from multi-label to powerset (`bench/speed/architectures.py`).
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
        lines += ["## Whole job", "", *tables.whole_jobs(recordings)]
        lines += ["## Parity", "", *tables.parity(recordings), ""]
    for part, title, text, lay_out in _SECTIONS:
        if part in parts:
            lines += [f"## {title}", "", text, *lay_out(parts), ""]
    return "\n".join(lines).rstrip() + "\n"


def _asked(parts: Parts) -> list[str]:
    lines = tables.table(("what", "at most", "measured", "met?"), rows(parts))
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
    ("floor", "Floor", FLOOR, tables.floor),
    ("stages", "Stages alone", STAGES, lambda parts: tables.stages(parts["stages"])),
    ("memory", "Memory", MEMORY, lambda parts: tables.memory(parts["memory"])),
    ("cold_start", "Cold start", COLD, lambda parts: tables.cold_start(parts["cold_start"])),
    ("throttled", "Slow downloads", THROTTLED, lambda parts: tables.throttled(parts["throttled"])),
    (
        "overhead",
        "Around the pipeline",
        OVERHEAD,
        lambda parts: tables.overhead(parts["overhead"]),
    ),
    ("threads", "Stock's threads", THREADS, lambda parts: tables.threads(parts["threads"])),
)
