"""Faults of the worker: killed, told to leave, cancelled, out of memory, out of order."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.case import Cancelled, Case, Done, Failed
from tests.faults.cases_queue import is_run, with_policy
from tests.faults.orders import END, RUN, Order
from tests.faults.proxy import Exchange, Rule
from tests.faults.scene import EdgeSaid, Scene, is_running

STAGES = (
    "fetch", "decode", "find_speech", "transcribe", "align", "diarize", "attribute", "deliver",
)  # fmt: skip
FREE_AGAIN_S = 10.0
ALWAYS = 99


def strict(exchange: Exchange) -> None:
    """Submit with ``strict``."""
    body = json.loads(exchange.body)
    body["input"]["strict"] = True
    exchange.reply(exchange.forward(body=json.dumps(body).encode()))


def cancel_in(stage: str) -> Callable[[Scene], EdgeSaid]:
    """Cancel when the stage has begun."""

    def act(scene: Scene) -> EdgeSaid:
        answer = scene.start_edge("submit", scene.prefix, "--wait", "--json", "--timeout", "180")
        scene.wait_for(stage)
        cancelled = scene.edge("cancel", scene.prefix, "--json")
        assert cancelled.code == 0, cancelled.text
        at = time.time()
        said = answer()
        ended = scene.wait_for(END).at
        assert ended - at < FREE_AGAIN_S, f"the worker went on for {ended - at:.0f} s"
        return said

    return act


def group_is_gone(scene: Scene) -> str:
    """See that nothing of the first worker is left: its pings come from another process."""
    pid = scene.entries(RUN)[0].pid
    scene.until(lambda: not _group(pid), "the end of the worker's processes", 20.0)
    return ""


def _group(leader: int) -> list[int]:
    pids = [int(process.name) for process in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if is_running(pid) and _group_of(pid) == leader]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def left(scene: Scene) -> str:
    """See that the worker left by itself, soon after its job."""
    pid = scene.entries(RUN)[0].pid
    scene.until(lambda: not is_running(pid), "the worker's leave", 40.0)
    return group_is_gone(scene)


def hand_over_after_sigterm(scene: Scene) -> EdgeSaid:
    """Submit at the moment when every worker that could take the job has been told to leave."""
    stack = scene.ground.stack
    scene.until(lambda: _idle(scene) == len(stack.pool.workers), "rest", 60.0)
    for pid in stack.worker_pids():
        os.kill(pid, signal.SIGTERM)
    return scene.submit()


def _idle(scene: Scene) -> int:
    answer = scene.edge("health", "--json")
    return int(answer.facts.get("workers", {}).get("idle", 0))


def died(stage: str) -> Case:
    """SIGKILL in a stage."""
    order = Order(stage, "die")
    return Case(f"worker: SIGKILL in {stage}", runs=2, order=order, check=group_is_gone)


def told_to_leave(stage: str) -> Case:
    """SIGTERM in a stage."""
    return Case(f"worker: SIGTERM in {stage}", order=Order(stage, "leave"), check=left)


def cancelled(stage: str) -> Case:
    """Cancellation in a stage."""
    return Case(
        f"worker: cancelled in {stage}",
        Cancelled(too_late=stage == "deliver"),
        order=Order(stage, "pause"),
        act=cancel_in(stage),
    )


def raising(stage: str) -> Case:
    """An exception that nobody foresaw."""
    return Case(f"worker: {stage} raises", runs=2, order=Order(stage, "raise"))


KILLED = [died(stage) for stage in STAGES]
LEFT = [
    *(told_to_leave(stage) for stage in STAGES),
    Case("worker: job handed over after SIGTERM", act=hand_over_after_sigterm, alone=True),
]
STOPPED = [
    *(cancelled(stage) for stage in STAGES),
    Case(
        "worker: executionTimeout",
        runs=2,
        order=Order("transcribe", "pause"),
        queue=lambda _: [Rule(is_run, with_policy(8_000))],
    ),
]
OUT_OF_MEMORY = [
    *(
        Case(f"out of memory in {stage}", runs=2, order=Order(stage, "run out of host memory"))
        for stage in ("fetch", "decode", "attribute", "deliver")
    ),
    *(
        Case(
            f"out of memory in {stage} above a batch of {batch}",
            Done(warning=f"BATCH_REDUCED: {name} {batch}"),
            order=Order(stage, "run out of memory", batch),
            recording="long",
        )
        for stage, name, batch in (
            ("find_speech", "speech", 2),
            ("transcribe", "transcribe", 1),
            ("diarize", "diarize", 2),
        )
    ),
    *(
        Case(
            f"out of memory in {stage} with a batch of 1",
            runs=2,
            order=Order(stage, "run out of memory", 0),
        )
        for stage in ("find_speech", "transcribe", "align", "diarize")
    ),
    Case(
        "out of memory in transcribe, each time",
        Failed("OUT_OF_MEMORY"),
        runs=3,
        order=Order("transcribe", "run out of memory", 0, ALWAYS),
    ),
]
BROKEN = [
    *(raising(stage) for stage in STAGES),
    Case(
        "worker: transcribe raises, each time",
        Failed("INTERNAL"),
        runs=2,
        order=Order("transcribe", "raise", runs=ALWAYS),
    ),
    Case(
        "aligner raises",
        Done("ALIGNMENT_FAILED", text_only=True),
        order=Order("align", "have its model raise", runs=ALWAYS),
    ),
    Case(
        "diarization raises",
        Done("DIARIZATION_FAILED", text_only=True),
        order=Order("diarize", "have its model raise", runs=ALWAYS),
    ),
    *(
        Case(
            f"{what} raises, strict",
            Failed("INTERNAL"),
            runs=2,
            order=Order(stage, "have its model raise", runs=ALWAYS),
            queue=lambda _: [Rule(is_run, strict, 9)],
        )
        for what, stage in (("aligner", "align"), ("diarization", "diarize"))
    ),
    Case("disk full before the download", runs=2, order=Order("fetch", "find the disk full")),
    Case(
        "disk full during the download",
        runs=2,
        order=Order("fetch", "fill the disk", 5 << 20),
        recording="padded",
    ),
    Case(
        "disk full, each time",
        Failed("INTERNAL"),
        runs=2,
        order=Order("fetch", "find the disk full", runs=ALWAYS),
    ),
]
