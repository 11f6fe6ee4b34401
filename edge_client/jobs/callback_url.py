"""The URL that RunPod posts an ended job to, with ``{session}``, and ``{secret}``: WEBHOOK_SECRET.

The claim keeps the URL as it was given, so that a resubmission from any edge box has it, too; the
secret stays in the settings. Raises `BadUsage` for a URL that RunPod could not call, or that has
another placeholder, and `NotConfigured` without the secret.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from bucketscribe_contract.redact import register
from edge_client.errors import BadUsage, NotConfigured
from edge_client.session import Session
from edge_client.settings import is_loopback_http

PLACEHOLDER, SECRET = "{session}", "{secret}"
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


def fill(template: str, session: Session, secret: SecretStr | None = None) -> str:
    """Return the URL for one session. Its slashes are encoded, too: it is one path segment."""
    if SECRET in template:
        if secret is None:
            raise NotConfigured(f"--webhook: {SECRET} is WEBHOOK_SECRET, which is not set")
        template = template.replace(SECRET, secret.get_secret_value())
    register(template.partition(PLACEHOLDER)[0])  # whoever has the URL can call the receiver
    return template.replace(PLACEHOLDER, quote(session.prefix, safe=""))


def _problem(url: str, runpod_url: str) -> str | None:
    for found in _BRACES.findall(url):
        if found not in (PLACEHOLDER, SECRET):
            return f"{found} is no placeholder: there are {PLACEHOLDER} and {SECRET}"
    if not _URL_CHARACTERS.fullmatch(url):
        return "percent-encode spaces and letters beyond ASCII"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "not a URL: give https://HOST/PATH"
    if not parts.hostname or "{" in parts.netloc:
        return f"give https://HOST/PATH, with {PLACEHOLDER} in the path, if at all"
    if "@" in parts.netloc:
        return "no user or password in the URL: put a secret into the path"
    if parts.fragment:
        return "a fragment (#…) is never sent: put it into the path"
    if parts.scheme == "https" or (is_loopback_http(url) and is_loopback_http(runpod_url)):
        return None
    return "RunPod calls https URLs only"
