"""No way out of this machine: while the guard is on, only loopback can be reached.

It hears Python's audit events (PEP 578), which every Python socket raises, whoever made it;
code that opens sockets in another language is kept offline by its own settings.
"""

import ipaddress
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from worker.offline import go_offline

_attempts: list[str] | None = None
_installed = False


class NetworkUsed(RuntimeError):
    """Something tried to leave this machine.

    Not an `OSError`: those are caught and retried by the libraries under test.
    """


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse every connection and every name look-up beyond loopback.

    Yields:
        The hosts that were tried, growing as they are; also those whose refusal was swallowed.
    """
    global _attempts, _installed  # noqa: PLW0603  # an audit hook cannot be taken away again
    if not _installed:
        sys.addaudithook(_hear)
        _installed = True
    go_offline()
    _attempts = []
    try:
        yield _attempts
    finally:
        _attempts = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _attempts is None or not event.startswith("socket."):
        return
    host = _host(event, arguments)
    if host is not None and not _is_loopback(host):
        _attempts.append(host)
        raise NetworkUsed(f"tried to reach {host}")


def _host(event: str, arguments: tuple[Any, ...]) -> str | None:
    """Return the host that an event would talk to, or None if it talks to nobody."""
    if event == "socket.getaddrinfo":
        return _text(arguments[0])
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        address = arguments[1]
        return _text(address[0]) if isinstance(address, tuple) else None
    return None


def _text(host: str | bytes | None) -> str | None:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else host


def _is_loopback(host: str) -> bool:
    if host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
