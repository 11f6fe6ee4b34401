"""What goes wrong inside a job: memory, models, disk, programming errors."""

from __future__ import annotations

import json

from tests.faults.case import Case, Done, Failed
from tests.faults.cases_queue import is_run
from tests.faults.cases_worker import STAGES
from tests.faults.exchange import Exchange
from tests.faults.orders import RUN, Order
from tests.faults.proxy import Rule, Trick
from tests.faults.scene import Scene
from tests.processes import is_running

URL_LIFE_S = 10
ALWAYS = 99
DEGRADES = {"align": "ALIGNMENT_FAILED", "diarize": "DIARIZATION_FAILED"}


def strict(exchange: Exchange) -> None:
    """Submit with ``strict``."""
    body = json.loads(exchange.body)
    body["input"]["strict"] = True
    exchange.reply(exchange.forward(body=json.dumps(body).encode()))


def ending_soon(scene: Scene) -> Trick:
    """Submit with a result URL that ends in a few seconds."""

    def trick(exchange: Exchange) -> None:
        body = json.loads(exchange.body)
        body["input"]["result_url"] = scene.presign(
            "transcription.json", URL_LIFE_S, ContentType="application/json"
        )
        exchange.reply(exchange.forward(body=json.dumps(body).encode()))

    return trick


def was_replaced(scene: Scene) -> str:
    """See that the first worker left, as it asked to."""
    pid = scene.entries(RUN)[0].pid
    scene.until(lambda: not is_running(pid), "the worker's leave", 40.0)
    assert scene.entries(RUN)[-1].pid != pid, "the same worker went on"
    return "the first worker left, another ran it"


def no_gpu_work_in_vain(scene: Scene) -> str:
    """See that the first run ended before its models were asked."""
    count = len(scene.entries("transcribe"))
    assert count == 1, f"transcribed {count} times"
    return "transcribed once"


def raising(stage: str) -> Case:
    """An exception that nobody foresaw; what follows the text is not worth paying twice."""
    order = Order(stage, "raise")
    if stage in DEGRADES:
        return Case(f"worker: {stage} raises", Done(DEGRADES[stage], text_only=True), order=order)
    return Case(f"worker: {stage} raises", runs=1 if stage == "deliver" else 2, order=order)


OUT_OF_MEMORY = [
    *(
        Case(f"out of memory in {stage}", runs=runs, order=Order(stage, "run out of host memory"))
        for stage, runs in (("fetch", 2), ("decode", 2), ("attribute", 2), ("deliver", 1))
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
        "worker: CUDA error in transcribe",
        runs=2,
        order=Order("transcribe", "meet a CUDA error"),
        check=was_replaced,
    ),
    Case(
        "worker: result URL ends before the work would",
        runs=2,
        queue=lambda scene: [Rule(is_run, ending_soon(scene))],
        check=no_gpu_work_in_vain,
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
