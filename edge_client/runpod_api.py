"""RunPod's serverless REST API: run, status, cancel, health.

Takes and returns the models of `contract`. GETs are repeated with back-off; ``POST /run`` never
is, because an answer that got lost says nothing about whether the job was queued. requests'
errors end here, as the `RunpodError` tree and `Unreachable`. One `RunpodApi` serves many threads:
few connections, and RunPod's rate limits kept, by one `Limiter`.
Source: docs.runpod.io/serverless/endpoints/send-requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import requests
import stamina
from pydantic import ValidationError
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from contract import JobStatus, RunRequest
from edge_client.errors import (
    AnswerLost,
    BadResponse,
    EdgeError,
    EndpointNotFound,
    JobNotFound,
    RateLimited,
    RequestRefused,
    Unauthorized,
    Unreachable,
)
from edge_client.limiter import Kind, Limiter, Pass
from edge_client.pooled_http import pooled_session
from edge_client.redaction import one_line

if TYPE_CHECKING:
    from pydantic import SecretStr

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
ATTEMPTS = 4
MAX_RETRY_AFTER_S = 300.0
RUN_PATIENCE_S = 5.0
"""A submission's claim is in S3 already: if its turn is later than this, it is not sent at all, so
that nobody takes it for one whose answer was lost (``LOST_ANSWER_SECONDS``)."""


class RunpodApi:
    """One endpoint's API.

    Args:
        base_url: Such as ``https://api.runpod.ai/v2``.
        endpoint_id: RunPod's id of the endpoint.
        key: The API key.
        limiter: Shared by all that speak to this endpoint.
        count: Told the kind of each request.
    """

    def __init__(
        self,
        base_url: str,
        endpoint_id: str,
        key: SecretStr,
        limiter: Limiter | None = None,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.endpoint_id = endpoint_id
        self._root = f"{base_url.rstrip('/')}/{quote(endpoint_id, safe='')}"
        self._limiter, self._count = limiter or Limiter(), count
        self._http = pooled_session(key)

    def run(self, request: RunRequest) -> JobStatus:
        """Submit a job, once.

        Raises:
            AnswerLost: It may have been queued; do not submit again blindly.
            Unreachable: No connection was made: it was not queued.
            RateLimited: RunPod refused it, or would for so long that it was not even sent.
            RunpodError: It was refused: it was not queued.
        """
        try:
            response = self._send(Kind.RUN, "POST", "/run", request.to_wire(), RUN_PATIENCE_S)
            if response.status_code >= 500:
                raise AnswerLost(f"RunPod answered {response.status_code} to the submission")
        except requests.RequestException as exc:
            if _never_connected(exc):
                _raise_unreachable(exc)
            raise AnswerLost(
                f"the connection broke during the submission ({type(exc).__name__})"
            ) from exc
        try:
            return self._job(self._checked(response, EndpointNotFound))
        except BadResponse as exc:
            raise AnswerLost("RunPod took the submission but named no job") from exc

    def status(self, job_id: str) -> JobStatus:
        """Ask for a job's state.

        Raises:
            JobNotFound: RunPod never had it, or has forgotten it.
        """
        return self._job(self._get(f"/status/{quote(job_id, safe='')}", JobNotFound))

    def cancel(self, job_id: str) -> JobStatus:
        """Cancel a job that waits or runs.

        Raises:
            JobNotFound: As `status`.
        """
        path = f"/cancel/{quote(job_id, safe='')}"
        return self._job(self._checked(self._try(Kind.CANCEL, "POST", path), JobNotFound))

    def health(self) -> dict[str, Any]:
        """Return the endpoint's counts: ``{"jobs": {…}, "workers": {…}}``."""
        return self._get("/health", EndpointNotFound)

    def _get(self, path: str, absent: type[EdgeError]) -> dict[str, Any]:
        for attempt in stamina.retry_context(on=_wait_before_retry, attempts=ATTEMPTS, timeout=120):
            with attempt:
                return self._checked(self._try(Kind.STATUS, "GET", path), absent)
        raise AssertionError("stamina yields at least one attempt")

    def _try(self, kind: Kind, method: str, path: str) -> requests.Response:
        try:
            return self._send(kind, method, path)
        except requests.RequestException as exc:
            _raise_unreachable(exc)

    def _send(
        self,
        kind: Kind,
        method: str,
        path: str,
        body: object = None,
        patience_s: float = float("inf"),
    ) -> requests.Response:
        """Send one request when its turn has come, and tell the limiter how it was taken."""
        leave = self._limiter.enter(kind, patience_s)
        if not isinstance(leave, Pass):
            raise RateLimited(f"RunPod wants fewer requests: not sent for {leave:.0f} s", leave)
        self._count(f"/{path.split('/')[1]}")
        response = self._http.request(
            method,
            self._root + path,
            json=body,
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            allow_redirects=False,  # a redirected POST becomes a GET; the key stays with its host
        )
        if response.status_code == 429:
            self._limiter.refused(leave, _retry_after_s(response))
        else:
            self._limiter.accepted(leave)
        return response

    def _checked(self, response: requests.Response, absent: type[EdgeError]) -> dict[str, Any]:
        if response.status_code != 200:
            raise _refusal(response, absent)
        try:
            answer = response.json()
        except requests.JSONDecodeError as exc:
            raise BadResponse("not JSON: check RUNPOD_ENDPOINT_BASE_URL") from exc
        if not isinstance(answer, dict):
            raise BadResponse("RunPod's answer is not a JSON object")
        return answer

    def _job(self, answer: dict[str, Any]) -> JobStatus:
        try:
            return JobStatus.model_validate(answer)
        except ValidationError as exc:
            fields = ", ".join(str(e["loc"][0]) for e in exc.errors(include_input=False))
            raise BadResponse(f"RunPod's answer is no job status (see {fields})") from exc


def _refusal(response: requests.Response, absent: type[EdgeError]) -> EdgeError:
    status = response.status_code
    if status in (401, 403):
        return Unauthorized(f"RunPod answers {status}: check RUNPOD_API_KEY and its permissions")
    if status == 404:
        return absent(
            "RunPod has no such endpoint: check RUNPOD_ENDPOINT_ID"
            if absent is EndpointNotFound
            else "RunPod has no such job: it forgets results after 30 minutes"
        )
    if status == 429:
        return RateLimited("RunPod wants fewer requests: try again later", _retry_after_s(response))
    if status >= 500:
        return Unreachable(f"RunPod answers {status}: try again later")
    return RequestRefused(f"RunPod answers {status}: {one_line(response.text, 200)}")


def _retry_after_s(response: requests.Response) -> float | None:
    try:
        return min(MAX_RETRY_AFTER_S, max(0.0, float(response.headers["Retry-After"])))
    except (KeyError, ValueError):  # absent, or an HTTP date, which RunPod does not send
        return None


def _wait_before_retry(exc: Exception) -> bool | float:
    """Tell stamina whether to try again; after a 429 at once, for the limiter waits."""
    if isinstance(exc, RateLimited):
        return 0.0
    return isinstance(exc, Unreachable)


def _never_connected(exc: requests.RequestException) -> bool:
    """Tell whether the request certainly did not leave this machine."""
    if isinstance(exc, requests.exceptions.SSLError | requests.exceptions.ProxyError):
        return True
    cause = exc.args[0] if exc.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


def _raise_unreachable(exc: requests.RequestException) -> NoReturn:
    raise Unreachable(
        f"RunPod does not answer ({type(exc).__name__}): check the network and "
        "RUNPOD_ENDPOINT_BASE_URL"
    ) from exc
