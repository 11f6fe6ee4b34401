"""Both sides in turns, each time in a fresh process: A B A B.

Takes subjects and a number of rounds; returns what each process measured. Turns let slow
minutes of the machine fall on both sides.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.speed.inputs import write_input
from bench.speed.loopback import Storage
from bench.speed.subject import Task
from bench.stock import Recipe


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
    run_module("bench.speed.subject", path)
    answer: dict[str, Any] = json.loads(task.answer.read_text())
    return answer


def _summary(answer: dict[str, Any]) -> str:
    if "memory" in answer:
        return f"{answer['memory']['added'] >> 20} MiB added"
    return ", ".join(f"{name} {run['wall_s']:.1f} s" for name, run in answer["runs"].items())
