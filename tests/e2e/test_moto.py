"""What one box does, on another S3: moto's server. Its conditions are not atomic: no races here."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from edge_client.cli import run
from edge_client.services.edge import Edge
from edge_client.settings import load
from tests.e2e.drills import Drill, drilled
from tests.processes import wait_until


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    with drilled(tmp_path_factory.mktemp("moto")) as drill, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", url)
        client = boto3.client("s3", endpoint_url=url)
        client.create_bucket(
            Bucket=drill.stack.s3.bucket,
            CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
        )
        drill.__dict__["s3"] = client
        yield drill
    server.stop()


def test_doctor_finds_nothing_wrong(drill: Drill, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0, capsys.readouterr().out


def test_a_batch_ends_as_elsewhere_and_the_next_lists_alone(drill: Drill) -> None:
    kinds = ("", "--flaky", "--upload_failed", "--fail")
    sessions = [session for kind in kinds for session in drill.record(3, kind)]
    drill.batch()
    assert drill.ends() == {"done": 9, "failed": 3}
    assert drill.paid() == 12 + 3
    drill.put(sessions[0].audio_key, b"another recording")  # and its transcript is replaced
    before = drill.read(sessions[0].result_key)
    drill.batch()
    assert (drill.ends()["done"], drill.paid()) == (1, 16)
    assert drill.read(sessions[0].result_key) != before

    def lists_alone() -> bool:  # but for the claims that failed; times are whole seconds
        edge = Edge(load(None))
        drill.batch(edge=edge)
        made = edge.requests
        return made["ListObjectsV2"] == 1 and made.keys() <= {"ListObjectsV2", "GetObject"}

    wait_until(lists_alone)
    assert drill.paid() == 16


def test_one_session_is_submitted_followed_read_and_cancelled(
    drill: Drill, capsys: pytest.CaptureFixture[str]
) -> None:
    drill.user = "single +1"
    session, slow = drill.record(1)[0], drill.record(1, "--slow-60")[0]
    assert run(["submit", session.prefix, "--wait"]) == 0
    assert run(["submit", session.prefix]) == 0
    assert "already done" in capsys.readouterr().out
    assert run(["render", session.prefix, "--format", "srt"]) == 0
    assert run(["submit", slow.prefix]) == 0
    assert run(["status", slow.prefix]) == 4
    assert run(["cancel", slow.prefix]) == 0
    assert run(["wait", slow.prefix]) == 1
    assert run(["submit", slow.name, "--force"]) == 0  # looked up by its name
    assert run(["cancel", slow.prefix]) == 0
