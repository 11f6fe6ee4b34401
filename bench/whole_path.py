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
        s3, bucket = stack.s3.client(), stack.s3.bucket
        for reference in references:
            prefix = f"users/bench/audio/sessions/{reference.name}"
            with tempfile.TemporaryDirectory() as folder:
                wav = Path(folder) / "audio.wav"
                write_recording(wav, read_recording(reference.audio))
                s3.upload_file(str(wav), bucket, f"{prefix}/audio.wav")
            _submit(stack.env, prefix)
            found = s3.get_object(Bucket=bucket, Key=f"{prefix}/transcription.json")
            yield json.loads(found["Body"].read())


def _submit(env: dict[str, str], prefix: str) -> None:
    """Run the edge client without what would point it at a real bucket or endpoint."""
    cloud = ("AWS_", "RUNPOD_", "COGNITO_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(cloud)}
    run = subprocess.run(
        [sys.executable, "-m", "edge_client", "submit", prefix, "--wait", "--json"],
        env=inherited | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SubmitError(f"{prefix}: exit {run.returncode}: {run.stdout}{run.stderr}")
