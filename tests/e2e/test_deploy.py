"""`docs/deploy.md` is followed, and the units' and cron's commands are run, on the stack."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bucketscribe_contract import Transcript
from tests.e2e.conftest import ROOT, Bench
from tests.unit.deploy.test_units import CRON, INSTALLED, SERVICES, exec_start
from tests.unit.docs.blocks import blocks

BUCKET = "first-steps"
SESSIONS = "users/me/audio/sessions"
GIVEN = {  # what the blocks for elsewhere leave in the shell, by the stack's names
    "BUCKET": "COGNITO_S3_BUCKET",
    "REGION": "AWS_REGION",
    "ENDPOINT": "RUNPOD_ENDPOINT_ID",
    "AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY",
    "RUNPOD_API_KEY": "RUNPOD_API_KEY",
}


@pytest.fixture(scope="module")
def box(bench: Bench, tmp_path_factory: pytest.TempPathFactory, short_wav: bytes) -> Path:
    """An edge box's working directory, and three recordings in a bucket of its own."""
    folder = tmp_path_factory.mktemp("box")
    program = folder / "bin/edge-client"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge_client "$@"\n')
    program.chmod(0o700)
    s3 = bench.s3
    s3.create_bucket(Bucket=BUCKET)
    for name in ("first", "second", "third"):
        s3.put_object(Bucket=BUCKET, Key=f"{SESSIONS}/{name}/audio.wav", Body=short_wav)
    return folder


def bash(bench: Bench, box: Path, script: str) -> str:
    """Run a script on the edge box, with no settings but where the stack's servers are."""
    servers = ("AWS_ENDPOINT_URL_S3", "RUNPOD_ENDPOINT_BASE_URL")
    path = f"{box / 'bin'}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(box), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail"],
        input=script,
        env=env | {name: bench.stack.env[name] for name in servers},
        cwd=box,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    bench.printed += [done.stdout, done.stderr]
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def printed(bench: Bench, box: Path) -> str:
    """What the blocks that run here print, one shell for all of them."""
    stack = {**bench.stack.env, "COGNITO_S3_BUCKET": BUCKET}
    values = [f"{name}={shlex.quote(stack[its])}" for name, its in GIVEN.items()]
    script = [block.text for block in blocks(ROOT / "docs/deploy.md") if block.where == "here"]
    return bash(bench, box, "\n".join([*values, *script]))


def test_the_page_sets_up_a_box_that_transcribes(bench: Bench, box: Path, printed: str) -> None:
    s3 = bench.s3
    stored = s3.get_object(Bucket=BUCKET, Key=f"{SESSIONS}/first/transcription.json")
    assert Transcript.model_validate_json(stored["Body"].read()).segments
    assert "-->" in (box / "first.srt").read_text()
    answer = json.loads((box / "answer.json").read_text())
    assert Transcript.model_validate(answer["output"]).segments
    assert "✗" not in printed  # which the doctor prints
    assert "✓ signature" in printed
    assert "would submit: 2 sessions" in printed
    lines = [json.loads(line) for line in (box / "report.jsonl").read_text().splitlines()]
    ended = {line["session"]: line["result"] for line in lines}
    assert ended == {f"{SESSIONS}/{name}": "done" for name in ("second", "third")}
    assert (box / ".env").stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("printed")
def test_s3_takes_the_cors_rules_and_the_policies_are_for_this_bucket(
    bench: Bench, box: Path
) -> None:
    s3 = bench.s3
    rules = json.loads((box / "cors.json").read_text())
    s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration=rules)
    kept = s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"]
    assert kept[0]["AllowedOrigins"] == rules["CORSRules"][0]["AllowedOrigins"]
    for name in ("policy.json", "bucket-policy.json"):
        document = json.loads((box / name).read_text())
        assert document["Version"] == "2012-10-17"
        assert f"arn:aws:s3:::{BUCKET}/" in json.dumps(document)


@pytest.mark.usefixtures("printed")
def test_the_services_batch_runs_with_its_credential_and_state(bench: Bench, box: Path) -> None:
    (box / "edge.env").write_text((box / ".env").read_text())
    command = exec_start(SERVICES[0]).replace(INSTALLED, "edge-client")
    where = f"export CREDENTIALS_DIRECTORY={box} STATE_DIRECTORY={box}; rm .env; "
    bash(bench, box, where + command)


@pytest.mark.usefixtures("printed")
def test_crons_line_runs(bench: Bench, box: Path) -> None:
    (line,) = [x for x in CRON.read_text().splitlines() if not x.startswith("#")]
    schedule, user, command = line.split(maxsplit=6)[:5], line.split()[5], line.split(maxsplit=6)[6]
    assert (schedule[1:], user) == (["*"] * 4, "bucketscribe")
    command = command.replace("/etc/bucketscribe", str(box)).replace(INSTALLED, "edge-client")
    bash(bench, box, command.replace("/var/lib/bucketscribe", str(box)))
