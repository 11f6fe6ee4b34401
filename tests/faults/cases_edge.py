"""The edge client is killed between two of its steps; then the same command again."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.faults.case import Case
from tests.faults.cases_queue import is_run
from tests.faults.exchange import Exchange
from tests.faults.scene import EdgeSaid, Scene

STEPS = 9
CLAIMED = 4
"""Steps until the session is claimed: whether the job was posted, only a quiet queue tells."""


def killed_after(steps: int) -> Callable[[Scene], EdgeSaid]:
    """Submit with a client that dies after so many calls to S3 and RunPod; then with a whole one.

    The dying client is that of the edge client's own crash drill.
    """

    def act(scene: Scene) -> EdgeSaid:
        module = "tests.unit.edge_client.crashing_client"
        died = scene.edge("submit", scene.prefix, "--wait", "--json", module=(module, str(steps)))
        assert died.code == -signal.SIGKILL, f"ended with {died.code}: {died.text}"
        scene.notes.append(f"last: {_last_step(scene)}")
        return scene.submit()

    return act


def once(scene: Scene) -> str:
    """See that nothing was submitted twice."""
    posted = sum(map(is_run, scene.queue.exchanges))
    assert posted == 1, f"POST /run was sent {posted} times"
    return "; ".join(scene.notes)


def _last_step(scene: Scene) -> str:
    steps = [e for e in [*scene.s3.exchanges, *scene.queue.exchanges] if not e.is_presigned]
    return _in_words(max(steps, key=lambda exchange: exchange.at)) if steps else "none"


def _in_words(exchange: Exchange) -> str:
    if "/status/" in exchange.path:
        return "GET /status"
    what = "/run" if is_run(exchange) else exchange.path.rsplit("/", 1)[1]
    return f"{exchange.method} {what}"


EDGE = [
    Case(
        f"edge: SIGKILL after {steps} step{'s' if steps != 1 else ''}",
        act=killed_after(steps),
        check=once,
        alone=steps == CLAIMED,
    )
    for steps in range(STEPS)
]
