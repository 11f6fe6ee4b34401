"""A folder that is incomplete, broken or chatty does not pass; nothing leaves this machine."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from builder.verify_offline import NetworkUsed, main, no_network, run_check

ELSEWHERE = "192.0.2.1"  # RFC 5737: belongs to nobody


def connect() -> None:
    with socket.socket() as client:
        client.connect((ELSEWHERE, 443))


def send_datagram() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"hello", (ELSEWHERE, 9))


@pytest.mark.parametrize(
    "leave", [connect, send_datagram, partial(socket.getaddrinfo, ELSEWHERE, 443)]
)
def test_leaving_this_machine_is_refused_and_remembered(leave: Callable[[], object]) -> None:
    """Before a packet leaves; libraries try the hub and go on silently when it does not answer."""
    with no_network() as attempts, pytest.raises(NetworkUsed, match=ELSEWHERE):
        leave()
    assert attempts == [ELSEWHERE]


def test_loopback_is_allowed_and_the_guard_ends_with_its_block() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, no_network() as attempts:
        accepted = threading.Thread(target=lambda: server.accept()[0].close())
        accepted.start()
        with socket.create_connection(server.getsockname(), timeout=5):
            accepted.join(timeout=5)
    assert attempts == []
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect((ELSEWHERE, 9))  # a UDP connect sends nothing


def call_home() -> None:
    """Look for a newer model as libraries do, and go on without an answer."""
    with suppress(Exception):
        connect()


def mismatch() -> None:
    raise ValueError("size mismatch for lm_head")


@pytest.mark.parametrize(
    ("check", "verdict", "failure"),
    [
        (int, "ok", None),
        (call_home, "FAILED", "align en tried to reach 192.0.2.1"),
        (mismatch, "FAILED", "align en does not work: ValueError: size mismatch for lm_head"),
    ],
)
def test_each_model_is_reported_in_a_line(
    capsys: pytest.CaptureFixture[str],
    check: Callable[[], None],
    verdict: str,
    failure: str | None,
) -> None:
    """One that calls home fails even when it would have worked without an answer."""
    assert run_check("align en", check) == failure
    assert capsys.readouterr().out.split()[:3] == ["align", "en", verdict]


def test_deleted_or_changed_files_are_named(
    copied_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any model is loaded: a truncated download loads, sometimes."""
    (copied_dir / "diarization" / "plda" / "plda.npz").unlink()
    vocabulary = copied_dir / "align" / "en" / "vocab.json"
    content = vocabulary.read_bytes()
    vocabulary.unlink()
    vocabulary.write_bytes(content[:-1])
    assert main([str(copied_dir)]) == 1
    captured = capsys.readouterr()
    assert "or changed: align/en/vocab.json, diarization/plda/plda.npz: run" in captured.err
    assert captured.out == ""
    (copied_dir / "profile.json").unlink()
    assert main([str(copied_dir)]) == 1
    assert "builder.fetch_models --profile demo --into" in capsys.readouterr().err


def test_assembled_folder_passes(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(models_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    checked = [line.split()[0] for line in lines]
    assert checked == ["whisper", "align"]
    assert all(" ok " in line for line in lines)
