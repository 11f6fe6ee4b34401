"""A scan of 100,000 sessions: as few LIST calls as can be, and no more memory than for 10,000.

``SCALE_SESSIONS=300000`` makes the bucket larger.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from devstack.process import Guard
from devstack.s3 import S3Server
from tests.soak.scale.many_sessions import CLOSED, MIX, fill, kind_of, session_of

pytestmark = pytest.mark.timeout(900)
MANY = int(os.environ.get("SCALE_SESSIONS", "100000"))
FEW = MANY // 10
ROOT = Path(__file__).parents[3]


class Run(NamedTuple):
    """A run over a bucket of that many sessions."""

    keys: int
    lines: list[dict[str, Any]]
    calls: dict[str, int]
    wall_s: float
    peak_bytes: int


def scan(
    server: S3Server,
    bucket: str,
    sessions: int,
    folder: Path,
    *options: str,
    mix: Sequence[str] = MIX,
) -> Run:
    keys = fill(server, bucket, sessions, mix)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "COGNITO_S3_BUCKET": bucket,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": server.url,
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "RUNPOD_ENDPOINT_ID": "none",
        "RUNPOD_API_KEY": "none",
    }
    out, figures = folder / f"{bucket}.jsonl", folder / f"{bucket}.json"
    command = [sys.executable, "-m", "tests.soak.scale.measured", str(figures)]
    with out.open("wb") as stdout:
        subprocess.run(
            [*command, "batch", "--json", *options], env=env, cwd=ROOT, stdout=stdout, check=True
        )
    with out.open(encoding="utf-8") as text:
        lines = [json.loads(line) for line in text]
    return Run(keys, lines, **json.loads(figures.read_text(encoding="utf-8")))


@contextmanager
def server_in(folder: Path) -> Iterator[S3Server]:
    with Guard() as guard, S3Server("many", folder, folder / "log", guard) as server:
        yield server


def tell(capsys: pytest.CaptureFixture[str], *runs: Run) -> None:
    with capsys.disabled():
        for run in runs:
            figures = f"{run.calls}, {run.wall_s:.1f} s, {run.peak_bytes / 1e6:.1f} MB at most"
            sys.stdout.write(f"\n{run.keys} keys: {figures}")


def test_batch_over_sessions_that_are_all_done_costs_listing_calls_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server_in(tmp_path) as server:
        run = scan(server, "many", MANY, tmp_path, mix=CLOSED)
    tell(capsys, run)
    assert run.calls == {"ListObjectsV2": math.ceil(run.keys / 1000)}
    assert run.lines[-1]["summary"]["already_done"] == MANY


def test_dry_run_finds_every_session_once_in_the_fewest_calls_and_flat_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are printed."""
    with server_in(tmp_path) as server:
        server.client().create_bucket(Bucket="few")
        few = scan(server, "few", FEW, tmp_path, "--dry-run")
        many = scan(server, "many", MANY, tmp_path, "--dry-run")
    tell(capsys, few, many)
    check_sessions(many)
    assert many.calls["ListObjectsV2"] == math.ceil(many.keys / 1000)
    assert many.peak_bytes < 200e6
    assert abs(many.peak_bytes - few.peak_bytes) < 0.10 * few.peak_bytes


def check_sessions(many: Run) -> None:
    """Hold the lines of a dry run against the bucket that was made."""
    *sessions, last = many.lines
    kinds = {session_of(number).prefix: kind_of(number) for number in range(MANY)}
    pending = {prefix for prefix, kind in kinds.items() if kind not in ("closed", "done")}
    assert len(sessions) == len(pending)
    assert {line["session"] for line in sessions} == pending
    found = {(kinds[line["session"]], line["need"], line["why"]) for line in sessions}
    assert found == {
        ("new", "submit", "new"),
        ("described", "submit", "new"),
        ("stale", "submit", "the recording is newer than its transcript"),
        ("chunks", "not_merged", "2 chunks, no audio.wav yet"),
    }
    assert last["summary"]["sessions"]["done"] == MANY - len(pending)
