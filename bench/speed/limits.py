"""What is around the pipeline: the queue, and a recording that comes slowly.

*Overhead* runs a real worker on the development stack: from the moment the queue has the job to the
moment it has the answer, less what the pipeline of the same run says it took without delivery.
*Throttled* runs the meeting on one warm worker, from storage at 20 MB/s and without a limit, in
turns: fetching should hide behind computing, or the reverse.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from bench.speed.inputs import MEETING, TELEPHONE, Bench, Storage, write_input
from bench.speed.measure import figure, ratios
from bench.speed.sides import JobFailed, Worker
from bench.speed.turns import WARM_UP_S, run_process
from devstack.events import EventKind
from devstack.stack import Stack

TIMEOUT_S = 600.0
POLL_S = 0.05
RATE = 20_000_000
MOST_PAIRS = 3
"""One process for all: the ratio of two jobs of the same worker varies little."""


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
        "pipeline_s": figure(own),
        "deliver_s": figure([run["deliver"] for run in runs]),
        "added_s": figure(added),
        "added_share": ratios(added, own),
    }


def _transcribe(stack: Stack, name: str, folder: Path) -> dict[str, float]:
    """Send one recording through the stack."""
    key = f"bench/{name}.wav"
    client = stack.s3.client()
    client.upload_file(str(write_input(name, folder)), stack.s3.bucket, key)
    audio = {"Bucket": stack.s3.bucket, "Key": key}
    result = {**audio, "Key": f"bench/{name}.json", "ContentType": "application/json"}
    job = {
        "audio_url": client.generate_presigned_url("get_object", Params=audio),
        "result_url": client.generate_presigned_url("put_object", Params=result),
    }
    job_id = str(_call(stack, "POST", "run", json={"input": job})["id"])
    at = _wait(stack, job_id)
    summary = _call(stack, "GET", f"status/{job_id}")["output"]
    return {
        "end_to_end": at[EventKind.COMPLETED] - at[EventKind.SUBMITTED],
        "pipeline": summary["processing_time_seconds"],
        "deliver": summary["timings"]["deliver"],
    }


def _call(stack: Stack, method: str, path: str, **named: Any) -> dict[str, Any]:
    """Ask the queue, as the edge client does."""
    url = f"{stack.env['RUNPOD_ENDPOINT_BASE_URL']}/{stack.env['RUNPOD_ENDPOINT_ID']}/{path}"
    key = {"Authorization": f"Bearer {stack.env['RUNPOD_API_KEY']}"}
    response = requests.request(method, url, headers=key, timeout=10, **named)
    response.raise_for_status()
    body: dict[str, Any] = response.json()
    return body


def _wait(stack: Stack, job_id: str) -> dict[EventKind, float]:
    """Wait for the answer in the log, where looking costs the worker nothing; return its times."""
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        at = {event.kind: event.at for event in stack.queue_events() if event.job_id == job_id}
        if EventKind.COMPLETED in at:
            return at
        if at.keys() & {EventKind.FAILED, EventKind.TIMED_OUT}:
            break
        time.sleep(POLL_S)
    raise JobFailed(f"the stack did not finish its job; its logs: {stack.logs}")


def measure_throttled(bench: Bench) -> dict[str, Any]:
    """Measure at 20 MB/s, and at the rate at which the download takes as long as the work."""
    recording = write_input(MEETING.name, bench.folder)
    size = recording.stat().st_size
    with Storage(bench.folder) as storage:
        urls = storage.url(recording.name), storage.url("result-throttled.json")
        models, pairs = bench.models.resolve(), min(bench.pairs, MOST_PAIRS)
        runs = run_process(run_throttled, models, urls, size, pairs)
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
        size: Bytes of the recording.
    """
    pairs = list(zip(slow, fast, strict=False))
    longer = [max(size / s["rate"], f["wall_s"]) for s, f in pairs]
    return {
        "rate": round(slow[0]["rate"]),
        "download_s": round(size / slow[0]["rate"], 3),
        "slow_s": figure([s["wall_s"] for s, _ in pairs]),
        "unlimited_s": figure([f["wall_s"] for _, f in pairs]),
        "ratio": ratios([s["wall_s"] for s, _ in pairs], longer),
    }


def run_throttled(
    models: Path, urls: tuple[str, str], size: int, pairs: int
) -> dict[str, list[dict[str, float]]]:
    """Run the jobs, in their process; the last one comes as slowly as it is worked on."""
    worker = Worker(models)
    audio_url, result_url = urls
    worker.run(*urls, WARM_UP_S)

    def transcribe(rate: float | None) -> dict[str, float]:
        limited = f"{audio_url}?rate={rate:.0f}" if rate else audio_url
        return {"wall_s": worker.run(limited, result_url).wall_s, "rate": rate or 0.0}

    found: dict[str, list[dict[str, float]]] = {"20 MB/s": [], "unlimited": [], "as slow": []}
    for _ in range(pairs):
        found["unlimited"].append(transcribe(None))
        found["20 MB/s"].append(transcribe(RATE))
    found["as slow"].append(transcribe(size / found["unlimited"][0]["wall_s"]))
    return found
