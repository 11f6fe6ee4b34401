"""One recording through everything, on this machine: ``python -m devstack.demo``.

Starts the stack, puts the real telephone conversation that pyannote.audio ships into S3,
submits it with the real edge client, prints its progress, the summary and the transcript, and
leaves nothing running. Exit code 0 when the transcript is there.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import boto3

from devstack.stack import ROOT, Stack

SESSION = "users/demo-user/audio/sessions/telephone-sample"


def telephone_sample() -> Path:
    """Return pyannote.audio's sample: 30 s, two speakers on the telephone, 16 kHz mono WAV."""
    spec = importlib.util.find_spec("pyannote.audio")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pyannote.audio is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0]) / "sample" / "sample.wav"


def main() -> int:
    """Run the demo."""
    started = time.monotonic()
    with Stack(logs=ROOT / "logs") as stack:
        _say(f"S3 at {stack.s3.url}, queue at {stack.queue.base_url}, one worker; logs in logs/")
        _upload(stack, telephone_sample(), f"{SESSION}/audio.wav")
        _say(f"uploaded audio.wav; now: edge-client submit {SESSION} --wait")
        failed = _edge_client(stack, "submit", SESSION, "--wait")
        failed = failed or _edge_client(stack, "render", SESSION, "--format", "txt")
    _say(f"{'failed' if failed else 'done'} in {time.monotonic() - started:.0f} s, nothing runs")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(f"demo: {line}\n")
    sys.stdout.flush()


def _upload(stack: Stack, path: Path, key: str) -> None:
    env = stack.env
    client = boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_REGION"],
    )
    client.upload_file(str(path), env["COGNITO_S3_BUCKET"], key)


def _edge_client(stack: Stack, *arguments: str) -> int:
    command = [sys.executable, "-m", "edge_client", *arguments]
    return subprocess.run(
        command, env={**os.environ, **stack.env}, cwd=ROOT, check=False
    ).returncode  # noqa: S603  our own command


if __name__ == "__main__":
    sys.exit(main())
