"""``python -m bench.gpu_check``: what the first person with a card wants to know, in one command.

The worker's health checks, the same jobs on CPU and card, whole jobs against stock, memory by
batch: each in a process of its own. Writes ``gpu-check.json``, and its tables as ``gpu-check.md``,
a chapter for docs/benchmarks.md. Without a card the same tables, with the card's columns empty.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench import corpus, scoring, stock
from bench.corpus import ROOT, SAMPLE_RATE_HZ, read_recording
from bench.speed.measure import describe, synchronize
from bench.speed.report import table
from bench.speed.sides import Worker, run_process
from devstack.demo import telephone_wav

Row = dict[str, Any]
CPU, CARD = "cpu", "cuda"
NAMES, SIDES = {CPU: "CPU", CARD: "card"}, ("stock", "ours")
FIXTURES = (telephone_wav(), ROOT / "tests" / "data" / "short.flac")
LONG_S, RUNS, LONG_RUNS = 4_447, {CPU: 1, CARD: 3}, 1
EARLIER = f"The worker before this one took 450 to 892 s for {LONG_S:,} s of audio, on rented GPUs."
BATCHES = {CPU: (1,), CARD: (1, 2, 4, 8, 16, 32)}
CHUNK = 30 * SAMPLE_RATE_HZ
DRIVER = Path("/proc/driver/nvidia/version")
NOT_WORTH = "**Not for docs/benchmarks.md:** it wants a card, and production's weights."


def check_fitness(models: Path, device: str) -> dict[str, float | str]:
    """Run the worker's checks, and then all models once more; return seconds, or what is wrong.

    On the CPU, where no check asks for it, the models are run too.
    """
    from worker.host.health import Unhealthy

    runtime, checks = Worker(models, device=device).runtime, list[Callable[[], object]]()
    runtime.register_checks(checks.append)
    named = {getattr(check, "__name__", ""): check for check in checks}
    named["runs_them_again"] = lambda: runtime.load().rehearse()
    if device == CPU:
        named["gpu_runs_the_models"] = named["runs_them_again"]
        del named["gpu_runs_a_kernel"]
    found: dict[str, float | str] = {}
    for name, check in named.items():
        started = time.perf_counter()
        try:
            check()
        except Unhealthy as exc:
            return found | {name: str(exc)}
        found[name] = round(time.perf_counter() - started, 2)
    return found


def hear(models: Path, device: str) -> list[dict[str, Any]]:
    """Return the transcripts of the fixtures in float32."""
    worker = Worker(models, device=device, compute_type="float32")
    return [_hear(worker, recording) for recording in FIXTURES]


def _hear(worker: Worker, recording: Path) -> dict[str, Any]:
    """Run a job that carries recording and transcript itself; return the transcript."""
    return worker.do({"audio_base64": base64.b64encode(recording.read_bytes()).decode()})


def compare(on_cpu: Mapping[str, Any], on_card: Mapping[str, Any] | None) -> Row:
    """Compare two transcripts of a recording; shares are of the CPU's words."""
    cpu, card = (corpus.read_transcript(each) for each in (on_cpu, on_card or on_cpu))
    found = scoring.compare(card, cpu, on_cpu["duration_seconds"])
    shares = {"same within 1 ms": "words_equal", "same speaker": "speakers_equal"}
    shares |= {"largest shift s": "largest_shift_s", "same text": "text_equal"}
    return {"words": len(cpu.words), "speakers": len(cpu.speakers)} | {
        column: found[key] if on_card else None for column, key in shares.items()
    }


def time_jobs(side: str, models: Path, device: str, recordings: Sequence[Path]) -> list[float]:
    """Return the median seconds of each recording, with loaded models and after a warm-up."""
    run = _load(side, models, device)
    run(recordings[0])
    medians = []
    for recording, runs in zip(recordings, (RUNS[device], LONG_RUNS), strict=False):
        taken = []
        for _ in range(runs):
            started = time.perf_counter()
            run(recording)
            synchronize()
            taken.append(time.perf_counter() - started)
        medians.append(round(median(taken), 2))
    return medians


def _load(side: str, models: Path, device: str) -> Callable[[Path], object]:
    """Load a side; stock with what the worker would take of the device."""
    worker = Worker(models, device=device)
    if side == "ours":
        return partial(_hear, worker)
    folder = worker.runtime.find_models()
    recipe = stock.Recipe(folder.whisper_name).as_the_worker(worker.runtime.settings, folder)
    return partial(stock.transcribe, stock.load_models(folder.path, recipe))


def measure_memory(models: Path, device: str) -> list[Row]:
    """Run each stage by itself with batch after batch, until memory runs out.

    Both libraries keep what they once had: what the card holds after a batch is its peak.
    """
    import torch

    from worker.memory import is_out_of_memory, peaks_mb
    from worker.models.device import SLICE_BYTES, WINDOW_BYTES, WhisperShape

    loaded = Worker(models, device=device).runtime.load()
    loaded.get_ready_for_more()
    shape = WhisperShape.read(loaded.folder.locate(loaded.folder.whisper.path) / "model.bin")
    reckoned = (shape.chunk_bytes, WINDOW_BYTES, SLICE_BYTES)
    rows = list[Row]()
    for (stage, run), item_bytes in zip(_stages(loaded).items(), reckoned, strict=True):
        before_mb = peaks_mb().get("cuda_used_mb", 0)
        for batch in BATCHES[device]:
            started = time.perf_counter()
            try:
                run(batch)
            except (RuntimeError, MemoryError) as exc:
                if is_out_of_memory(exc):
                    break
                raise
            synchronize()
            seconds = round(time.perf_counter() - started, 2)
            row: Row = {"stage": stage, "batch": batch, "CPU s": None, "card s": None}
            row[f"{NAMES[device]} s"] = seconds
            row["card MB"] = peaks_mb()["cuda_used_mb"] - before_mb if device == CARD else None
            rows.append(row | {"reckoned MB": round(batch * item_bytes / 1e6)})
        torch.cuda.empty_cache()
    return rows


def _stages(loaded: Any) -> dict[str, Callable[[int], object]]:
    """Return what runs so many items of a stage at once, on real speech."""
    import torch

    from worker.engines.alignment.acoustic import log_probabilities
    from worker.engines.diarization.embeddings import embedder_of
    from worker.engines.segmentation import Segmenter, embedding_of, segmentation_of
    from worker.engines.whisper import Prompt
    from worker.types import Waveform

    samples = np.resize(read_recording(FIXTURES[0]), CHUNK)
    sound = Waveform(samples).part(0, CHUNK)
    options = loaded.whisper.decoding_options("en", Prompt(None, None, was_cut=False))
    segmenter = Segmenter(segmentation_of(loaded.diarization.model))
    embedder = embedder_of(embedding_of(loaded.diarization.model))

    def diarize(batch: int) -> object:
        scores = torch.from_numpy(segmenter.score(samples, [0] * batch)).to(segmenter.device)
        with torch.inference_mode():
            windows = segmenter.grid.cut(samples, [0] * batch, segmenter.device)
            return embedder(windows, scores.transpose(1, 2).contiguous())

    def align(batch: int) -> object:
        rows = torch.from_numpy(samples).repeat(batch, 1)
        return log_probabilities(rows, [CHUNK] * batch, loaded.aligner("en"))

    return {
        "Whisper, 30 s": lambda batch: loaded.whisper.decode([sound] * batch, options),
        "speakers, windows of 10 s": diarize,
        "alignment, 30 s": align,
    }


def make_report(models: Path, recordings: Sequence[Path], has_card: bool) -> dict[str, Any]:
    """Run all parts; after a failed check of the card, those that follow run on the CPU."""
    devices = (CPU, CARD) if has_card else (CPU,)
    fitness = {device: _apart(check_fitness, models, device) for device in devices}
    is_fit = has_card and not any(isinstance(each, str) for each in fitness[CARD].values())
    device = CARD if is_fit else CPU
    heard = [_apart(hear, models, each) for each in dict.fromkeys((CPU, device))]
    taken = {side: _apart(time_jobs, side, models, device, recordings) for side in SIDES}
    price_per_s, jobs = float(os.environ.get("RUNPOD_PRICE_PER_SECOND") or 0), []
    for path, theirs, ours in zip(recordings, *taken.values(), strict=True):
        row: Row = {"recording": path.stem, "audio s": len(read_recording(path)) // SAMPLE_RATE_HZ}
        row |= {f"{name}: {side}": None for name in NAMES.values() for side in SIDES}
        row |= {f"{NAMES[device]}: stock": theirs, f"{NAMES[device]}: ours": ours}
        cost = round(ours * price_per_s, 4) if price_per_s and is_fit else None
        jobs.append(row | {"ours / stock": round(ours / theirs, 3), "ours $": cost})
    checks = dict.fromkeys(name for found in fitness.values() for name in found)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _apart(describe),
        "driver": DRIVER.read_text().splitlines()[0] if DRIVER.exists() else "no driver",
        "profile": json.loads((models / "profile.json").read_text())["profile"],
        "models": heard[0][0]["models"],
        "device": device,
        "tables": {
            "The worker's health checks, seconds": [
                {"check": check.replace("_", " ")}
                | {NAMES[each]: fitness.get(each, {}).get(check) for each in NAMES}
                for check in checks
            ],
            "The same jobs in float32 on the CPU and on the card": [
                {"recording": path.stem} | compare(mine, its if is_fit else None)
                for path, mine, its in zip(FIXTURES, heard[0], heard[-1], strict=True)
            ],
            "Whole jobs with loaded models, median seconds": jobs,
            "A batch of each stage; *reckoned* is what `BATCH_SIZE=auto` goes by": _apart(
                measure_memory, models, device
            ),
        },
    }


def _apart(function: Callable[..., Any], *arguments: object) -> Any:
    print(function.__name__, *arguments)
    return run_process(function, *arguments)


def markdown(report: Mapping[str, Any]) -> str:
    """Lay out the chapter."""
    machine = report["machine"]
    is_worth = report["device"] == CARD and report["profile"] == "production"
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        "## On a GPU\n",
        f"`make gpu-check`, {report['date']}: {machine['gpu'] or 'no GPU'}, {report['driver']};",
        f"{machine['cores']} cores ({machine['cpu']}); {versions}.",
        f"Weights: {report['profile']} ({', '.join(filter(None, report['models'].values()))}).",
        f"\n{EARLIER if is_worth else NOT_WORTH}",
    ]
    for title, rows in report["tables"].items():
        cells = [["–" if cell is None else str(cell) for cell in row.values()] for row in rows]
        lines += ["", f"{title}:", "", *table(list(rows[0]), cells)]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, write both files, print the page; return 1 if the card failed a check."""
    from worker.host.health import demands_gpu
    from worker.settings import WorkerSettings

    parser = argparse.ArgumentParser(prog="python -m bench.gpu_check", description=__doc__)
    parser.add_argument("--models", type=Path, default=ROOT / "models", metavar="DIR")
    parser.add_argument("--recording", type=Path, metavar="FILE", help="a long one of your own")
    parser.add_argument("--into", type=Path, default=ROOT / "logs", metavar="DIR")
    options = parser.parse_args(arguments)
    models, has_card = options.models.absolute(), demands_gpu(WorkerSettings(), Path("/dev"))
    recordings = [FIXTURES[0], *filter(None, [options.recording])]
    with TemporaryDirectory(prefix="gpu-check-") as made:
        if has_card and not options.recording:
            recordings.append(Path(made, "74-minutes.wav"))
            samples = np.resize(read_recording(FIXTURES[0]), LONG_S * SAMPLE_RATE_HZ)
            corpus.write_recording(recordings[1], samples)
        report = make_report(models, recordings, has_card)
    options.into.mkdir(parents=True, exist_ok=True)
    (options.into / "gpu-check.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.into / "gpu-check.md").write_text(markdown(report))
    print(markdown(report))
    return 0 if has_card is (report["device"] == CARD) else 1


if __name__ == "__main__":
    sys.exit(main())
