"""One requests session for many threads: few connections, one key, no cookies."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

if TYPE_CHECKING:
    from pydantic import SecretStr

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
