"""The printed policy, held against the calls that the commands really make: none missing or unused.

botocore tells every call, and every URL that is signed, with its operation and key. The policy is
read as IAM reads it: ``*`` stands for anything, slashes too.
"""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import pytest

from edge_client.cli import run
from edge_client.doctor import policy
from edge_client.errors import NotConfigured
from edge_client.services.edge import Edge
from edge_client.session import Session
from edge_client.webhook import Finisher
from tests.fakes.servers import BUCKET, ECHOED, Reply, RunpodServer, S3Server
from tests.unit.edge_client.jobs.scene import undelivered
from tests.unit.edge_client.samples import SESSION, job, wav

ACTIONS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "ListObjectsV2": "s3:ListBucket",
}
"""Source: Service Authorization Reference, "Actions defined by Amazon S3". A call that is not here
fails the test; HeadBucket must not come back: it has no prefix, so no condition can narrow it."""
OTHERS = [Session("u2", name) for name in ("batch", "hook")]
Call = tuple[str, str, str | None]
"""An action, the ARN that it is done to, and the prefix of a listing; a grant has patterns."""


def allows(grant: Call, call: Call) -> bool:
    """Tell whether IAM would let the call pass for this grant."""
    return all(
        pattern is None or (value is not None and fnmatchcase(value, pattern))
        for pattern, value in zip(grant, call, strict=True)
    )


def grants(document: dict[str, Any]) -> list[Call]:
    def listed(value: str | list[str]) -> list[str]:
        return [value] if isinstance(value, str) else value

    return [
        (action, resource, statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix"))
        for statement in document["Statement"]
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    ]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], tmp_path: Path) -> list[Call]:
    """What an edge box's sessions call and sign from now on."""
    env["RETRY_DELAY_SECONDS"] = "0"
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in env.items()))
    seen: list[Call] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        assert model.service_model.service_name == "s3"
        key = params.get("Key")
        resource = f"arn:aws:s3:::{params['Bucket']}" + (f"/{key}" if key is not None else "")
        seen.append((ACTIONS[model.name], resource, params.get("Prefix")))

    class Listening(boto3.Session):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.events.register("provide-client-params", note)

    monkeypatch.setattr(boto3, "Session", Listening)
    return seen


def test_policy_allows_what_the_commands_do_and_nothing_else(
    calls: list[Call], s3: S3Server, runpod: RunpodServer, capsys: pytest.CaptureFixture[str]
) -> None:
    # every command, so that every call is made that is ever made
    runpod.on("/health", Reply({"jobs": {}, "workers": {}}))
    runpod.on("/run", Reply(job("IN_QUEUE")))
    runpod.on("/cancel/job-1", Reply(job("CANCELLED")))
    runpod.on("/status/job-1", undelivered(request_id=ECHOED))
    s3.put(SESSION.audio_key, wav(2))
    assert run(["doctor"]) == 0
    assert run(["presign", "s1"]) == 0
    assert run(["submit", "s1", "--progress-file", "--wait"]) == 0
    assert [run([name, "s1"]) for name in ("wait", "status", "render", "cancel")] == [0] * 4
    assert run(["view", "s1", "--link", "--no-open", "-o", "s1.html"]) == 0
    for session in OTHERS:
        s3.put(session.audio_key, wav(2))
    assert run(["batch", "--dry-run"]) == 0
    assert run(["batch", "--session", OTHERS[0].prefix]) == 0
    assert run(["submit", OTHERS[1].prefix]) == 0
    assert Finisher(Edge.load(None)).finish(OTHERS[1]) is None
    assert run(["batch", "--max-in-flight", "1"]) == 0
    capsys.readouterr()
    before = len(calls)
    assert run(["policy"]) == 0
    granted = grants(json.loads(capsys.readouterr().out))
    assert len(calls) == before > 50
    assert {call for call in calls if not any(allows(grant, call) for grant in granted)} == set()
    assert [grant for grant in granted if not any(allows(grant, call) for call in calls)] == []
    assert run(["policy", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == policy(BUCKET, "eu-west-1")
    assert (out.count("\n"), err) == (1, "")


def test_partition_follows_the_region() -> None:
    wanted = {"x": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov"}
    for region, partition in wanted.items():
        arns = {resource.split(":s3:::")[0] for _, resource, _ in grants(policy("b", region))}
        assert arns == {f"arn:{partition}"}


def test_other_keys_and_listings_are_out_of_reach() -> None:
    keys = (
        "users/u1/audio/sessions/s1/audio.wav.bak",
        "users/u1/audio/sessions/s1/metadata.json",
        "users/u1/audio/audio.wav",
        "other/u1/audio/sessions/s1/audio.wav",
    )
    arn, actions = "arn:aws:s3:::b", ("s3:GetObject", "s3:PutObject")
    calls: list[Call] = [(action, f"{arn}/{key}", None) for key in keys for action in actions]
    calls += [("s3:ListBucket", arn, "other/"), ("s3:ListBucket", arn, None)]
    granted = grants(policy("b", "eu-west-1"))
    assert [call for call in calls for grant in granted if allows(grant, call)] == []


def test_an_access_points_policy_has_its_own_form_of_arn() -> None:
    point = "arn:aws:s3:eu-west-1:123456789012:accesspoint/recordings"
    named = {resource for _, resource, _ in grants(policy(point, "eu-west-1"))}
    assert point in named
    assert f"{point}/object/users/*/audio/sessions/*/audio.wav" in named
    assert {resource.removeprefix(point).partition("/users")[0] for resource in named} <= {
        *("", "/object", "/object/.edge-client-doctor.json")
    }
    with pytest.raises(NotConfigured, match="the access point's ARN"):
        policy("recordings-abcdefghijk-s3alias", "eu-west-1")
