"""Workers that are killed, told to leave, told to stop, or broken inside a job."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from devstack import EventKind
from tests.faults.case import Cancelled, Case, Done, Failed
from tests.faults.cases_edge import posted, submitted_with, with_timeout
from tests.faults.cases_s3 import is_put
from tests.faults.orders import END, RUN, TAKE, Order
from tests.faults.scene import EdgeSaid, Scene
from tests.processes import group_members, is_running, wait_until

STAGES = (
    "fetch", "decode", "find_speech", "transcribe", "align", "diarize", "attribute", "deliver",
)  # fmt: skip
DEGRADED = {
    "align": Done("ALIGNMENT_FAILED", text_only=True),
    "diarize": Done("DIARIZATION_FAILED", text_only=True),
}
"""What follows the text is not worth paying twice."""
MODELS = {"aligner": "align", "diarization": "diarize"}
FREE_AGAIN_S = 10.0
URL_LIFE_S = 10
ALWAYS = 99


def cancel_in(stage: str) -> Callable[[Scene], EdgeSaid]:
    def act(scene: Scene) -> EdgeSaid:
        answer = scene.start_submit()
        scene.wait_for(stage)
        cancelled = scene.start_edge("cancel", scene.prefix, "--json")()
        assert cancelled.code == 0, cancelled.text
        at = time.time()
        said = answer()
        ended = scene.wait_for(END).at
        assert ended - at < FREE_AGAIN_S, f"the worker went on for {ended - at:.0f} s"
        return said

    return act


def outlived(meanwhile: Callable[[Scene], None]) -> Callable[[Scene], EdgeSaid]:
    """Wake a frozen worker once another has done its job; ``meanwhile`` it is frozen."""

    def act(scene: Scene) -> EdgeSaid:
        answer = scene.start_submit()
        frozen = scene.wait_for("deliver").pid
        meanwhile(scene)
        said = answer()
        os.killpg(frozen, signal.SIGCONT)
        return said

    return act


def recorded_again(scene: Scene) -> None:
    scene.put("audio.wav", scene.ground.recordings["padded"])


def kept_from_late(scene: Scene) -> str:
    """See that S3 refused what came last, and has the transcript of the recording that is there."""
    puts = [e.answer.status for e in scene.s3.exchanges if is_put(e) and e.answer]
    assert puts[0] == 200, f"S3 answered {puts}"
    assert set(puts[1:]) == {412}, f"S3 answered {puts}"
    of, there = scene.transcript()["audio_etag"], scene.etag("audio.wav")
    assert of == there, f"the transcript is of {of}, the recording is {there}"
    return "S3 answered 412 to the late PUT"


def ended_at_timeout(scene: Scene) -> str:
    """See that RunPod calls it FAILED."""
    ids = scene.job_ids()
    ends = [e.kind for e in scene.ground.stack.queue_events() if e.job_id == ids[0]]
    assert EventKind.FAILED in ends, f"queue: {scene.history()}"
    return "FAILED: executionTimeout exceeded"


def group_is_gone(scene: Scene) -> str:
    """See that nothing of the first worker is left: its pings come from another process."""
    pid = scene.entries(RUN)[0].pid
    wait_until(lambda: not group_members(pid), 20.0, "the end of the worker's processes")
    return ""


def left(scene: Scene) -> str:
    """See that the worker left by itself, soon after its job."""
    pid = scene.entries(RUN)[0].pid
    wait_until(lambda: not is_running(pid), 40.0, "the worker's leave")
    return group_is_gone(scene)


def was_replaced(scene: Scene) -> str:
    """See that the first worker left, as it asked to."""
    left(scene)
    first, *_, last = scene.entries(RUN)
    assert last.pid != first.pid, "the same worker went on"
    return "the first worker left, another ran it"


def given_back(scene: Scene) -> str:
    """See that the worker that was leaving did not run the job, and that another did."""
    leaving, taking = scene.entries(TAKE)[0].pid, scene.entries(RUN)[0].pid
    assert leaving != taking, "the worker that was leaving ran it"
    return "queued again"


def ending_soon(scene: Scene) -> dict[str, str]:
    content_type = "application/json"
    url = scene.presign("transcription.json", URL_LIFE_S, ContentType=content_type)
    return {"result_url": url}


def no_gpu_work_in_vain(scene: Scene) -> str:
    """See that the first run ended before its models were asked."""
    count = len(scene.entries("transcribe"))
    assert count == 1, f"transcribed {count} times"
    return "transcribed once"


KILLED = [
    *(
        Case(f"worker: SIGKILL in {stage}", runs=2, order=Order(stage, "die"), check=group_is_gone)
        for stage in STAGES
    ),
    Case(
        "worker: SIGKILL in transcribe, and the next one too",
        runs=3,
        order=Order("transcribe", "die", runs=2),
        check=posted(2),
    ),
]
LEFT = [
    *(Case(f"worker: SIGTERM in {s}", order=Order(s, "leave"), check=left) for s in STAGES),
    Case("worker: job handed over after SIGTERM", order=Order(TAKE, "leave"), check=given_back),
]
STOPPED = [
    *(
        Case(
            f"worker: cancelled in {stage}",
            Cancelled(too_late=stage == "deliver"),
            order=Order(stage, "pause"),
            act=cancel_in(stage),
        )
        for stage in STAGES
    ),
    Case(
        "worker: executionTimeout",
        runs=2,
        order=Order("transcribe", "pause"),
        rules=[with_timeout(8_000)],
        check=ended_at_timeout,
    ),
    *(
        Case(
            f"worker: frozen in deliver{words}, its PUT comes late",
            runs=2,
            order=Order("deliver", "freeze"),
            act=outlived(meanwhile),
            check=kept_from_late,
        )
        for words, meanwhile in (("", lambda _: None), (" and recorded again", recorded_again))
    ),
]
OUT_OF_MEMORY = [
    *(
        Case(f"out of memory in {stage}", runs=runs, order=Order(stage, "run out of host memory"))
        for stage, runs in (("fetch", 2), ("decode", 2), ("attribute", 2), ("deliver", 1))
    ),
    *(
        Case(
            f"out of memory in {stage} above a batch of {batch}",
            Done(warning=f"BATCH_REDUCED: {stage.removeprefix('find_')} {batch}"),
            order=Order(stage, "run out of memory", batch),
            recording="long",
        )
        for stage, batch in (("find_speech", 2), ("transcribe", 1), ("diarize", 2))
    ),
    *(
        Case(
            f"out of memory in {stage} with a batch of 1",
            runs=2,
            order=Order(stage, "run out of memory"),
        )
        for stage in ("find_speech", "transcribe", "align", "diarize")
    ),
    Case(
        "out of memory in transcribe, each time",
        Failed("OUT_OF_MEMORY"),
        runs=3,
        order=Order("transcribe", "run out of memory", runs=ALWAYS),
    ),
]
BROKEN = [
    *(
        Case(
            f"worker: {stage} raises",
            DEGRADED.get(stage, Done()),
            runs=1 if stage in (*DEGRADED, "deliver") else 2,
            order=Order(stage, "raise"),
        )
        for stage in STAGES
    ),
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
        rules=[submitted_with("input", ending_soon)],
        check=no_gpu_work_in_vain,
    ),
    *(
        Case(
            f"{what} raises",
            DEGRADED[stage],
            order=Order(stage, "have its model raise", runs=ALWAYS),
        )
        for what, stage in MODELS.items()
    ),
    *(
        Case(
            f"{what} raises, strict",
            Failed("INTERNAL"),
            runs=2,
            order=Order(stage, "have its model raise", runs=ALWAYS),
            rules=[submitted_with("input", lambda _: {"strict": True}, times=9)],
        )
        for what, stage in MODELS.items()
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
