"""What handler, queue and delivery add to the pipeline's own wall time.

The development stack end to end: a job is posted to the queue, a real worker takes it, fetches
from S3, puts the transcript there and answers. From the moment the queue has the job to the
moment it has the answer, less what the pipeline itself says it took without delivery: both of
the same run, since two runs of a pipeline differ by more than what is looked for.

A job whose recording comes slowly: fetching should hide behind computing, or the reverse.

One warm worker runs the meeting from storage at 20 MB/s and from storage without a limit, in
turns. What the slow job takes is held against the longer of its download and of the fast job.
``python -m bench.speed.limits TASK.json`` is the worker's process.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import requests

from bench.speed.inputs import MEETING, TELEPHONE, Bench, Storage, write_input
from bench.speed.measure import Figure
from bench.speed.sides import Job, Worker
from bench.speed.turns import WARM_UP_S, SubjectFailed, run_module
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
    return {TELEPHONE: summarise_overhead(telephone), MEETING.name: summarise_overhead(meeting)}


def summarise_overhead(runs: list[dict[str, float]]) -> dict[str, Any]:
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


RATE = 20_000_000
MOST_PAIRS = 3
"""One process for all: the ratio of two jobs of the same worker varies little."""


def measure_throttled(bench: Bench) -> dict[str, Any]:
    """Measure at 20 MB/s, and at the rate at which the download takes as long as the work."""
    recording = write_input(MEETING.name, bench.folder)
    size = recording.stat().st_size
    path, answer = bench.folder / "throttled-task.json", bench.folder / "throttled.json"
    with Storage(bench.folder) as storage:
        task = {
            "models": str(bench.models.resolve()),
            "storage": storage.url(""),
            "recording": recording.name,
            "bytes": size,
            "pairs": min(bench.pairs, MOST_PAIRS),
            "answer": str(answer),
        }
        path.write_text(json.dumps(task))
        run_module("bench.speed.limits", path)
    runs = json.loads(answer.read_text())
    return {"recording": MEETING.name, "bytes": size} | {
        name: summarise_throttled(runs[name], runs["unlimited"], size)
        for name in ("20 MB/s", "as slow")
    }


def summarise_throttled(
    slow: Sequence[Mapping[str, float]], fast: Sequence[Mapping[str, float]], size: int
) -> dict[str, Any]:
    """Hold each slow job against the longer of its download and of the fast job beside it.

    Args:
        slow: ``wall_s`` and ``rate`` (bytes a second) of each.
        fast: ``wall_s`` of each.
        size: Of the recording, in bytes.
    """
    pairs = list(zip(slow, fast, strict=False))
    longer = [max(size / s["rate"], f["wall_s"]) for s, f in pairs]
    return {
        "rate": round(slow[0]["rate"]),
        "download_s": round(size / slow[0]["rate"], 3),
        "slow_s": asdict(Figure.of([s["wall_s"] for s, _ in pairs])),
        "unlimited_s": asdict(Figure.of([f["wall_s"] for _, f in pairs])),
        "ratio": asdict(
            Figure.of([s["wall_s"] / of for (s, _), of in zip(pairs, longer, strict=True)])
        ),
    }


def run(task: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Run the jobs; the last one comes as slowly as it is worked on."""
    worker = Worker(Path(task["models"]))
    audio_url = f"{task['storage']}{task['recording']}"
    result_url = f"{task['storage']}result-throttled.json"
    worker.run(Job(audio_url, result_url, WARM_UP_S))

    def go(rate: float | None) -> dict[str, float]:
        limited = f"{audio_url}?rate={rate:.0f}" if rate else audio_url
        return {"wall_s": worker.run(Job(limited, result_url)).wall_s, "rate": rate or 0.0}

    found: dict[str, list[dict[str, float]]] = {"20 MB/s": [], "unlimited": [], "as slow": []}
    for _ in range(task["pairs"]):
        found["unlimited"].append(go(None))
        found["20 MB/s"].append(go(RATE))
    found["as slow"].append(go(task["bytes"] / found["unlimited"][0]["wall_s"]))
    return found


def main() -> None:
    """Be the worker's process."""
    task = json.loads(Path(sys.argv[1]).read_text())
    with contextlib.redirect_stdout(sys.stderr):
        found = run(task)
    Path(task["answer"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
