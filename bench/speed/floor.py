"""What the bare model forwards of our own run cost, and how close the run comes to it.

One process runs the job and records what goes into each forward; then each is done again, one after
the other, torch's in a process where CTranslate2 has never run (both share one OpenMP pool). The
*floor* takes each model at its fastest number of threads; the *packed floor*, which no run can
beat, is all at one thread, spread over the cores without a gap.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.speed.inputs import MEETING, Bench, Storage, write_input
from bench.speed.measure import (
    GE2E_METHODS,
    WESPEAKER_METHODS,
    ForwardRecorder,
    around_forwards,
    synchronize,
)
from bench.speed.sides import Worker
from bench.speed.turns import WARM_UP_S, run_process

ROUNDS = 2
Call = tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def measure_floor(bench: Bench) -> dict[str, Any]:
    """Record our run on the meeting, and replay its forwards."""
    recording, forwards = write_input(MEETING.name, bench.folder), bench.folder / "forwards.pt"
    with Storage(bench.folder) as storage:
        urls = storage.url(recording.name), storage.url("result-floor.json")
        whisper = run_process(record, bench.models.resolve(), urls, forwards)
    torch = run_process(replay_torch, forwards)
    forwards.unlink()
    by_threads = {threads: whisper[threads] | torch[threads] for threads in whisper}
    return summarise(by_threads, len(os.sched_getaffinity(0)))


def summarise(by_threads: dict[str, dict[str, float]], cores: int) -> dict[str, Any]:
    """Sum up.

    Args:
        by_threads: Seconds by model, by number of threads (as JSON has it: text); "1" is there.
        cores: That there are.
    """
    models = by_threads["1"]
    best = {model: min(seconds[model] for seconds in by_threads.values()) for model in models}
    return {
        "recording": MEETING.name,
        "forwards_s": {model: round(seconds, 4) for model, seconds in best.items()},
        "by_threads_s": by_threads,
        "floor_s": round(sum(best.values()), 4),
        "packed_floor_s": round(sum(models.values()) / cores, 4),
    }


def record(models: Path, urls: tuple[str, str], forwards: Path) -> dict[str, dict[str, float]]:
    """Run the job once warm and once watched; replay Whisper's forwards, store torch's."""
    import torch

    worker = Worker(models)
    worker.run(*urls, WARM_UP_S)
    recorder = ForwardRecorder()
    with around_forwards(recorder):
        worker.run(*urls)
    calls: dict[bool, list[Call]] = {True: [], False: []}
    for call in recorder.calls:
        calls[call[0].startswith("Whisper.")].append(call)
    for model in {id(model): model for _, _, (model, *_), _ in calls[False]}.values():
        _make_bare(model)
    torch.save(calls[False], forwards)
    loaded = worker.models
    folder = loaded.folder.locate(loaded.folder.whisper.path)
    return {
        str(threads): replay(_on_threads(calls[True], threads, folder, loaded.device))
        for threads in _thread_counts()
    }


def _make_bare(model: Any) -> None:
    """Take off what is not the model itself, so that it can be stored and done as it is.

    That is what splits batches over threads (`worker.models.cpu_lanes` puts it on instances), and
    weight norm, whose result is a constant outside of training.
    """
    from torch.nn.utils import parametrize

    for module in model.modules():
        for name in ("forward", *WESPEAKER_METHODS, *GE2E_METHODS):
            vars(module).pop(name, None)
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        module._load_state_dict_pre_hooks.clear()  # noqa: SLF001 -- weight norm leaves one behind


def replay_torch(forwards: Path) -> dict[str, dict[str, float]]:
    """Replay torch's forwards, in a process without CTranslate2."""
    from worker.models.imports import go_offline

    go_offline()
    import torch

    calls = torch.load(forwards, weights_only=False)
    seconds = {}
    for threads in _thread_counts():
        torch.set_num_threads(threads)
        seconds[str(threads)] = replay(calls)
    return seconds


def replay(calls: Iterable[Call]) -> dict[str, float]:
    """Do forwards one after the other, more than once; return the best seconds by model."""
    import torch

    rounds: list[dict[str, float]] = []
    kept = list(calls)
    with torch.inference_mode():
        for _ in range(ROUNDS):
            rounds.append({})
            for what, call, args, named in kept:
                synchronize()
                began = time.perf_counter()
                call(*args, **named)
                synchronize()
                spent = time.perf_counter() - began
                rounds[-1][what] = rounds[-1].get(what, 0.0) + spent
    return {what: min(each[what] for each in rounds) for what in rounds[0]}


def _on_threads(calls: Iterable[Call], threads: int, folder: Path, device: Any) -> list[Call]:
    """Put a Whisper with that many threads in the place of the one that was recorded."""
    from ctranslate2.models import Whisper

    model = Whisper(
        str(folder), device.name, compute_type=device.compute_type, intra_threads=threads
    )
    return [(what, call, (model, *args[1:]), named) for what, call, args, named in calls]


def _thread_counts() -> tuple[int, ...]:
    return tuple(dict.fromkeys((1, len(os.sched_getaffinity(0)))))
