"""Nothing leaves this machine while the guard is on, and no attempt goes unnoticed."""

import socket
import threading
from contextlib import suppress

import pytest

from builder.verify_offline import NetworkUsed, no_network

DOCUMENTATION_HOST = "192.0.2.1"  # RFC 5737: belongs to nobody


def test_connecting_to_another_machine_is_refused() -> None:
    """Before a packet leaves."""
    with (
        no_network() as attempts,
        socket.socket() as client,
        pytest.raises(NetworkUsed, match=DOCUMENTATION_HOST),
    ):
        client.connect((DOCUMENTATION_HOST, 443))
    assert attempts == [DOCUMENTATION_HOST]


def test_looking_up_a_name_is_refused() -> None:
    """A look-up is traffic too."""
    with no_network() as attempts, pytest.raises(NetworkUsed):
        socket.getaddrinfo("models.example", 443)
    assert attempts == ["models.example"]


def test_datagrams_are_refused() -> None:
    """Telemetry may go by UDP."""
    with (
        no_network(),
        socket.socket(type=socket.SOCK_DGRAM) as client,
        pytest.raises(NetworkUsed),
    ):
        client.sendto(b"hello", (DOCUMENTATION_HOST, 9))


def test_swallowed_refusal_is_remembered() -> None:
    """Libraries try the hub and go on silently when it does not answer."""
    with no_network() as attempts, suppress(Exception), socket.socket() as client:
        client.connect((DOCUMENTATION_HOST, 443))
    assert attempts == [DOCUMENTATION_HOST]


def test_loopback_is_allowed() -> None:
    """Some libraries talk to themselves."""
    with socket.create_server(("127.0.0.1", 0)) as server, no_network() as attempts:
        accepted = threading.Thread(target=lambda: server.accept()[0].close())
        accepted.start()
        with socket.create_connection(server.getsockname(), timeout=5):
            accepted.join(timeout=5)
    assert attempts == []


def test_guard_ends_with_its_block() -> None:
    """The hook stays for the life of the process, its refusals do not."""
    with no_network():
        pass
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect((DOCUMENTATION_HOST, 9))  # a UDP connect sends nothing
