"""What crosses the wire between the edge box and the GPU worker: pydantic models only.

Both sides import this package; it imports neither. JSON Schemas of the models are
generated into ``docs/schemas`` by ``python -m contract.schemas``.
"""

from contract.base import MAX_SUMMARY_BYTES, WireModel
from contract.failures import (
    FAILURES,
    Action,
    FailureCode,
    FailureRule,
    JobFailure,
    Stage,
    WarningCode,
    WarningText,
)
from contract.job_input import Clip, JobInput, PresignedUrl
from contract.progress import Progress
from contract.queue import (
    ExecutionPolicy,
    JobState,
    JobStatus,
    RunRequest,
)
from contract.summary import (
    AUDIO_ETAG_PATTERN,
    JobSummary,
    StoredResult,
    TranscriptForm,
    UploadFailed,
)
from contract.transcript import Segment, Transcript, Word, WordTiming

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
