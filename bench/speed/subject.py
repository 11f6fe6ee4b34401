"""One side, measured in a process of its own: ``python -m bench.speed.subject TASK.json``.

Takes a `Task`; loads the models, warms up on the beginning of the first recording, runs each
recording once and writes what it measured to the task's ``answer``. Started by
`bench.speed.side_by_side`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.speed.gauges import MemoryPeak
from bench.speed.ours import Job, Run, Worker, by_step
from bench.stock import Recipe

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
        from bench.speed.theirs import recipe_of

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
    worker.models.aligner(task.recipe.align_language)
    worker.models.get_ready_for_more()

    def go(recording: Path, clip_s: float | None) -> Run:
        name = recording.name
        result_url = f"{task.storage}result-{recording.stem}.json"
        return worker.run(Job(f"{task.storage}{name}", result_url, clip_s))

    return go


def _stock(task: Task) -> Go:
    from bench.speed import theirs

    models = theirs.load(task.models, task.recipe)
    return lambda recording, clip_s: theirs.run(models, recording, clip_s)


if __name__ == "__main__":
    main()
