"""Faults between edge and queue, between worker and queue, and of the edge client itself."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from math import inf
from typing import Any

from devstack import EventKind
from tests.fakes.breaking import certificate
from tests.faults.case import Case
from tests.faults.cases_s3 import answer_lost
from tests.faults.proxy import Answer, Exchange, Proxy, Rule, Trick
from tests.faults.scene import EdgeSaid, Scene
from tests.processes import wait_until

RETRY_AFTER_S = 4
AWAY_S = 20.0
PAGE = b"<!DOCTYPE html><html><head><title>api.runpod.ai | Bad gateway</title></head></html>"
STEPS = 9
CLAIMED = 4
"""Steps until the session is claimed: whether the job was posted, only a quiet queue tells."""


def is_run(exchange: Exchange) -> bool:
    return exchange.path.endswith("/run")


def is_status(exchange: Exchange) -> bool:
    return "/status/" in exchange.path


def is_result(exchange: Exchange) -> bool:
    return "/job-done/" in exchange.path and not is_progress(exchange)


def is_progress(exchange: Exchange) -> bool:
    return "/job-done/" in exchange.path and b'"IN_PROGRESS"' in exchange.body


def json_answer(status: int, body: Any, *headers: tuple[str, str]) -> Answer:
    content_type = ("Content-Type", "application/json")
    return Answer(status, (content_type, *headers), json.dumps(body).encode())


def answers(status: int, *headers: tuple[str, str]) -> Trick:
    """Answer in RunPod's place; it hears nothing."""
    return lambda exchange, _: exchange.reply(json_answer(status, {"error": "injected"}, *headers))


def page(status: int, is_heard: bool = False) -> Trick:
    """Answer as RunPod's proxy, with a web page; RunPod may have heard the request before."""

    def trick(exchange: Exchange, _: Scene) -> None:
        if is_heard:
            exchange.forward()
        exchange.reply(Answer(status, (("Content-Type", "text/html"),), PAGE))

    return trick


def swapped(exchange: Exchange, scene: Scene) -> None:
    """Answer about the job, but twice with another's result."""
    body = json.loads(exchange.forward().body)
    if body["status"] == "COMPLETED" and len(scene.notes) < 2:
        scene.notes.append("not believed")
        body["output"] |= {"request_id": "f" * 32}
    exchange.reply(json_answer(200, body))


def of_another_job(exchange: Exchange, _: Scene) -> None:
    body = json.loads(exchange.forward().body)
    exchange.reply(json_answer(200, body | {"id": "00000000-dead-beef-u1"}))


def tls_broken(exchange: Exchange, _: Scene) -> None:
    """Let RunPod take the request, then send what is no TLS."""
    exchange.forward()
    exchange.break_tls()


def swallowed(exchange: Exchange, _: Scene) -> None:
    """Name a job that is not there."""
    exchange.reply(json_answer(200, {"id": "00000000-dead-beef-u1", "status": "IN_QUEUE"}))


def forgotten_when_done(exchange: Exchange, _: Scene) -> None:
    """Answer 404 as soon as the job is COMPLETED."""
    answer = exchange.forward()
    is_done = json.loads(answer.body).get("status") == "COMPLETED"
    exchange.reply(json_answer(404, {"error": "job not found"}) if is_done else answer)


def submitted_with(part: str, change: Callable[[Scene], dict[str, Any]], times: int = 1) -> Rule:
    """Submit with other fields of ``input`` or ``policy`` than the edge asks for."""

    def trick(exchange: Exchange, scene: Scene) -> None:
        body = json.loads(exchange.body)
        body[part] |= change(scene)
        exchange.pass_on(body=json.dumps(body).encode())

    return Rule(is_run, trick, times)


def with_timeout(execution_timeout_ms: int) -> Rule:
    policy = {"executionTimeout": execution_timeout_ms, "ttl": 600_000}
    return submitted_with("policy", lambda _: policy)


def without_output(exchange: Exchange, _: Scene) -> None:
    exchange.pass_on(body=b"{}")


def without_output_or_transcript(exchange: Exchange, scene: Scene) -> None:
    scene.delete("transcription.json")
    exchange.pass_on(body=b"{}")


def after_the_result(exchange: Exchange, scene: Scene) -> None:
    """Hold an update back until the queue has the result."""

    def has_result() -> bool:
        seen = list(scene.ground.back.exchanges)
        return any(e.answer and is_result(e) and scene.owns(e) for e in seen)

    wait_until(has_result, 60.0, "the result")
    exchange.pass_on()


def waited(scene: Scene) -> str:
    first, second = [e.at for e in scene.queue.exchanges if is_run(e)]
    assert second - first >= RETRY_AFTER_S, f"tried again after {second - first:.1f} s"
    return f"not before the {RETRY_AFTER_S} s it was told"


def posted(times: int) -> Callable[[Scene], str]:
    def check(scene: Scene) -> str:
        count = sum(map(is_run, scene.queue.exchanges))
        assert count == times, f"POST /run was sent {count} times"
        return "; ".join(scene.notes)

    return check


def disbelieved(scene: Scene) -> str:
    assert len(scene.notes) == 2, f"{len(scene.notes)} answers were swapped"
    return posted(1)(scene)


def came_late(scene: Scene) -> str:
    """See that the queue got an update after the result."""
    late = scene.ground.stack.queue_events(EventKind.LATE_PROGRESS)
    assert any(e.job_id in scene.job_ids() for e in late), "no update was late"
    return "the job stays COMPLETED"


def submit_while_away(scene: Scene) -> EdgeSaid:
    scene.queue.away_for(AWAY_S)
    return scene.submit()


def away_meanwhile(scene: Scene) -> EdgeSaid:
    """Have nobody listen soon after the submission."""
    answer = scene.start_submit()
    wait_until(scene.job_ids, 90.0, "the submission")
    scene.queue.away_for(AWAY_S)
    return answer()


def submit_over_tls(scene: Scene) -> EdgeSaid:
    """Submit over TLS, which breaks once RunPod has the job."""
    pem = certificate(scene.ground.folder.path)
    with Proxy(scene.queue.url, pem) as tls:
        tls.rules.append(Rule(is_run, tls_broken, scene=scene))
        scene.env["RUNPOD_ENDPOINT_BASE_URL"] = tls.url.replace("http:", "https:") + "/v2"
        scene.env["AWS_CA_BUNDLE"] = str(pem)
        return scene.submit()


def rewritten(scene: Scene) -> EdgeSaid:
    """Have another program rewrite the transcript, with nothing that says whose it is."""
    first = scene.submit()
    ours = ("request_id", "audio_etag")
    left = {name: value for name, value in scene.transcript().items() if name not in ours}
    scene.put("transcription.json", json.dumps(left, indent=1).encode())
    second = scene.submit()
    return second if first.code == 0 else first


def killed_after(steps: int) -> Callable[[Scene], EdgeSaid]:
    """Submit with a client that dies after so many calls to S3 and RunPod; then with a whole one.

    The dying client is that of the edge client's own crash drill.
    """

    def act(scene: Scene) -> EdgeSaid:
        died = scene.submit(("tests.unit.edge_client.crashing_client", str(steps)))
        assert died.code == -signal.SIGKILL, f"ended with {died.code}: {died.text}"
        made = [e for e in scene.s3.exchanges + scene.queue.exchanges if not e.is_presigned]
        last = in_words(max(made, key=lambda exchange: exchange.at)) if made else "none"
        scene.notes.append(f"last: {last}")
        return scene.submit()

    return act


def in_words(exchange: Exchange) -> str:
    if is_status(exchange):
        return "GET /status"
    what = "/run" if is_run(exchange) else exchange.path.rsplit("/", 1)[1]
    return f"{exchange.method} {what}"


def run(fault: str, trick: Trick, times: int = 1, **more: Any) -> Case:
    return Case(f"/run: {fault}", rules=[Rule(is_run, trick, times)], **more)


KILLED_EDGE = [
    Case(
        f"edge: SIGKILL after {steps} step{'s' if steps != 1 else ''}",
        act=killed_after(steps),
        check=posted(1),
        alone=steps == CLAIMED,
    )
    for steps in range(STEPS)
]
EDGE_TO_QUEUE = [
    run("answer lost after it was accepted", answer_lost, check=posted(1)),
    run("429 with Retry-After", answers(429, ("Retry-After", str(RETRY_AFTER_S))), check=waited),
    run("500 twice, then fine", answers(500), 2, check=posted(3), alone=True),
    run("502 with a web page", page(502), check=posted(2), alone=True),
    run("524 with a web page after it was accepted", page(524, is_heard=True), check=posted(1)),
    Case("/run: TLS breaks after it was accepted", act=submit_over_tls, check=posted(1)),
    Case(
        "/run: connection refused for 20 s",
        act=submit_while_away,
        env={"RETRY_ATTEMPTS": "5", "RETRY_DELAY_SECONDS": "4"},
    ),
    Case("/status: connection refused for 20 s", act=away_meanwhile, check=posted(1)),
    Case("/status: 500 three times", rules=[Rule(is_status, answers(500), 3)]),
    *(
        Case(
            f"/status: {status} with a web page, three times",
            rules=[Rule(is_status, page(status), 3)],
        )
        for status in (502, 524)
    ),
    Case("/status: another job", rules=[Rule(is_status, of_another_job, 2)], check=posted(1)),
    Case("/status: another job's result", rules=[Rule(is_status, swapped, inf)], check=disbelieved),
    Case("transcript rewritten by another program, then submitted", act=rewritten, check=posted(1)),
    Case(
        "/status: 404, the transcript is there",
        rules=[Rule(is_status, forgotten_when_done, inf)],
        check=posted(1),
    ),
    Case("/status: 404, the job never was", rules=[Rule(is_run, swallowed)], check=posted(2)),
]
WORKER_TO_QUEUE = [
    Case(
        "COMPLETED without output, the transcript is there",
        rules=[Rule(is_result, without_output)],
        check=posted(1),
    ),
    Case(
        "COMPLETED without output or transcript",
        runs=2,
        rules=[Rule(is_result, without_output_or_transcript)],
    ),
    Case(
        "result refused on its way to RunPod",
        rules=[with_timeout(15_000), Rule(is_result, answers(400), inf)],
        check=posted(1),
        alone=True,  # the queue would take the job for lost if its worker died of another's
    ),
    Case("late progress", rules=[Rule(is_progress, after_the_result, inf)], check=came_late),
]
