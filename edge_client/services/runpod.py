"""RunPod's serverless REST API: run, status, cancel, health.

GETs are retried; ``POST /run`` never is, because an answer that got lost says nothing about whether
the job was queued. requests' errors become the `RunpodError` tree and `Unreachable`. It is for many
threads, and keeps RunPod's limits. Source: docs.runpod.io/serverless/endpoints/send-requests.
"""

from __future__ import annotations

import json
import logging
import math
import random
import re
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from pydantic import SecretStr, ValidationError
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, SSLError
from urllib3.util import Retry

from bucketscribe_contract import JobState, JobStatus, RunRequest
from bucketscribe_contract.redact import one_line
from edge_client import errors
from edge_client.clock import Clock

log = logging.getLogger(__name__)


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
leave evenly do not arrive so. RunPod counts per endpoint, this per process: several edge boxes
on one endpoint share by 429."""
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0


class TokenBucket:
    """Lets requests of one kind through no faster than RunPod takes them; a 429 stops all of them.

    The generic cell rate algorithm: its state is the time at which the bucket would be empty.
    pyrate-limiter 4.5 knows no pause that all callers share, and sleeps on the machine's clock.
    Pauses have a factor as jitter, so that boxes refused together do not return together.
    """

    def __init__(
        self,
        rate: Rate,
        clock: Clock,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),  # noqa: S311 - no secret
    ) -> None:
        self._clock, self._jitter = clock, jitter
        self._interval_s = 1 / rate.per_s
        self._slack_s = (rate.burst - 1) * self._interval_s
        self._lock = threading.Lock()
        self._empty_at = self._open_at = clock.monotonic()
        self._refused_in_a_row = self._pauses = 0

    def acquire(self, patience_s: float = float("inf")) -> int:
        """Wait for leave, or raise `RateLimited` at once; return how many pauses there were."""
        while True:
            with self._lock:
                now, pauses = self._clock.monotonic(), self._pauses
                wait_s = max(0.0, self._empty_at - self._slack_s - now, self._open_at - now)
                if wait_s > patience_s:
                    text = f"RunPod wants fewer requests: not sent for {wait_s:.0f} s"
                    raise errors.RateLimited(text, wait_s)
                self._empty_at = max(self._empty_at, now) + self._interval_s
            if wait_s > 0:
                self._clock.sleep(wait_s)
            if self._pauses == pauses:  # else a 429 came while this one slept: its place is void
                return pauses

    def refused(self, pauses: int, retry_after_s: float | None) -> None:
        """Take a 429 of a request for which `acquire` returned ``pauses``: everybody pauses.

        Requests that were in flight together count once. The pauses double from 1 s to 60 s
        where RunPod does not ask for one.
        """
        with self._lock:
            is_first = pauses == self._pauses
            self._refused_in_a_row += is_first
            pause_s = retry_after_s or 0.0
            if retry_after_s is None and is_first:
                doubled_s = FIRST_PAUSE_S * 2.0 ** min(self._refused_in_a_row - 1, 10)
                pause_s = min(MAX_PAUSE_S, doubled_s) * self._jitter()
            open_at = self._clock.monotonic() + pause_s
            if is_first or open_at > self._open_at:
                self._pauses += 1
                self._open_at = max(self._open_at, open_at)
                self._empty_at = self._open_at + self._slack_s  # no burst afterwards

    def accepted(self, pauses: int) -> None:
        """Take any other answer: the next pause is short again, unless one came in between."""
        with self._lock:
            if pauses == self._pauses:
                self._refused_in_a_row = 0


CONNECTIONS = 16
"""Fewer than RunPod takes of any kind at once (20 cancels)."""
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = {Kind.RUN: 110.0, Kind.STATUS: 30.0, Kind.CANCEL: 30.0}
"""RunPod's proxy gives ``/run`` up after 100 s, with 524."""
ATTEMPTS = 4
GET_RETRY = Retry(
    ATTEMPTS - 1,
    allowed_methods=("GET",),
    status_forcelist=range(500, 600),
    backoff_factor=0.5,
    backoff_jitter=1.0,
    raise_on_status=False,
    respect_retry_after_header=False,  # a 429 is the token bucket's: its pause is for all threads
)
MAX_RETRY_AFTER_S = 300.0
MAX_ANSWER_BYTES = 64 * 2**20
"""RunPod takes 20 MB as a result."""
REFUSAL_PATIENCE_S = 30.0
"""A key that was good is refused for so long before that is believed."""
LEAST_BETWEEN_LOOKS_S = 0.5
RUN_PATIENCE_S = 5.0
"""A submission's claim is in S3 already: if its turn is later than this, it is not sent at all, so
that nobody takes it for one whose answer was lost (``LOST_ANSWER_SECONDS``)."""


def _http_session(root: str, key: SecretStr) -> requests.Session:
    """Return a session for many threads: they wait for one of few connections.

    Its parts that change are urllib3's pools, which have locks, and the cookie jar, which stays
    empty: RunPod's proxy sets one a request, and they would pin all threads to one server.
    """

    def bearer(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        return request

    session = requests.Session()
    session.auth = bearer  # requests lets a ~/.netrc override a mere header
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    for path, retry in (("/", 0), ("/status/", GET_RETRY), ("/health", GET_RETRY)):
        session.mount(root + path, HTTPAdapter(1, CONNECTIONS, retry, pool_block=True))
    return session


@dataclass(frozen=True)
class Answer:
    """What RunPod, or a proxy before it, answered."""

    method: str
    status: int
    headers: Mapping[str, str]
    text: str


class RunpodApi:
    """One endpoint's API, below a ``base_url`` such as ``https://api.runpod.ai/v2``.

    Every request that is sent is counted in ``made``, by its path's first part; retries, too.
    """

    def __init__(
        self,
        base_url: str,
        endpoint_id: str,
        key: SecretStr,
        clock: Clock | None = None,
        made: Counter[str] | None = None,
        ca_bundle: Path | None = None,
    ) -> None:
        self.endpoint_id = endpoint_id
        self._root = f"{base_url.rstrip('/')}/{quote(endpoint_id, safe='')}"
        self._made = Counter[str]() if made is None else made
        self._lock = threading.Lock()
        clock = clock or Clock()
        self._buckets = {kind: TokenBucket(rate, clock) for kind, rate in RATES.items()}
        self._http = _http_session(self._root, key)
        self._verify = None if ca_bundle is None else str(ca_bundle)  # wins over requests' own
        self._clock, self._was_accepted = clock, False
        self._refused_since: float | None = None
        self._idle_lock = threading.Lock()
        self._idle_since: float | None = None
        self._looked_at = -math.inf

    def run(self, request: RunRequest) -> JobStatus:
        """Submit a job, once.

        Raises:
            AnswerLost: It may have been queued; do not submit again blindly.
            NotSent: Nothing left this machine: it was not queued.
            RateLimited: RunPod refused it, or would for so long that it was not even sent.
            RunpodError: It was refused: it was not queued.
        """
        try:
            answer = self._send(Kind.RUN, "POST", "/run", request.to_wire(), RUN_PATIENCE_S)
            queued = self._checked(answer, errors.EndpointNotFound)
            return self._job(queued | {"status": JobState.IN_QUEUE})  # what counts is its id
        except requests.RequestException as exc:
            if _was_not_sent(exc):
                raise _no_answer(exc, errors.NotSent) from exc
            text = f"the connection broke during the submission ({type(exc).__name__})"
            raise errors.AnswerLost(text) from exc
        except errors.BadResponse as exc:
            what = str(exc).partition(":")[0]  # the rest tells to try again
            raise errors.AnswerLost(f"the answer to the submission names no job ({what})") from exc

    def status(self, job_id: str) -> JobStatus:
        """Ask for a job's state.

        Raises:
            JobNotFound: RunPod never had it, or has forgotten it.
            BadResponse: The answer says nothing about this job.
        """
        path = f"/status/{_segment(job_id)}"
        return self._job(self._call(Kind.STATUS, "GET", path, errors.JobNotFound), job_id)

    def cancel(self, job_id: str) -> JobStatus:
        """Cancel a job that waits or runs; raises as `status`."""
        path = f"/cancel/{_segment(job_id)}"
        return self._job(self._call(Kind.CANCEL, "POST", path, errors.JobNotFound), job_id)

    def health(self) -> dict[str, Any]:
        """Return the endpoint's counts: ``{"jobs": {…}, "workers": {…}}``."""
        return self._call(Kind.STATUS, "GET", "/health", errors.EndpointNotFound)

    def idle_since(self) -> float | None:
        """Return the monotonic second of the first of an unbroken row of idle looks, or None.

        One look serves all who ask within `LEAST_BETWEEN_LOOKS_S`.
        """
        with self._idle_lock:
            now = self._clock.monotonic()
            if now - self._looked_at >= LEAST_BETWEEN_LOOKS_S:
                self._looked_at = now
                before, self._idle_since = self._idle_since, None
                with suppress(errors.Unreachable, errors.RunpodError):
                    if is_idle(self.health()):
                        self._idle_since = now if before is None else before
            return self._idle_since

    def _call(
        self, kind: Kind, method: str, path: str, absent: type[errors.EdgeError]
    ) -> dict[str, Any]:
        for _ in range(ATTEMPTS if method == "GET" else 1):
            try:
                answer = self._send(kind, method, path)
            except requests.RequestException as exc:
                raise _no_answer(exc, errors.Unreachable) from exc
            if answer.status != 429:
                break
        return self._checked(answer, absent)

    def _send(
        self,
        kind: Kind,
        method: str,
        path: str,
        body: object = None,
        patience_s: float = float("inf"),
    ) -> Answer:
        """Send one request when its turn has come, and tell the bucket how it was answered."""
        bucket = self._buckets[kind]
        pauses = bucket.acquire(patience_s)
        name = f"/{path.split('/')[1]}"
        with self._http.request(
            method,
            self._root + path,
            json=body,
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S[kind]),
            allow_redirects=False,  # a redirected POST becomes a GET; the key stays with its host
            stream=True,
            verify=self._verify,
        ) as response:
            retries = response.raw.retries
            count = 1 + (len(retries.history) if retries is not None else 0)
            answer = Answer(method, response.status_code, response.headers, _text_of(response))
        with self._lock:
            self._made[name] += count
        log.info("RunPod: %s %s: %d%s", method, path, answer.status, f", try {count}" * (count > 1))
        if answer.status == 429:
            bucket.refused(pauses, _retry_after_s(answer))
        else:
            bucket.accepted(pauses)
        return answer

    def _checked(self, answer: Answer, absent: type[errors.EdgeError]) -> dict[str, Any]:
        if answer.status != 200:
            refused = refusal(answer, absent)
            if isinstance(refused, errors.Unauthorized) and answer.method == "GET":
                now_s = self._clock.monotonic()
                if self._refused_since is None:
                    self._refused_since = now_s
                if self._was_accepted and now_s - self._refused_since < REFUSAL_PATIENCE_S:
                    text = f"{refused}, though it was good before: looking again"
                    raise errors.BadResponse(text)
            raise refused
        self._was_accepted, self._refused_since = True, None
        try:
            told = json.loads(answer.text)
        except ValueError as exc:
            raise errors.BadResponse("not JSON: check RUNPOD_ENDPOINT_BASE_URL") from exc
        if not isinstance(told, dict):
            raise errors.BadResponse("RunPod's answer is not a JSON object")
        return told

    def _job(self, answer: dict[str, Any], job_id: str | None = None) -> JobStatus:
        """Read a job; with ``job_id``, it has to be that one."""
        try:
            status = JobStatus.model_validate(answer)
        except ValidationError as exc:
            fields = ", ".join(str(e["loc"][0]) for e in exc.errors(include_input=False))
            raise errors.BadResponse(f"RunPod's answer is no job status (see {fields})") from exc
        if job_id is not None and status.id != job_id:
            raise errors.BadResponse("RunPod answers about another job")
        return status


def refusal(answer: Answer, absent: type[errors.EdgeError]) -> errors.EdgeError:
    """Return what an answer other than 200 means; ``absent`` is a 404."""
    status, words = answer.status, one_line(answer.text, 200)
    if status == 429:
        text = "RunPod wants fewer requests: try again later"
        return errors.RateLimited(text, _retry_after_s(answer))
    is_page = words.startswith("<")  # a proxy's
    if status != 401 and (status >= 500 or is_page):
        what = f"{status} with a web page" if is_page else status
        return errors.BadResponse(f"RunPod answers {what}: try again later")
    if status in (401, 403):
        said = f" ({words})" if words and not is_page else ""
        text = f"RunPod answers {status}{said}: check RUNPOD_API_KEY and its permissions"
        return errors.Unauthorized(text)
    if status == 404 and absent is errors.EndpointNotFound:
        return absent("RunPod has no such endpoint: check RUNPOD_ENDPOINT_ID")
    if status == 404:
        return absent("RunPod has no such job: it forgets results after 30 minutes")
    text = f"RunPod answers {status}: {words}"
    is_get = answer.method == "GET"
    return errors.BadResponse(text) if is_get else errors.RequestRefused(text)


def _retry_after_s(answer: Answer) -> float | None:
    try:
        return min(MAX_RETRY_AFTER_S, max(0.0, float(answer.headers["Retry-After"])))
    except (KeyError, ValueError):  # absent, or an HTTP date, which RunPod does not send
        return None


def _cause(exc: requests.RequestException) -> object:
    """Return what broke.

    urllib3 calls a connection that breaks behind a proxy a `ProxyError`, and one whose TLS breaks
    an `SSLError`, also after the request went out: what they wrap decides.
    """
    cause = exc.args[0] if exc.args else None
    reason = getattr(cause, "reason", cause)
    root = getattr(reason, "original_error", reason)
    return root.args[0] if isinstance(root, SSLError) and root.args else root


def _was_not_sent(exc: requests.RequestException) -> bool:
    """Tell whether a request certainly did not leave this machine."""
    root = _cause(exc)
    proofs = (NewConnectionError, ConnectTimeoutError, ssl.SSLCertVerificationError)
    return isinstance(root, proofs) or str(root).startswith("Tunnel connection failed")


def _no_answer(exc: requests.RequestException, error: type[errors.Unreachable]) -> errors.EdgeError:
    if isinstance(_cause(exc), ssl.SSLCertVerificationError):
        return errors.NotConfigured(f"RunPod: {errors.BAD_CERTIFICATE}")
    remedy = "check the network and RUNPOD_ENDPOINT_BASE_URL"
    return error(f"RunPod does not answer ({type(exc).__name__}): {remedy}")


def _text_of(response: requests.Response) -> str:
    """Read an answer, but never more than one can be."""
    body = bytearray()
    for chunk in response.iter_content(65_536):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise errors.BadResponse(f"RunPod's answer has over {MAX_ANSWER_BYTES:,} bytes")
    return body.decode("utf-8", "replace")


def _segment(job_id: str) -> str:
    """Return a job's id if it can be one: a path such as ``..`` leads elsewhere."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", job_id):
        raise errors.JobNotFound(f"{job_id[:200]!r} is no job's id: check it")
    return job_id


def is_idle(health: Mapping[str, Any]) -> bool:
    """Tell whether an endpoint certainly has no job: every count is there, and is zero."""
    jobs, workers = health.get("jobs"), health.get("workers")
    if not isinstance(jobs, Mapping) or not isinstance(workers, Mapping):
        return False
    return jobs.get("inQueue") == jobs.get("inProgress") == workers.get("running") == 0
