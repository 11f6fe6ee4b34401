"""What crosses the wire between the edge box and the GPU worker: pydantic models only.

Both sides import this package; it imports neither. JSON Schemas of the models are
generated into ``docs/schemas`` by ``make docs``.
"""

from bucketscribe_contract.failures import FAILURES as FAILURES
from bucketscribe_contract.failures import Action as Action
from bucketscribe_contract.failures import FailureCode as FailureCode
from bucketscribe_contract.failures import JobFailure as JobFailure
from bucketscribe_contract.failures import Stage as Stage
from bucketscribe_contract.failures import WarningCode as WarningCode
from bucketscribe_contract.failures import WarningText as WarningText
from bucketscribe_contract.failures import WireModel as WireModel
from bucketscribe_contract.job_input import Clip as Clip
from bucketscribe_contract.job_input import JobInput as JobInput
from bucketscribe_contract.job_input import JobOptions as JobOptions
from bucketscribe_contract.job_input import PresignedUrl as PresignedUrl
from bucketscribe_contract.job_input import ResultHeader as ResultHeader
from bucketscribe_contract.runpod import ExecutionPolicy as ExecutionPolicy
from bucketscribe_contract.runpod import JobState as JobState
from bucketscribe_contract.runpod import JobStatus as JobStatus
from bucketscribe_contract.runpod import Progress as Progress
from bucketscribe_contract.runpod import RunRequest as RunRequest
from bucketscribe_contract.transcript import AUDIO_ETAG_PATTERN as AUDIO_ETAG_PATTERN
from bucketscribe_contract.transcript import DroppedText as DroppedText
from bucketscribe_contract.transcript import Flag as Flag
from bucketscribe_contract.transcript import Interval as Interval
from bucketscribe_contract.transcript import JobSummary as JobSummary
from bucketscribe_contract.transcript import Segment as Segment
from bucketscribe_contract.transcript import StoredResult as StoredResult
from bucketscribe_contract.transcript import Transcript as Transcript
from bucketscribe_contract.transcript import TranscriptForm as TranscriptForm
from bucketscribe_contract.transcript import UploadFailed as UploadFailed
from bucketscribe_contract.transcript import Word as Word
from bucketscribe_contract.transcript import WordTiming as WordTiming
