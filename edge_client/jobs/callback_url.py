"""The URL that RunPod posts an ended job to; ``{session}`` in it becomes the session.

The claim keeps the URL as it was given, so that a resubmission from any edge box has it, too.
Raises `BadUsage` for a URL that RunPod could not call, or that has another placeholder.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from bucketscribe_contract.redact import register
from edge_client.errors import BadUsage
from edge_client.session import Session
from edge_client.settings import is_loopback_http

PLACEHOLDER = "{session}"
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")
_URL_CHARACTERS = re.compile(r"[!-~]+")


def checked(url: str, runpod_url: str) -> str:
    """Return a URL that RunPod can call.

    A queue on this machine (RUNPOD_ENDPOINT_BASE_URL), and only that, may call this machine
    without TLS.
    """
    problem = _problem(url, runpod_url)
    if problem is not None:
        raise BadUsage(f"--webhook: {problem}")
    return url


def fill(template: str, session: Session) -> str:
    """Return the URL for one session. Its slashes are encoded, too: it is one path segment."""
    register(template.partition(PLACEHOLDER)[0])  # whoever has the URL can call the receiver
    return template.replace(PLACEHOLDER, quote(session.prefix, safe=""))


def _problem(url: str, runpod_url: str) -> str | None:
    for found in _BRACES.findall(url):
        if found != PLACEHOLDER:
            return f"{found} is no placeholder: write {PLACEHOLDER} where the session goes"
    if not _URL_CHARACTERS.fullmatch(url):
        return "percent-encode spaces and letters beyond ASCII"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "not a URL: give https://HOST/PATH"
    if not parts.hostname or PLACEHOLDER in parts.netloc:
        return f"give https://HOST/PATH, with {PLACEHOLDER} in the path, if at all"
    if "@" in parts.netloc:
        return "no user or password in the URL: put a secret into the path"
    if parts.fragment:
        return "a fragment (#…) is never sent: put it into the path"
    if parts.scheme == "https" or (is_loopback_http(url) and is_loopback_http(runpod_url)):
        return None
    return "RunPod calls https URLs only"
