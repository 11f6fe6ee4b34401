"""RunPod's serverless REST API: run, status, cancel, health.

Takes and returns the models of `contract`. GETs are repeated with back-off; ``POST /run`` never
is, because an answer that got lost says nothing about whether the job was queued. requests'
errors end here, as the `RunpodError` tree and `Unreachable`. One `RunpodApi` serves many threads:
few connections, and RunPod's rate limits kept, by one `Limiter`.
Source: docs.runpod.io/serverless/endpoints/send-requests.

Keeps RunPod's rate limits: one limiter for all threads that speak to an endpoint.

Takes the kind of each request before it is sent, and every 429 after; returns when it may be sent.
Each kind has a rate of its own, smooth with a small burst (the generic cell rate algorithm: one
number of state, the time at which the bucket would be empty). A 429 stops everybody of its kind.

pyrate-limiter 4.5 was looked at: it takes a clock but sleeps on the machine's own, and knows no
pause that all callers share, so the two things that matter here would have been ours anyway.

RunPod counts per endpoint, this counts per process: several boxes on one endpoint share by 429.

One requests session for many threads: few connections, one key, no cookies.

Counts the requests that this box makes, by kind: what a run costs beside GPU time.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import requests
import stamina
from pydantic import ValidationError
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from bucketscribe_contract import JobStatus, RunRequest
from bucketscribe_contract.redact import one_line
from edge_client.clock import Clock
from edge_client.errors import (
    AnswerLost,
    BadResponse,
    EdgeError,
    EndpointNotFound,
    JobNotFound,
    RateLimited,
    RequestRefused,
    RunpodError,
    Unauthorized,
    Unreachable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from pydantic import SecretStr


FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0


class Kind(StrEnum):
    """What RunPod counts on its own. It names no limit for ``/health``: that is a `STATUS`."""

    RUN = "run"
    STATUS = "status"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Rate:
    """How often something may happen: ``burst`` at once, then ``per_s`` a second."""

    per_s: float
    burst: int


RATES: Mapping[Kind, Rate] = {
    Kind.RUN: Rate(per_s=80, burst=100),
    Kind.STATUS: Rate(per_s=160, burst=200),
    Kind.CANCEL: Rate(per_s=8, burst=10),
}
"""Of RunPod's 1,000, 2,000 and 100 in 10 s, nine tenths (``10 * per_s + burst``): requests that
leave evenly do not arrive so. Source: docs.runpod.io/serverless/endpoints/send-requests."""


@dataclass(frozen=True)
class Pass:
    """Leave to send one request. ``refusals``: how many pauses its kind had when it was given."""

    kind: Kind
    refusals: int


class Limiter:
    """Lets requests through no faster than RunPod takes them. For many threads.

    Args:
        clock: Whose seconds are counted and slept.
        rates: For each kind.
        jitter: Returns a factor for pauses, so that boxes refused together do not return together.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        rates: Mapping[Kind, Rate] = RATES,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),  # noqa: S311 - no secret
    ) -> None:
        clock = clock or Clock()
        self._sleep = clock.sleep
        self._lanes = {kind: _Lane(rate, clock, jitter) for kind, rate in rates.items()}

    def enter(self, kind: Kind, patience_s: float = float("inf")) -> Pass | float:
        """Wait for leave to send a request.

        Args:
            kind: Its kind.
            patience_s: The longest wait; nobody waits at all where it would be longer.

        Returns:
            The leave, or the seconds that it would have taken.
        """
        lane = self._lanes[kind]
        while True:
            wait_s, pauses = lane.reserve(patience_s)
            if wait_s > patience_s:
                return wait_s
            if wait_s > 0:
                self._sleep(wait_s)
            if lane.pauses == pauses:  # else a 429 came while this one slept: its place is void
                return Pass(kind, pauses)

    def refused(self, leave: Pass, retry_after_s: float | None) -> None:
        """Take a 429: everybody of its kind pauses.

        Args:
            leave: Of the request that was refused.
            retry_after_s: What RunPod asked for; else the pauses double from 1 s to 60 s.
        """
        self._lanes[leave.kind].pause(leave.refusals, retry_after_s)

    def accepted(self, leave: Pass) -> None:
        """Take any other answer: the next pause is a short one again."""
        self._lanes[leave.kind].relax(leave.refusals)


class _Lane:
    """The state of one kind; times are of the clock's monotonic seconds."""

    def __init__(self, rate: Rate, clock: Clock, jitter: Callable[[], float]) -> None:
        self._interval_s = 1 / rate.per_s
        self._slack_s = (rate.burst - 1) * self._interval_s
        self._now, self._jitter = clock.monotonic, jitter
        self._lock = threading.Lock()
        self._full_at = self._now()  # when all that was let through will have been paid off
        self._open_at = self._full_at
        self._in_a_row = 0
        self.pauses = 0

    def reserve(self, patience_s: float) -> tuple[float, int]:
        """Take the next place, if it is near enough; return the wait for it."""
        with self._lock:
            now = self._now()
            wait_s = max(0.0, self._full_at - self._slack_s - now, self._open_at - now)
            if wait_s <= patience_s:
                self._full_at = max(self._full_at, now) + self._interval_s
            return wait_s, self.pauses

    def pause(self, seen: int, retry_after_s: float | None) -> None:
        """Close for a while; requests that were on their way at the same time count once."""
        with self._lock:
            is_first = seen == self.pauses
            if is_first:
                self._in_a_row += 1
            pause_s = self._own_s() if retry_after_s is None and is_first else retry_after_s or 0.0
            open_at = self._now() + pause_s
            if is_first or open_at > self._open_at:
                self.pauses += 1
                self._open_at = max(self._open_at, open_at)
                self._full_at = self._open_at + self._slack_s  # no burst afterwards

    def _own_s(self) -> float:
        doubled_s: float = FIRST_PAUSE_S * 2 ** min(self._in_a_row - 1, 10)
        return min(MAX_PAUSE_S, doubled_s) * self._jitter()

    def relax(self, seen: int) -> None:
        """Forget the pauses so far, unless the request left before the last one."""
        with self._lock:
            if seen == self.pauses:
                self._in_a_row = 0


CONNECTIONS = 16
"""Fewer than RunPod takes of any kind at once (20 cancels): the pool keeps those limits, too."""


class _Bearer(AuthBase):
    """Sets the key as ``auth``: requests lets a ~/.netrc override a mere header."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return request


def pooled_session(key: SecretStr) -> requests.Session:
    """Return a session for many threads: they wait for one of few connections, and keep no cookies.

    Its parts that change are urllib3's pools, which have locks, and the cookie jar, which stays
    empty: RunPod's proxy sets one a request, and they would pin all threads to one server.
    """
    session = requests.Session()
    session.auth = _Bearer(key)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS, pool_block=True)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class RequestCounter:
    """Counters that many threads share. Retries count: they are requests, too."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._made: Counter[str] = Counter()

    def count(self, kind: str) -> None:
        """Count one request."""
        with self._turn:
            self._made[kind] += 1

    def made(self) -> dict[str, int]:
        """Return how many of each kind there were, most first."""
        with self._turn:
            return dict(self._made.most_common())

    def watch(self, client: S3Client) -> None:
        """Count what a boto3 client sends, by operation."""
        client.meta.events.register("before-send.s3", self._sent)

    def _sent(self, event_name: str, **_: Any) -> None:
        self.count(event_name.rpartition(".")[2])


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


LEAST_BETWEEN_LOOKS_S = 0.5


class IdleMonitor:
    """Since when an endpoint has had no job, for all who search: one look serves them together.

    Args:
        api: The endpoint.
        clock: Real, or a test's.
    """

    def __init__(self, api: RunpodApi, clock: Clock) -> None:
        self._api, self._clock = api, clock
        self._turn = threading.Lock()
        self._since: float | None = None
        self._looked_at: float | None = None

    def since(self) -> float | None:
        """Return the monotonic second of the first of an unbroken row of quiet looks.

        Returns:
            None if the endpoint is not quiet, or does not say.
        """
        with self._turn:
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at >= LEAST_BETWEEN_LOOKS_S:
                self._looked_at = now
                quiet = self._is_quiet()
                self._since = None if not quiet else now if self._since is None else self._since
            return self._since

    def _is_quiet(self) -> bool:
        try:
            return is_idle(self._api.health())
        except (Unreachable, RunpodError):
            return False


def is_idle(health: Mapping[str, Any]) -> bool:
    """Tell whether an endpoint certainly has no job: every count is there, and is zero."""
    jobs, workers = health.get("jobs"), health.get("workers")
    if not isinstance(jobs, Mapping) or not isinstance(workers, Mapping):
        return False
    counts = (jobs.get("inQueue"), jobs.get("inProgress"), workers.get("running"))
    return all(count == 0 for count in counts)
