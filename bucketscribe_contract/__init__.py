"""What crosses the wire between the edge box and the GPU worker: pydantic models only.

Both sides import this package; it imports neither. JSON Schemas of the models are
generated into ``docs/schemas`` by ``make docs``.
"""

from bucketscribe_contract.failures import (
    FAILURES,
    MAX_SUMMARY_BYTES,
    Action,
    FailureCode,
    FailureRule,
    JobFailure,
    Stage,
    WarningCode,
    WarningText,
    WireModel,
)
from bucketscribe_contract.job_input import Clip, JobInput, PresignedUrl
from bucketscribe_contract.runpod import ExecutionPolicy, JobState, JobStatus, Progress, RunRequest
from bucketscribe_contract.summary import (
    AUDIO_ETAG_PATTERN,
    JobSummary,
    StoredResult,
    TranscriptForm,
    UploadFailed,
)
from bucketscribe_contract.transcript import Segment, Transcript, Word, WordTiming

__all__ = [
    "AUDIO_ETAG_PATTERN",
    "FAILURES",
    "MAX_SUMMARY_BYTES",
    "Action",
    "Clip",
    "ExecutionPolicy",
    "FailureCode",
    "FailureRule",
    "JobFailure",
    "JobInput",
    "JobState",
    "JobStatus",
    "JobSummary",
    "PresignedUrl",
    "Progress",
    "RunRequest",
    "Segment",
    "Stage",
    "StoredResult",
    "Transcript",
    "TranscriptForm",
    "UploadFailed",
    "WarningCode",
    "WarningText",
    "WireModel",
    "Word",
    "WordTiming",
]
