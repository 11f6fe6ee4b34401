"""A recording of 700 MB on its way into the bucket, killed twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.e2e.drills import drilled
from tests.e2e.uploads import bytes_of, check_only_missing_parts_are_sent, random_file
from tests.soak.conftest import Tell

MEGABYTES = 700


@pytest.mark.timeout(900)
def test_upload_of_700_mb_killed_at_30_and_90_percent_sends_what_is_missing(
    tmp_path: Path, tell: Tell
) -> None:
    path = random_file(tmp_path / "long.wav", MEGABYTES * 10**6)
    with drilled(tmp_path) as drill:
        runs = check_only_missing_parts_are_sent(drill, path, (0.3, 0.9))
        stored = drill.get("users/local/audio/sessions/long/audio.wav")["Body"]
        with path.open("rb") as file:
            sent = hashlib.file_digest(file, "sha256").hexdigest()
        there = hashlib.sha256()
        for piece in stored.iter_chunks(2**20):
            there.update(piece)
        assert there.hexdigest() == sent
        drill.s3.close()
    for run in runs:
        sent_bytes = sum(size for _, size in run.parts)
        tell(f"found {bytes_of(path, run.found) / 1e6:.0f} MB, sent {sent_bytes / 1e6:.0f} MB")
