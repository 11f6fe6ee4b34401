"""Which URLs a worker touches, and what a presigned URL says about its own life.

The job input comes from outside: a URL into the worker's own network would turn it into a
scanner of that network (SSRF), so every address a host resolves to must be public.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from contract import FailureCode, JobInput, PresignedUrl, Stage
from worker.errors import WorkerError


@dataclass(frozen=True)
class UrlPolicy:
    """What is allowed.

    Attributes:
        allow_loopback: Take http and loopback addresses; for the development stack.
        host_suffixes: Hosts must end in one of these; empty: any public host.
    """

    allow_loopback: bool = False
    host_suffixes: tuple[str, ...] = ()

    def check_job(self, job: JobInput) -> None:
        """Raise `WorkerError` ``URL_NOT_ALLOWED`` naming the first field that is refused."""
        for field in ("audio_url", "result_url", "progress_url"):
            url = getattr(job, field)
            if url is not None:
                self._check(field, url)

    def _check(self, field: str, url: PresignedUrl) -> None:
        parts = urlsplit(url.reveal())
        host = (parts.hostname or "").lower()
        addresses = _resolve(host)
        if self.allow_loopback and addresses and all(a.is_loopback for a in addresses):
            return
        if parts.scheme != "https":
            raise _refused(field, "is not https; sign it for S3's https endpoint")
        if self.host_suffixes and not _ends_in(host, self.host_suffixes):
            raise _refused(field, f"host {host} is not in ALLOWED_URL_HOSTS")
        if any(not a.is_global for a in addresses):
            raise _refused(field, f"host {host} has a private address; use S3's public endpoint")


def _ends_in(host: str, suffixes: tuple[str, ...]) -> bool:
    return any(host == s.lstrip(".") or host.endswith("." + s.lstrip(".")) for s in suffixes)


def _resolve(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the host's addresses; none when it does not resolve (the fetch will say so)."""
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(address[0]).split("%")[0]) for *_, address in found]


def _refused(field: str, why: str) -> WorkerError:
    return WorkerError(FailureCode.URL_NOT_ALLOWED, f"{field} {why}", Stage.VALIDATE)


def expires_at(url: PresignedUrl) -> datetime | None:
    """Return when a SigV4 presigned URL ends (UTC), or None for any other URL.

    Source: ``X-Amz-Date`` and ``X-Amz-Expires`` of AWS's query string authentication.
    """
    query = parse_qs(urlsplit(url.reveal()).query)
    try:
        signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return signed + timedelta(seconds=int(query["X-Amz-Expires"][0]))
    except (KeyError, ValueError, OverflowError):
        return None
