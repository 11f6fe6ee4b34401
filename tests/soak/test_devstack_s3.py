"""The development stack's S3 server; what it refuses as AWS does, the end-to-end tests see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from devstack import s3
from devstack.process import Guard
from devstack.s3 import S3Server, StartFailed
from tests.processes import group_members, wait_until


@contextmanager
def unstarted(folder: Path) -> Iterator[S3Server]:
    """Give a server in a folder of its own, to be started or not."""
    with Guard() as guard:
        yield S3Server("recordings", folder, folder / "log", guard)


def test_objects_are_created_once_and_all_listeners_are_on_loopback(tmp_path: Path) -> None:
    """`If-None-Match: *` is how a session is claimed; the ports are those picked, none else."""
    with unstarted(tmp_path) as server, server:
        client, key = server.client(), {"Bucket": server.bucket, "Key": "claim"}
        client.put_object(**key, Body=b"1", IfNoneMatch="*")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(**key, Body=b"2", IfNoneMatch="*")
        etag = client.head_object(**key)["ETag"]
        client.put_object(**key, Body=b"3", IfMatch=etag)
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(**key, Body=b"4", IfMatch=etag)
        pid = server._process.pid
        sockets = psutil.Process(pid).net_connections("inet")
        listening = [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
        assert {address.ip for address in listening} == {"127.0.0.1"}
        assert {address.port for address in listening} == set(server._ports.values())
    wait_until(lambda: not group_members(pid), 2)
    assert not [path for path in server._sockets() if path.exists()]


def test_a_server_that_exits_is_tried_again_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may take a port that was free; the message names the log."""
    monkeypatch.setattr(s3, "_find_weed", lambda: "false")
    with unstarted(tmp_path) as server, pytest.raises(StartFailed, match=str(tmp_path / "log")):
        server.__enter__()
