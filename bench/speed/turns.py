"""One side, measured in a process of its own: ``python -m bench.speed.turns TASK.json``.

Takes a `Task`; loads the models, warms up on the beginning of the first recording, runs each
recording once and writes what it measured to the task's ``answer``. Started by
`bench.speed.turns`.

Both sides in turns, each time in a fresh process: A B A B.

Takes subjects and a number of rounds; returns what each process measured. Turns let slow
minutes of the machine fall on both sides.

The best thread settings for stock, found by trying them.

CTranslate2 and torch share one OpenMP pool and overwrite each other's number of threads, so
stock's best setting differs from machine to machine. It is looked for once; what was found is in
``docs/benchmarks.json`` and used again on a machine with as many cores.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.speed.inputs import TRIAL, Bench, Storage, write_input
from bench.speed.measure import MemoryPeak
from bench.speed.sides import Job, Run, Worker, by_step
from bench.stock import Recipe, Threads

WARM_UP_S = 20.0


@dataclass(frozen=True)
class Task:
    """What one process measures.

    Attributes:
        side: ``ours`` or ``stock``.
        models: The models folder.
        recordings: Files; their names are also those in the storage.
        storage: Base URL of loopback storage that holds the same files.
        answer: Where the figures are written.
        recipe: Of stock; ours takes the Whisper from it.
        watch_memory: Measure the peak of the first recording, without a warm-up before it.
    """

    side: str
    models: Path
    recordings: tuple[Path, ...]
    storage: str
    answer: Path
    recipe: Recipe
    watch_memory: bool = False

    @classmethod
    def read(cls, path: Path) -> Task:
        """Read a task that `write` wrote."""
        from bench.speed.sides import recipe_of

        document = json.loads(path.read_text())
        return cls(
            side=document["side"],
            models=Path(document["models"]),
            recordings=tuple(Path(recording) for recording in document["recordings"]),
            storage=document["storage"],
            answer=Path(document["answer"]),
            recipe=recipe_of(document["recipe"]),
            watch_memory=document["watch_memory"],
        )

    def write(self, path: Path) -> None:
        """Write it for another process."""
        path.write_text(json.dumps(asdict(self), default=str))


Go = Callable[[Path, float | None], Run]


def main() -> None:
    """Do the task."""
    task = Task.read(Path(sys.argv[1]))
    with contextlib.redirect_stdout(sys.stderr):  # whisperx prints
        answer = measure(task)
    task.answer.write_text(json.dumps(answer))


def measure(task: Task) -> dict[str, Any]:
    """Load, warm up, run.

    Returns:
        ``load_s`` (imports and models), ``runs`` by recording, and ``memory`` where asked for.
    """
    started = time.perf_counter()
    go = _ours(task) if task.side == "ours" else _stock(task)
    answer: dict[str, Any] = {"load_s": time.perf_counter() - started, "runs": {}}
    if task.watch_memory:
        return answer | {"memory": _memory(task, go)}
    go(task.recordings[0], WARM_UP_S)
    for recording in task.recordings:
        gc.collect()
        run = go(recording, None)
        answer["runs"][recording.stem] = {
            "wall_s": run.wall_s,
            "steps_s": by_step(run.timings_s),
            "stages_s": run.timings_s,
            "heard": asdict(run.heard),
        }
    return answer


def _memory(task: Task, go: Go) -> dict[str, float]:
    gc.collect()
    gauge = MemoryPeak()
    with gauge:
        run = go(task.recordings[0], None)
    peak = gauge.read()
    return asdict(peak) | {"added": peak.added, "wall_s": run.wall_s}


def _ours(task: Task) -> Go:
    worker = Worker(task.models, task.recipe.whisper)
    worker.models.load.aligner(task.recipe.align_language)
    worker.models.load.get_ready_for_more()

    def go(recording: Path, clip_s: float | None) -> Run:
        name = recording.name
        result_url = f"{task.storage}result-{recording.stem}.json"
        return worker.run(Job(f"{task.storage}{name}", result_url, clip_s))

    return go


def _stock(task: Task) -> Go:
    from bench.speed import sides as theirs

    models = theirs.load(task.models, task.recipe)
    return lambda recording, clip_s: theirs.run(models, recording, clip_s)


if __name__ == "__main__":
    main()


class SubjectFailed(Exception):
    """A process did not come to its end; the text is the last it said."""


@dataclass(frozen=True)
class Subject:
    """One side of a comparison.

    Attributes:
        label: Its name in the answers.
        side: ``ours`` or ``stock``.
        recipe: Models and threads; ours takes only the models from it.
        recordings: Names of `bench.speed.inputs`.
        models: The models folder.
        watch_memory: Measure memory, not time.
    """

    label: str
    side: str
    recipe: Recipe
    recordings: tuple[str, ...]
    models: Path
    watch_memory: bool = False


def take_turns(
    subjects: Sequence[Subject], rounds: int, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Run every subject once a round; return the answers by label."""
    recordings = {name: write_input(name, folder) for s in subjects for name in s.recordings}
    answers: dict[str, list[dict[str, Any]]] = {subject.label: [] for subject in subjects}
    with Storage(folder) as storage:
        for turn in range(rounds):
            for subject in subjects:
                task = Task(
                    side=subject.side,
                    models=subject.models.resolve(),
                    recordings=tuple(recordings[name] for name in subject.recordings),
                    storage=storage.url(""),
                    answer=folder / "answer.json",
                    recipe=subject.recipe,
                    watch_memory=subject.watch_memory,
                )
                answers[subject.label].append(_run(task, folder))
                print(
                    f"{turn + 1}/{rounds} {subject.label}: {_summary(answers[subject.label][-1])}"
                )
    return answers


def run_module(module: str, task: Path) -> None:
    """Run a module of ours on a task in a fresh process.

    Raises:
        SubjectFailed: It ended with an error.
    """
    with tempfile.TemporaryFile("w+") as said:
        run = subprocess.run(
            [sys.executable, "-m", module, str(task)], stderr=said, stdout=said, check=False
        )
        if run.returncode:
            said.seek(0)
            last = "".join(said.readlines()[-12:])
            raise SubjectFailed(f"{module}: exit {run.returncode}\n{last}")


def _run(task: Task, folder: Path) -> dict[str, Any]:
    path = folder / "task.json"
    task.write(path)
    run_module("bench.speed.turns", path)
    answer: dict[str, Any] = json.loads(task.answer.read_text())
    return answer


def _summary(answer: dict[str, Any]) -> str:
    if "memory" in answer:
        return f"{answer['memory']['added'] >> 20} MiB added"
    return ", ".join(f"{name} {run['wall_s']:.1f} s" for name, run in answer["runs"].items())


PART = "threads"


def candidates(cores: int) -> tuple[Threads, ...]:
    """Return the settings worth trying; the first is the README's."""
    half = max(1, cores // 2)
    return tuple(
        dict.fromkeys(
            (
                Threads(),
                Threads(cores),
                Threads(1),
                Threads(half, cores, again=True),
                Threads(1, cores, again=True),
                Threads(cores, half, again=True),
                Threads(cores, 1, again=True),
                Threads(1, 1),
            )
        )
    )


def measure_threads(bench: Bench) -> dict[str, Any]:
    """Try every candidate on the trial recording, twice, in turns; the fastest wins."""
    settings = candidates(_cores())
    subjects = [
        Subject(str(index), "stock", Recipe(threads=threads), (TRIAL.name,), bench.models)
        for index, threads in enumerate(settings)
    ]
    answers = take_turns(subjects, 2, bench.folder)
    tried: list[dict[str, Any]] = [
        {
            "threads": asdict(threads),
            "wall_s": min(a["runs"][TRIAL.name]["wall_s"] for a in answers[str(index)]),
        }
        for index, threads in enumerate(settings)
    ]
    best = min(tried, key=lambda one: float(one["wall_s"]))
    return {"cores": _cores(), "tried": tried, "best": best["threads"]}


def is_known(found: Mapping[str, Any]) -> bool:
    """Whether the best threads were found on a machine with as many cores."""
    return PART in found and bool(found[PART]["cores"] == _cores())


def best_threads(bench: Bench) -> Threads:
    """Return what was found on a machine like this one, or find it now."""
    if not is_known(bench.found):
        bench.found[PART] = measure_threads(bench)
    return Threads(**bench.found[PART]["best"])


def _cores() -> int:
    return len(os.sched_getaffinity(0))
