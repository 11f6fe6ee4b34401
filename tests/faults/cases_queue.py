"""Faults between edge and queue, and between worker and queue."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from devstack import EventKind
from tests.faults.case import Case
from tests.faults.exchange import Answer, Exchange
from tests.faults.proxy import Rule, Trick
from tests.faults.scene import EdgeSaid, Scene

RETRY_AFTER_S = 4
AWAY_S = 20.0


def is_run(exchange: Exchange) -> bool:
    """Whether the edge submits."""
    return exchange.path.endswith("/run")


def is_status(exchange: Exchange) -> bool:
    """Whether the edge asks for a job."""
    return "/status/" in exchange.path


def json_answer(status: int, body: Any, *headers: tuple[str, str]) -> Answer:
    """Build an answer of RunPod's."""
    content_type = ("Content-Type", "application/json")
    return Answer(status, (content_type, *headers), json.dumps(body).encode())


def answers(status: int, *headers: tuple[str, str]) -> Trick:
    """Answer in RunPod's place; it hears nothing."""
    return lambda exchange: exchange.reply(json_answer(status, {"error": "injected"}, *headers))


def accepted_and_lost(exchange: Exchange) -> None:
    """Let RunPod queue the job, and tell nobody."""
    exchange.forward()
    exchange.reset()


def swallowed(exchange: Exchange) -> None:
    """Name a job that is not there."""
    exchange.reply(json_answer(200, {"id": "00000000-dead-beef-u1", "status": "IN_QUEUE"}))


def forgotten_when_done(exchange: Exchange) -> None:
    """Answer 404 as soon as the job is COMPLETED."""
    answer = exchange.forward()
    is_done = json.loads(answer.body).get("status") == "COMPLETED"
    exchange.reply(json_answer(404, {"error": "job not found"}) if is_done else answer)


def with_policy(execution_timeout_ms: int) -> Trick:
    """Submit with another executionTimeout than the edge asks for."""

    def trick(exchange: Exchange) -> None:
        body = json.loads(exchange.body)
        body["policy"] = {"executionTimeout": execution_timeout_ms, "ttl": 600_000}
        exchange.reply(exchange.forward(body=json.dumps(body).encode()))

    return trick


def is_result(scene: Scene) -> Callable[[Exchange], bool]:
    """Match the result of the session's job."""
    return lambda e: "/job-done/" in e.path and scene.is_mine(e) and not _is_progress(e)


def is_progress(scene: Scene) -> Callable[[Exchange], bool]:
    """Match progress of the session's job."""
    return lambda e: "/job-done/" in e.path and scene.is_mine(e) and _is_progress(e)


def _is_progress(exchange: Exchange) -> bool:
    return bool(json.loads(exchange.body or b"{}").get("status") == "IN_PROGRESS")


def without_output(exchange: Exchange) -> None:
    """Lose what the job's result says."""
    exchange.reply(exchange.forward(body=b"{}"))


def without_output_or_transcript(scene: Scene) -> Trick:
    """Lose the result, and what it is about."""

    def trick(exchange: Exchange) -> None:
        scene.delete("transcription.json")
        without_output(exchange)

    return trick


def after_the_result(scene: Scene) -> Trick:
    """Hold an update back until the queue has the result."""

    def has_result() -> bool:
        matches = is_result(scene)
        return any(e.answer for e in list(scene.ground.back.exchanges) if matches(e))

    def trick(exchange: Exchange) -> None:
        scene.until(has_result, "the result", 60.0)
        exchange.reply(exchange.forward())

    return trick


def waited(scene: Scene) -> str:
    """See that Retry-After was obeyed."""
    first, second = [e.at for e in scene.queue.exchanges if is_run(e)]
    assert second - first >= RETRY_AFTER_S, f"tried again after {second - first:.1f} s"
    return f"not before the {RETRY_AFTER_S} s it was told"


def posted(times: int) -> Callable[[Scene], str]:
    """See how often the edge submitted."""

    def check(scene: Scene) -> str:
        count = sum(map(is_run, scene.queue.exchanges))
        assert count == times, f"POST /run was sent {count} times"
        return ""

    return check


def came_late(scene: Scene) -> str:
    """See that the queue got an update after the result."""
    late = scene.ground.stack.queue_events(EventKind.LATE_PROGRESS)
    assert any(e.job_id in scene.job_ids() for e in late), "no update was late"
    return "the job stays COMPLETED"


def submit_while_away(scene: Scene) -> EdgeSaid:
    """Submit when nobody listens."""
    scene.queue.away_for(AWAY_S)
    return scene.submit()


def away_meanwhile(scene: Scene) -> EdgeSaid:
    """Have nobody listen soon after the submission."""
    answer = scene.start_edge("submit", scene.prefix, "--wait", "--json", "--timeout", "180")
    scene.until(scene.job_ids, "the submission")
    scene.queue.away_for(AWAY_S)
    return answer()


EDGE_TO_QUEUE = [
    Case(
        "/run: answer lost after it was accepted",
        queue=lambda _: [Rule(is_run, accepted_and_lost)],
        check=posted(1),
    ),
    Case(
        "/run: 429 with Retry-After",
        queue=lambda _: [Rule(is_run, answers(429, ("Retry-After", str(RETRY_AFTER_S))))],
        check=waited,
    ),
    Case(
        "/run: 500 twice, then fine",
        queue=lambda _: [Rule(is_run, answers(500), 2)],
        check=posted(3),
        alone=True,
    ),
    Case(
        "/run: connection refused for 20 s",
        act=submit_while_away,
        env={"RETRY_ATTEMPTS": "5", "RETRY_DELAY_SECONDS": "4"},
    ),
    Case("/status: connection refused for 20 s", act=away_meanwhile, check=posted(1)),
    Case("/status: 500 three times", queue=lambda _: [Rule(is_status, answers(500), 3)]),
    Case(
        "/status: 404, the transcript is there",
        queue=lambda _: [Rule(is_status, forgotten_when_done, math.inf)],
        check=posted(1),
    ),
    Case(
        "/status: 404, the job never was",
        queue=lambda _: [Rule(is_run, swallowed)],
        check=posted(2),
    ),
]

WORKER_TO_QUEUE = [
    Case(
        "COMPLETED without output, the transcript is there",
        back=lambda scene: [Rule(is_result(scene), without_output)],
        check=posted(1),
    ),
    Case(
        "COMPLETED without output or transcript",
        runs=2,
        back=lambda scene: [Rule(is_result(scene), without_output_or_transcript(scene))],
    ),
    Case(
        "result refused on its way to RunPod",
        queue=lambda _: [Rule(is_run, with_policy(15_000))],
        back=lambda scene: [Rule(is_result(scene), answers(400), math.inf)],
        check=posted(1),
        alone=True,  # the queue would take the job for lost if its worker died of another's
    ),
    Case(
        "late progress",
        back=lambda scene: [Rule(is_progress(scene), after_the_result(scene), math.inf)],
        check=came_late,
    ),
]
