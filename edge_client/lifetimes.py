"""How long a job may run, how long RunPod keeps it, how long its URLs live.

The three agree, and follow from the recording's length:

    executionTimeout = max(600 s, 300 s + 1.0 x duration)
    ttl              = 7,200 s in the queue + executionTimeout, or more if the URLs live longer
    URL expiry       = ttl + 900 s, at least PRESIGNED_URL_EXPIRY, at most 7 days

RunPod's default of 10 minutes kills a 74-minute recording. A rented GPU took 892 s for one
(the seed's figure, 0.2 of its length): a factor of 1.0 leaves five times that, and the 300 s
cover a slow download. RunPod counts the ttl from the submission, so it covers queue and run. The
900 s let the last PUT start at the end of the ttl, on clocks that differ by minutes.
PRESIGNED_URL_EXPIRY is the knob for long queues: a larger value lengthens the ttl too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from contract import ExecutionPolicy
from edge_client.errors import BadUsage, RecordingTooLong

STARTUP_S = 300
SPEED_FACTOR = 1.0
LIKELY_FACTOR = 0.4
"""Twice what the seed's GPU took."""
KNOWN_FACTOR = 2.0
MIN_EXECUTION_S = 600
QUEUE_S = 7_200
MARGIN_S = 900
MAX_URL_EXPIRY_S = 604_800
"""S3's limit for SigV4 URLs; RunPod's for executionTimeout and ttl is the same 7 days."""
MAX_DURATION_S = (MAX_URL_EXPIRY_S - MARGIN_S - QUEUE_S - STARTUP_S) / SPEED_FACTOR


@dataclass(frozen=True)
class Lifetimes:
    """What one submission is given, in whole seconds.

    Attributes:
        likely_s: How long the job will take once it runs, generously: no limit, but what
            temporary keys must outlive at least.
    """

    execution_timeout_s: int
    ttl_s: int
    url_expiry_s: int
    likely_s: int

    def policy(self) -> ExecutionPolicy:
        """Return what RunPod is told, in its milliseconds."""
        return ExecutionPolicy(
            execution_timeout_ms=self.execution_timeout_s * 1000, ttl_ms=self.ttl_s * 1000
        )

    def urls_end(self, now: datetime) -> datetime:
        """Return when URLs that are signed ``now`` end."""
        return now + timedelta(seconds=self.url_expiry_s)

    def ending_within(self, left_s: int) -> Lifetimes:
        """Shorten all of them to ``left_s``, so that a URL's own clock tells the truth."""
        return Lifetimes(
            min(self.execution_timeout_s, left_s),
            min(self.ttl_s, left_s),
            min(self.url_expiry_s, left_s),
            self.likely_s,
        )


def plan(duration_s: float, least_expiry_s: int, known_s: float = 0.0) -> Lifetimes:
    """Compute the lifetimes of one job.

    Args:
        duration_s: The recording's length, finite and not negative.
        least_expiry_s: ``PRESIGNED_URL_EXPIRY``, 1 to 604,800.
        known_s: The job is known to need so long: an earlier one was killed after it, or its
            worker said so. It is given twice that, within the 7 days.

    Raises:
        RecordingTooLong: No URL lives long enough.
    """
    if duration_s > MAX_DURATION_S:
        raise RecordingTooLong(
            f"the recording is {duration_s / 3600:.1f} h long, the limit is "
            f"{MAX_DURATION_S / 3600:.1f} h (presigned URLs end after 7 days): split it"
        )
    longest_s = MAX_URL_EXPIRY_S - MARGIN_S - QUEUE_S
    execution_s = max(MIN_EXECUTION_S, math.ceil(STARTUP_S + SPEED_FACTOR * duration_s))
    execution_s = min(longest_s, max(execution_s, math.ceil(KNOWN_FACTOR * known_s)))
    expiry_s = max(check_expiry(least_expiry_s), QUEUE_S + execution_s + MARGIN_S)
    likely_s = math.ceil(max(STARTUP_S + LIKELY_FACTOR * duration_s, known_s))
    return Lifetimes(execution_s, expiry_s - MARGIN_S, expiry_s, likely_s)


def check_expiry(expires_s: int) -> int:
    """Return ``expires_s`` if S3 can sign for so long.

    Raises:
        BadUsage: It is not within 1 to 604,800 seconds.
    """
    if not 1 <= expires_s <= MAX_URL_EXPIRY_S:
        raise BadUsage(f"a presigned URL lives 1 to {MAX_URL_EXPIRY_S} seconds, not {expires_s}")
    return expires_s
