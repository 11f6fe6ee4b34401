"""What a job can fail with.

    Exception
    └── WorkerError          a failure of the contract: code, stage, one line for people
        └── JobCancelled     the queue took the job back

Third-party errors are translated where they are touched, ``from exc``.
"""

from bucketscribe_contract import FailureCode, JobFailure, Stage
from bucketscribe_contract.redact import scrub

_LONGEST = 4096


class WorkerError(Exception):
    """A failure that crosses the wire.

    Args:
        code: The contract's code.
        message: One line that names the field or the remedy; scrubbed of URL queries.
        stage: Where it happened.
        needed_seconds: How long a URL has to live, where that is the failure.
    """

    def __init__(
        self, code: FailureCode, message: str, stage: Stage, needed_seconds: int | None = None
    ) -> None:
        super().__init__(scrub(message[:_LONGEST]))
        self.code = code
        self.stage = stage
        self.needed_seconds = needed_seconds

    def to_failure(self) -> JobFailure:
        """Return the value that the queue carries."""
        return JobFailure.of(self.code, str(self), self.stage, self.needed_seconds)


class JobCancelled(WorkerError):
    """The job's cancel token was set."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(FailureCode.CANCELLED, "the job was cancelled", stage)
