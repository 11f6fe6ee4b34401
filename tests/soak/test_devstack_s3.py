"""S3 refuses what AWS refuses, so that mistakes show on the development machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from botocore.exceptions import ClientError

from devstack import s3
from devstack.guard import Guard
from devstack.s3 import S3Server, StartFailed, StartInterrupted
from tests.processes import group_members, wait_until

KEY = "users/ü ser+1/audio/sessions/a%20b/audio.wav"


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


def signed(server: S3Server, operation: str, expires_s: int = 60, **params: str) -> str:
    """Return a presigned URL for the key with the odd name."""
    params = {"Bucket": server.bucket, "Key": KEY, **params}
    return server.client().generate_presigned_url(operation, Params=params, ExpiresIn=expires_s)


def put(url: str, body: bytes, content_type: str = "application/json") -> int:
    """Upload and return the status."""
    headers = {"Content-Type": content_type}
    return requests.put(url, data=body, headers=headers, timeout=10).status_code


def test_presigned_urls_work_for_odd_keys(server: S3Server) -> None:
    """PUT, GET and a range of it."""
    assert put(signed(server, "put_object", ContentType="application/json"), b"[1,2]") == 200
    url = signed(server, "get_object")
    assert requests.get(url, timeout=10).content == b"[1,2]"
    part = requests.get(url, headers={"Range": "bytes=1-3"}, timeout=10)
    assert (part.status_code, part.content) == (206, b"1,2")


def test_a_wrong_content_type_is_refused(server: S3Server) -> None:
    """It is signed into the URL."""
    url = signed(server, "put_object", ContentType="application/json")
    assert put(url, b"x", "text/plain") == 403


def test_an_expired_url_is_refused(server: S3Server) -> None:
    """And the answer says why."""
    server.client().put_object(Bucket=server.bucket, Key=KEY, Body=b"x")
    url = signed(server, "get_object", expires_s=1)
    assert requests.get(url, timeout=10).status_code == 200
    time.sleep(2.1)
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 403
    assert "expired" in answer.text


def test_a_changed_url_is_refused(server: S3Server) -> None:
    """A signature is for one key."""
    url = signed(server, "get_object").replace("audio.wav", "other.wav")
    assert requests.get(url, timeout=10).status_code == 403


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


def test_the_log_has_no_signature(server: S3Server) -> None:
    """Even after URLs were refused."""
    requests.get(signed(server, "get_object").replace("audio", "x"), timeout=10)
    assert "X-Amz-Signature=" not in server._log.read_text()
    assert server.secret_access_key not in server._log.read_text()


def test_all_listeners_are_on_loopback(server: S3Server) -> None:
    """And on the ports that were picked, none else."""
    assert server._process is not None
    pid = server._process.pid
    inodes = _socket_inodes(pid)
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1])
    hosts = {address.split(":")[0] for address in listening}
    ports = {int(address.split(":")[1], 16) for address in listening}
    assert hosts == {"0100007F"}
    assert ports == set(server._ports.values())


def _socket_inodes(pid: int) -> set[str]:
    targets = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return {name[8:-1] for name in targets if name.startswith("socket:[")}


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
