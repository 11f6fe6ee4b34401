"""One HTTP request: what went wrong is said in our words, without a URL's query.

The messages of HTTP libraries hold the whole URL, and a hub redirects to signed ones.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from builder.errors import BuildError, Unreachable

T = TypeVar("T")

TIMEOUTS_S = (10.0, 60.0)
ATTEMPTS = 6
LONGEST_WAIT_S = 30.0
PASSING = {408, 425, 429, 500, 502, 503, 504}


@dataclass
class Interrupted(Exception):
    """The request failed in a way that may pass."""

    reason: str
    wait_s: float | None = None


@dataclass
class Refused(BuildError):
    """The server said no, and would again."""

    status: int
    code: str
    url: str

    def __str__(self) -> str:
        code = f", {self.code}" if self.code else ""
        return f"{self.url} was refused ({self.status}{code}): check the pin, or the place"


@dataclass(frozen=True)
class _Bearer(AuthBase):
    """Sends the token, or nothing: without this, requests would look into a .netrc file."""

    token: SecretStr | None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token is not None:
            request.headers["Authorization"] = f"Bearer {self.token.get_secret_value()}"
        return request


@contextmanager
def ask(
    url: str, token: SecretStr | None = None, *, offset: int = 0, method: str = "GET"
) -> Iterator[requests.Response]:
    """Send one request; redirects are followed, to another host without the token.

    Args:
        url: Absolute.
        token: Sent along if there is one.
        offset: The first byte that is wanted.
        method: ``GET`` or ``HEAD``.

    Yields:
        The answer, its body not read yet.

    Raises:
        Interrupted: No connection, a broken or silent one, or a server that is busy.
        Refused: Any other answer from 400 on.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": "bucketscribe-builder"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        with (
            requests.Session() as session,
            session.request(
                method,
                url,
                headers=headers,
                auth=_Bearer(token),
                stream=True,
                timeout=TIMEOUTS_S,
                allow_redirects=True,
            ) as answer,
        ):
            _check(answer, url)
            yield answer
    except (requests.RequestException, HTTPError) as exc:
        host = urlsplit(url).netloc
        raise Interrupted(f"{host} does not answer ({type(exc).__name__})") from exc


def _check(answer: requests.Response, url: str) -> None:
    if answer.status_code < 400:
        return
    if answer.status_code in PASSING:
        given = answer.headers.get("Retry-After", "")
        wait_s = min(float(given), 10 * LONGEST_WAIT_S) if given.isdigit() else None
        raise Interrupted(f"{urlsplit(url).netloc} answers {answer.status_code}", wait_s)
    code = answer.headers.get("X-Error-Code", "")
    raise Refused(answer.status_code, code, url.partition("?")[0])


def persist(
    attempt: Callable[[], T],
    sleep: Callable[[float], object],
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """Try again after interruptions, waiting longer each time, as long as something comes of it.

    Args:
        attempt: May raise `Interrupted`.
        sleep: Waits for so many seconds.
        progress: Grows when an attempt got something; that starts the count anew.

    Raises:
        Unreachable: `ATTEMPTS` in a row got nothing.
    """
    idle = 0
    while True:
        before = progress()
        try:
            return attempt()
        except Interrupted as exc:
            idle = 1 if progress() > before else idle + 1
            if idle >= ATTEMPTS:
                remedy = "check the network, a proxy's HTTPS_PROXY, or try later"
                raise Unreachable(f"{exc.reason}, {ATTEMPTS} times: {remedy}") from exc
            sleep(min(2.0 ** (idle - 1), LONGEST_WAIT_S) if exc.wait_s is None else exc.wait_s)
