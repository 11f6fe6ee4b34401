"""Which URLs a job may name, and where each leads.

Takes a presigned URL; returns a `Target` with the addresses that were judged, which are the ones
to connect to: nothing looks the host up again. Raises `WorkerError`: ``URL_NOT_ALLOWED``, and
``STORAGE_UNAVAILABLE`` when DNS gives no answer; no message holds a URL's query.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Collection
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from bucketscribe_contract import FailureCode, JobInput, PresignedUrl
from worker.cancel import LOOK_S, Deadline
from worker.errors import WorkerError
from worker.settings import WorkerSettings

# IANA's special-purpose registries, written out because Python's tables differ by version, with
# multicast and Azure's metadata service, whose address is a public one.
_SPECIAL = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32",
        "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
        "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
)  # fmt: skip
_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_ISATAP = 0x5EFE
_HOST = re.compile(r"[a-z0-9._:-]{1,253}")
_PORTS = {"http": 80, "https": 443}

Address = IPv4Address | IPv6Address


def is_public(address: Address) -> bool:
    """Whether an address is on the internet; of IPv6 only global unicast that hides no IPv4.

    An address of NAT64's own prefix is the IPv4 address in it.
    """
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if isinstance(address, IPv6Address):
        is_isatap = int(address) >> 32 & 0xFDFFFFFF == _ISATAP  # RFC 5214, 6.1
        if is_isatap or address not in _UNICAST:
            return False
    return address.is_global and not any(address in network for network in _SPECIAL)


class Target(NamedTuple):
    """Where an exchange goes: path and query as signed; judged addresses as `socket` has them."""

    host: str
    port: int
    is_https: bool
    path: str
    addresses: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class UrlPolicy:
    """What is allowed.

    Attributes:
        allow_loopback: Take http, any port and loopback addresses; for the development stack.
        hosts: Exact names, and suffixes that begin with a dot; empty: any public host.
        ports: Of https.
        ca: PEM, or a file of it, that is trusted besides the public authorities.
    """

    allow_loopback: bool = False
    hosts: tuple[str, ...] = ()
    ports: Collection[int] = (443,)
    ca: str | None = None

    @classmethod
    def of(cls, settings: WorkerSettings) -> UrlPolicy:
        """Return what a worker's settings allow."""
        allowed = settings.allowed_url_hosts, settings.allowed_url_ports, settings.allowed_url_ca
        return cls(settings.allow_loopback_urls, *allowed)

    def check_job(self, job: JobInput, deadline: Deadline) -> None:
        """Raise `WorkerError` naming the first field that is refused."""
        for field in ("audio_url", "result_url", "progress_url"):
            url = getattr(job, field)
            if url is not None:
                self.target(url, deadline, field)

    def target(self, url: PresignedUrl, deadline: Deadline, field: str = "the URL") -> Target:
        """Return where a URL leads now, if that is allowed.

        Args:
            url: What was signed.
            deadline: Of the look-up.
            field: Named by errors.
        """
        try:
            parsed = _parse(url.reveal().partition("#")[0])
            objection = self._objection(parsed)
            is_refused = objection and not self.allow_loopback  # then DNS need not know of it
            found = () if is_refused else _look_up(parsed.host, parsed.port, deadline)
            addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
            self._judge(addresses, parsed.host, objection)
        except ValueError as exc:
            raise WorkerError(
                FailureCode.URL_NOT_ALLOWED, f"{field} {exc}", deadline.stage
            ) from None
        return parsed._replace(addresses=found)

    def _objection(self, parsed: Target) -> str | None:
        """Return what is wrong with a URL, unless it leads to loopback and that is allowed."""
        if not parsed.is_https:
            return "is not https; sign it for S3's https endpoint"
        if self.hosts and not any(_is_named(parsed.host, name) for name in self.hosts):
            return f"host {parsed.host} is not in ALLOWED_URL_HOSTS"
        if parsed.port not in self.ports:
            return f"port {parsed.port} is not in ALLOWED_URL_PORTS"
        return None

    def _judge(self, addresses: list[Address], host: str, objection: str | None) -> None:
        are_loopback = addresses and all(address.is_loopback for address in addresses)
        if are_loopback and self.allow_loopback:
            return
        if objection:
            raise ValueError(objection)
        if not addresses:
            raise ValueError(f"host {host} does not resolve; sign it for S3's public endpoint")
        if not all(map(is_public, addresses)):
            raise ValueError(f"host {host} has a private address; use S3's public endpoint")


def _parse(text: str) -> Target:
    """Split a URL; ValueError says what is wrong with it."""
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna").decode("ascii").removesuffix(".").lower()
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
    except (ValueError, KeyError):
        raise ValueError("has no valid host or port") from None
    if "@" in parts.netloc or not _HOST.fullmatch(host):
        raise ValueError("has no valid host name")
    path = text[text.index("//") + 2 + len(parts.netloc) :]
    if not re.fullmatch(r"[!-~]*", path):
        raise ValueError("is not ASCII; pass it exactly as it was signed")
    path = path if path.startswith("/") else f"/{path}"
    return Target(host, port, parts.scheme == "https", path, ())


def _is_named(host: str, name: str) -> bool:
    return host == name.removeprefix(".") or (name.startswith(".") and host.endswith(name))


def _look_up(host: str, port: int, deadline: Deadline) -> tuple[tuple[Any, ...], ...]:
    """Return a host's addresses, none if it has none; a thread that DNS keeps is left behind."""
    found: Future[tuple[tuple[Any, ...], ...]] = Future()

    def look_up() -> None:
        try:
            found.set_result(tuple(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except Exception as exc:
            found.set_exception(exc)

    threading.Thread(target=look_up, name="dns", daemon=True).start()
    while not wait([found], LOOK_S).done:
        deadline.check()
    try:
        return found.result()
    except (OSError, UnicodeError) as exc:
        if isinstance(exc, socket.gaierror) and exc.errno == socket.EAI_AGAIN:
            message = f"DNS gave no answer for {host}; submit again later"
            code = FailureCode.STORAGE_UNAVAILABLE
            raise WorkerError(code, message, deadline.stage) from exc
        return ()


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
