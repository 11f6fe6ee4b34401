"""The development stack's S3 server; what it refuses as AWS does, the end-to-end tests see."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from devstack import s3
from devstack.guard import Guard
from devstack.s3 import S3Server, StartFailed, StartInterrupted
from tests.processes import group_members, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Yield a running server."""
    state = tmp_path_factory.mktemp("s3")
    with Guard() as guard:
        with S3Server("recordings", state, state / "log", guard, threading.Event()) as server:
            yield server
            pid = server._process.pid if server._process else 0
        wait_until(lambda: not group_members(pid), 2)
        assert not [path for path in server._sockets() if path.exists()]


def test_an_object_is_created_once(server: S3Server) -> None:
    """`If-None-Match: *` is how a session is claimed."""
    client = server.client()
    client.put_object(Bucket=server.bucket, Key="claim", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=server.bucket, Key="claim", Body=b"2", IfNoneMatch="*")
    etag = client.head_object(Bucket=server.bucket, Key="claim")["ETag"]
    client.put_object(Bucket=server.bucket, Key="claim", Body=b"3", IfMatch=etag)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=server.bucket, Key="claim", Body=b"4", IfMatch=etag)


def test_all_listeners_are_on_loopback(server: S3Server) -> None:
    """And on the ports that were picked, none else."""
    assert server._process is not None
    sockets = psutil.Process(server._process.pid).net_connections("inet")
    listening = [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == set(server._ports.values())


def test_data_can_outlive_the_server(tmp_path: Path) -> None:
    """With `data`, the next server on other ports and other keys finds the objects."""
    contents = []
    for body in (b"first", None):
        state = tmp_path / f"state-{body is None}"
        state.mkdir()
        with (
            Guard() as guard,
            S3Server(
                "recordings", state, tmp_path / "log", guard, threading.Event(), tmp_path / "data"
            ) as server,
        ):
            client = server.client()
            if body is not None:
                client.put_object(Bucket="recordings", Key="k", Body=body)
            contents.append(client.get_object(Bucket="recordings", Key="k")["Body"].read())
    assert contents == [b"first", b"first"]


def test_a_start_can_be_interrupted(tmp_path: Path) -> None:
    """Nothing of the half-started server is left."""
    stopping = threading.Event()
    stopping.set()
    with Guard() as guard:
        server = S3Server("recordings", tmp_path, tmp_path / "log", guard, stopping)
        with pytest.raises(StartInterrupted):
            server.__enter__()
        assert server._process is not None
        assert not group_members(server._process.pid)


def test_a_server_that_exits_is_tried_again_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may take a port that was free; the message names the log."""
    monkeypatch.setattr(s3, "_find_weed", lambda: "false")
    with Guard() as guard:
        server = S3Server("recordings", tmp_path, tmp_path / "log", guard, threading.Event())
        with pytest.raises(StartFailed, match=str(tmp_path / "log")):
            server.__enter__()
