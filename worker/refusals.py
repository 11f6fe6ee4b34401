"""What S3's refusal of a GET means for the job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import requests

from contract import FailureCode, PresignedUrl, Stage
from worker.errors import WorkerError
from worker.storage import clock_skew_s, error_text
from worker.urls import expires_at


def refusal(url: PresignedUrl, response: requests.Response) -> WorkerError:
    """Return the failure for a response that is no recording.

    Args:
        url: What was asked.
        response: Any status but 200 and 206; its body is read for S3's own code.
    """
    status = response.status_code
    code, message = error_text(response)
    said = f"S3 answered {status} {code} {message}".strip()
    if status == requests.codes.not_found:
        return _failed(FailureCode.AUDIO_NOT_FOUND, f"no recording at {url.masked}: {said}")
    if status >= requests.codes.server_error or status == requests.codes.too_many_requests:
        return _failed(FailureCode.STORAGE_UNAVAILABLE, f"{said}; submit again later")
    if status < requests.codes.bad_request:
        remedy = "sign it for the bucket's own region"
        return _failed(FailureCode.URL_NOT_ALLOWED, f"audio_url redirects ({said}); {remedy}")
    ends = expires_at(url)
    now = datetime.now(UTC) + timedelta(seconds=clock_skew_s(response))
    if "expired" in f"{code} {message}".lower() or (ends and ends <= now):
        ended = f" It ended {ends:%Y-%m-%dT%H:%M:%SZ}." if ends else ""
        return _failed(FailureCode.AUDIO_URL_EXPIRED, f"{said}.{ended} Sign audio_url again")
    remedy = "check the signature and the signer's s3:GetObject permission"
    return _failed(FailureCode.AUDIO_FORBIDDEN, f"{said}; {remedy}")


def _failed(code: FailureCode, message: str) -> WorkerError:
    return WorkerError(code, message, Stage.FETCH)
