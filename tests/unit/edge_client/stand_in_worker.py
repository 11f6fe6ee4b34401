"""A worker without models: the SDK's real loop, canned transcripts.

``hotwords`` tells it what to do: ``fail``, ``crash``, ``upload_failed``, ``no_output``, ``slow``,
``brief`` (done after 3 s), ``flaky`` (a session's first job fails, its next is done at once).
"""

import asyncio
import base64
import gzip
import hashlib
from datetime import UTC, datetime
from typing import Any

import requests
import runpod

from bucketscribe_contract import (
    FailureCode,
    JobFailure,
    JobInput,
    JobSummary,
    Progress,
    Segment,
    Stage,
    StoredResult,
    Transcript,
    UploadFailed,
)

_seen: set[str] = set()


def transcript(request_id: str | None) -> Transcript:
    lines = [("SPEAKER_00", "Hello & welcome."), ("SPEAKER_01", "Thank you.")]
    return Transcript(
        segments=tuple(
            Segment(id=i, start=i * 2.0, end=i * 2.0 + 1.5, text=text, speaker=who, words=())
            for i, (who, text) in enumerate(lines)
        ),
        speakers=("SPEAKER_00", "SPEAKER_01"),
        language="en",
        language_probability=None,
        duration_seconds=4.0,
        processing_time_seconds=0.5,
        models={"transcribe": "canned"},
        request_id=request_id,
    )


async def handler(job: dict[str, Any]) -> Any:
    asked = JobInput.model_validate(job["input"])
    body = transcript(asked.request_id).model_dump_json().encode()
    stored = StoredResult(bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
    failure = JobFailure.of(FailureCode.AUDIO_UNREADABLE, "no audio in it", Stage.DECODE)
    match asked.hotwords:
        case "fail":
            return {"error": failure.model_dump_json()}
        case "crash":
            raise RuntimeError(f"could not read {asked.audio_url.reveal()}")  # type: ignore[union-attr]
        case "slow":
            await asyncio.sleep(60)
        case "upload_failed":
            packed = base64.b64encode(gzip.compress(body)).decode()
            lost = JobFailure.of(FailureCode.STORAGE_UNAVAILABLE, "S3 is away", Stage.DELIVER)
            return UploadFailed(
                failure=lost, transcript_gzip_base64=packed, result=stored
            ).model_dump(mode="json")
        case "flaky" if asked.audio_url.masked not in _seen:  # type: ignore[union-attr]
            _seen.add(asked.audio_url.masked)  # type: ignore[union-attr]
            away = JobFailure.of(FailureCode.STORAGE_UNAVAILABLE, "S3 is away", Stage.FETCH)
            return {"error": away.model_dump_json()}
        case "brief":
            await asyncio.sleep(3)
    if asked.hotwords not in ("brief", "flaky"):
        await report_progress(job)
    deliver(asked, body)
    if asked.hotwords == "no_output":
        return None
    return summary(asked, stored).model_dump(mode="json")


async def report_progress(job: dict[str, Any]) -> None:
    for stage, percent in ((Stage.FETCH, 5), (Stage.TRANSCRIBE, 40), (Stage.DELIVER, 95)):
        progress = Progress(stage=stage, percent=percent, updated_at=datetime.now(UTC))
        runpod.serverless.progress_update(job, progress.model_dump(mode="json"))
        # long enough to be seen by a client whose pauses grew while the worker started
        await asyncio.sleep(6.0 if stage is Stage.TRANSCRIBE else 1.0)


def deliver(asked: JobInput, body: bytes) -> None:
    assert asked.audio_url is not None
    assert asked.result_url is not None
    requests.get(asked.audio_url.reveal(), timeout=10).raise_for_status()
    headers = {"Content-Type": "application/json"}
    requests.put(
        asked.result_url.reveal(), data=body, headers=headers, timeout=10
    ).raise_for_status()


def summary(asked: JobInput, stored: StoredResult) -> JobSummary:
    return JobSummary(
        segments_count=2,
        speakers_count=2,
        duration_seconds=4.0,
        processing_time_seconds=0.5,
        language="en",
        result=stored,
        timings={Stage.TRANSCRIBE: 0.3},
        request_id=asked.request_id,
    )


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
