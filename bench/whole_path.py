"""Ours, through the whole path on loopback: S3, edge client, queue, worker, S3.

Takes recordings; returns the ``transcription.json`` that the worker put into S3. Everything is
real: SeaweedFS, the development queue, `handler.py` under RunPod's SDK, and the edge client as a
command. Raises `SubmitError` where a session fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3

from bench.corpus import Reference, read_recording, write_recording
from devstack.stack import Stack

ROOT = Path(__file__).parent.parent


class SubmitError(Exception):
    """The edge client said that a session did not come through; the text is its own."""


def transcribe_all(
    references: Iterable[Reference], models: Path, logs: Path
) -> Iterator[dict[str, Any]]:
    """Send recordings one after another through one stack with one worker.

    Args:
        references: The recordings, decoded and uploaded as PCM16 WAV of 16 kHz.
        models: The folder that the worker loads.
        logs: Where the stack's logs go.

    Yields:
        The transcript document of each, in order.

    Raises:
        SubmitError: A session failed.
    """
    with Stack(logs=logs, models=models) as stack:
        for reference in references:
            prefix = f"users/bench/audio/sessions/{reference.name}"
            _upload(stack.env, f"{prefix}/audio.wav", reference.audio)
            _submit(stack.env, prefix)
            yield _download(stack.env, f"{prefix}/transcription.json")


def _submit(env: dict[str, str], prefix: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "edge_client", "submit", prefix, "--wait", "--json"],
        env=_without_cloud(os.environ) | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SubmitError(f"{prefix}: exit {run.returncode}: {run.stdout}{run.stderr}")


def _without_cloud(environment: Iterable[str]) -> dict[str, str]:
    """Leave out what would point the client at a real bucket or endpoint."""
    ours = ("AWS_", "RUNPOD_", "COGNITO_")
    return {name: os.environ[name] for name in environment if not name.startswith(ours)}


def _upload(env: dict[str, str], key: str, audio: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "audio.wav"
        write_recording(wav, read_recording(audio))
        _s3(env).upload_file(str(wav), env["COGNITO_S3_BUCKET"], key)


def _download(env: dict[str, str], key: str) -> dict[str, Any]:
    body = _s3(env).get_object(Bucket=env["COGNITO_S3_BUCKET"], Key=key)["Body"].read()
    document: dict[str, Any] = json.loads(body)
    return document


def _s3(env: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL_S3"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
