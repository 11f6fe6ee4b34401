"""What handler, queue and delivery add to the pipeline's own wall time.

The development stack end to end: a job is posted to the queue, a real worker takes it, fetches
from S3, puts the transcript there and answers. From the moment the queue has the job to the
moment it has the answer, less what the pipeline itself says it took without delivery: both of
the same run, since two runs of a pipeline differ by more than what is looked for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import requests

from bench.speed.bench_folder import Bench
from bench.speed.inputs import MEETING, TELEPHONE, write_input
from bench.speed.side_by_side import SubjectFailed
from bench.speed.summaries import Figure
from devstack.events import EventKind
from devstack.stack import Stack

TIMEOUT_S = 600.0
POLL_S = 0.05


def measure_overhead(bench: Bench) -> dict[str, Any]:
    """Measure on a worker that is warm: the telephone sample in turns, and the meeting once."""
    with Stack(logs=bench.folder / "logs", models=bench.models) as stack:
        _transcribe(stack, TELEPHONE, bench.folder)
        telephone = [_transcribe(stack, TELEPHONE, bench.folder) for _ in range(bench.pairs)]
        meeting = [_transcribe(stack, MEETING.name, bench.folder)]
    return {TELEPHONE: summarise(telephone), MEETING.name: summarise(meeting)}


def summarise(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Sum up runs of one recording; each has seconds ``end_to_end``, ``pipeline``, ``deliver``."""
    added = [run["end_to_end"] - run["pipeline"] + run["deliver"] for run in runs]
    own = [run["pipeline"] - run["deliver"] for run in runs]
    return {
        "pipeline_s": asdict(Figure.of(own)),
        "deliver_s": asdict(Figure.of([run["deliver"] for run in runs])),
        "added_s": asdict(Figure.of(added)),
        "added_share": asdict(
            Figure.of([more / wall for more, wall in zip(added, own, strict=True)])
        ),
    }


def _transcribe(stack: Stack, name: str, folder: Path) -> dict[str, float]:
    """Send one recording through the stack."""
    key = f"bench/{name}.wav"
    client = stack.s3.client()
    client.upload_file(str(write_input(name, folder)), stack.s3.bucket, key)
    place = {"Bucket": stack.s3.bucket, "Key": key}
    result = {
        "Bucket": stack.s3.bucket,
        "Key": f"bench/{name}.json",
        "ContentType": "application/json",
    }
    job = {
        "audio_url": client.generate_presigned_url("get_object", Params=place),
        "result_url": client.generate_presigned_url("put_object", Params=result),
    }
    job_id = _post(stack, job)
    _wait(stack, job_id)
    return _measured(stack, job_id)


def _post(stack: Stack, job: Mapping[str, str]) -> str:
    answer = requests.post(
        f"{_endpoint(stack)}/run", json={"input": job}, headers=_key(stack), timeout=10
    )
    answer.raise_for_status()
    return str(answer.json()["id"])


def _wait(stack: Stack, job_id: str) -> None:
    """Wait for the answer in the log, where looking costs the worker nothing."""
    until = time.monotonic() + TIMEOUT_S
    ends = EventKind.COMPLETED, EventKind.FAILED, EventKind.TIMED_OUT
    while not any(event.job_id == job_id for event in stack.queue_events(*ends)):
        if time.monotonic() > until:
            raise SubjectFailed(f"the stack did not finish its job; its logs: {stack.logs}")
        time.sleep(POLL_S)


def _measured(stack: Stack, job_id: str) -> dict[str, float]:
    at = {event.kind: event.at for event in stack.queue_events() if event.job_id == job_id}
    if EventKind.COMPLETED not in at:
        raise SubjectFailed(f"the stack's job failed; its logs: {stack.logs}")
    status = requests.get(f"{_endpoint(stack)}/status/{job_id}", headers=_key(stack), timeout=10)
    summary = status.json()["output"]
    return {
        "end_to_end": at[EventKind.COMPLETED] - at[EventKind.SUBMITTED],
        "pipeline": summary["processing_time_seconds"],
        "deliver": summary["timings"]["deliver"],
    }


def _endpoint(stack: Stack) -> str:
    return f"{stack.env['RUNPOD_ENDPOINT_BASE_URL']}/{stack.env['RUNPOD_ENDPOINT_ID']}"


def _key(stack: Stack) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.env['RUNPOD_API_KEY']}"}
