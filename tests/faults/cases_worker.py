"""Workers that are killed, told to leave or told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.faults.case import Cancelled, Case
from tests.faults.cases_queue import is_run, with_policy
from tests.faults.orders import END, RUN, TAKE, Order
from tests.faults.proxy import Rule
from tests.faults.scene import EdgeSaid, Scene
from tests.processes import group_members, is_running

STAGES = (
    "fetch", "decode", "find_speech", "transcribe", "align", "diarize", "attribute", "deliver",
)  # fmt: skip
FREE_AGAIN_S = 10.0


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
    scene.until(lambda: not group_members(pid), "the end of the worker's processes", 20.0)
    return ""


def left(scene: Scene) -> str:
    """See that the worker left by itself, soon after its job."""
    pid = scene.entries(RUN)[0].pid
    scene.until(lambda: not is_running(pid), "the worker's leave", 40.0)
    return group_is_gone(scene)


def given_back(scene: Scene) -> str:
    """See that the worker that was leaving did not run the job, and that another did."""
    leaving, taking = scene.entries(TAKE)[0].pid, scene.entries(RUN)[0].pid
    assert leaving != taking, "the worker that was leaving ran it"
    return "queued again"


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


KILLED = [died(stage) for stage in STAGES]
LEFT = [
    *(told_to_leave(stage) for stage in STAGES),
    Case(
        "worker: job handed over after SIGTERM",
        order=Order(TAKE, "leave"),
        check=given_back,
    ),
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
