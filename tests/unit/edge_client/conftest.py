"""Fixtures of the edge client's tests: no settings of this machine, no sleeping, loopback only."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.retries.standard import ExponentialBackoff

from edge_client.services import edge as edge_
from edge_client.services import runpod as runpod_
from edge_client.services.edge import Edge
from edge_client.services.s3 import Connection, connect
from edge_client.settings import Settings, load
from tests.fakes.servers import BUCKET, RunpodServer, S3Server
from tests.unit.edge_client.jobs.scene import Scene
from tests.unit.edge_client.samples import FakeClock

KEY = "rpa_TESTKEY0123456789"


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(
            ("AWS_", "RUNPOD_", "COGNITO_", "PRESIGNED_", "RETRY_", "LOST_")
            + ("WEBHOOK_", "S3_", "RECORDING_")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)
    at_once = runpod_.GET_RETRY.new(backoff_factor=0, backoff_jitter=0)
    monkeypatch.setattr(runpod_, "GET_RETRY", at_once)
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.01)  # boto3's retries
    yield
    logging.getLogger("edge_client").setLevel(logging.NOTSET)  # a command may have set it
    os.environ.clear()  # the settings put what .env says into it
    os.environ.update(before)


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def _runpod_server() -> Iterator[RunpodServer]:
    with RunpodServer() as server:
        yield server


@pytest.fixture
def s3(_s3_server: S3Server) -> S3Server:
    _s3_server.clear()
    return _s3_server


@pytest.fixture
def runpod(_runpod_server: RunpodServer) -> RunpodServer:
    _runpod_server.clear()
    return _runpod_server


@pytest.fixture
def env(s3: S3Server, runpod: RunpodServer) -> dict[str, str]:
    """What an edge box's .env says."""
    return {
        "COGNITO_S3_BUCKET": BUCKET,
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_S3": s3.url,
        "AWS_ACCESS_KEY_ID": "AKTESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": "secretsecretsecret",
        "RUNPOD_ENDPOINT_BASE_URL": f"{runpod.url}/v2",
        "RUNPOD_ENDPOINT_ID": "ep1",
        "RUNPOD_API_KEY": KEY,
    }


_connections: dict[str, Connection] = {}


@pytest.fixture
def env_file(env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That .env, in the working directory; with it boto3's client is shared: it costs 0.2 s."""

    def connect_once(settings: Settings) -> Connection:
        key = f"{settings.s3_url} {settings.put_headers}"
        if key not in _connections:
            _connections[key] = connect(settings)
        return _connections[key]

    monkeypatch.setattr(edge_, "connect", connect_once)
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in env.items()))
    return path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def edge(env_file: Path, clock: FakeClock) -> Edge:
    """An edge box on the two servers."""
    return Edge(load(env_file), clock)


@pytest.fixture
def scene(edge: Edge, s3: S3Server, runpod: RunpodServer, clock: FakeClock) -> Scene:
    """A session with a recording on it."""
    return Scene(edge, s3, runpod, clock)
