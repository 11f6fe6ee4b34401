"""Transcribe one recording through the whole stack on this machine: ``python -m devstack.demo``.

It starts the stack, puts the telephone conversation that pyannote.audio ships into S3, submits it
with the edge client, and prints progress, summary and transcript. The exit code is 0 when the
transcript is there; nothing is left running.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import click

from devstack.stack import ROOT, Stack

SESSION = "users/demo-user/audio/sessions/telephone-sample"


def telephone_wav() -> Path:
    """Return pyannote.audio's sample: 30 s, two speakers on the telephone, 16 kHz mono WAV.

    The folder is looked up, not imported: the import decodes the file through torchcodec.
    """
    spec = importlib.util.find_spec("pyannote.audio")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pyannote.audio is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0]) / "sample" / "sample.wav"


def main() -> int:
    """Run the demo."""
    started = time.monotonic()
    with Stack(logs=ROOT / "logs") as stack:
        _say(f"S3 at {stack.s3.url}, queue at {stack.queue.base_url}, one worker; logs in logs/")
        stack.s3.client().upload_file(str(telephone_wav()), stack.s3.bucket, f"{SESSION}/audio.wav")
        _say(f"uploaded audio.wav; now: edge-client submit {SESSION} --wait")
        failed = stack.edge_client("submit", SESSION, "--wait").returncode
        failed = failed or stack.edge_client("render", SESSION, "--format", "txt").returncode
    _say(f"{'failed' if failed else 'done'} in {time.monotonic() - started:.0f} s, nothing runs")
    return 1 if failed else 0


def _say(line: str) -> None:
    click.echo(f"demo: {line}")


if __name__ == "__main__":
    sys.exit(main())
