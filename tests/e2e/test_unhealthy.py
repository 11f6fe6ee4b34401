"""A worker that could do no job ends before it takes one, and says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from devstack import Stack
from devstack.events import EventKind
from tests.e2e.conftest import ROOT
from tests.processes import wait_until


def test_a_worker_whose_models_are_not_whole_exits_as_unfit(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models", models, copy_function=lambda a, b: Path(b).symlink_to(a))
    (models / "whisper" / "tiny.en" / "model.bin").unlink()
    logs = tmp_path / "logs"
    on_runpod = {"RUNPOD_ENDPOINT_ID": "devstack"}
    with Stack(logs=logs, models=models, worker_env=on_runpod) as stack:
        log = logs / "worker-1.log"
        wait_until(lambda: log.exists() and "exited with 1" in log.read_text(), 60)
        assert stack.queue_events(EventKind.TAKEN) == []
    life = log.read_text().partition("exited with")[0]
    (failed,) = [line for line in life.splitlines() if "MODELS_DIR" in line]
    line = json.loads(failed)
    assert line["level"] == "ERROR"
    assert "whisper/tiny.en/model.bin missing or of another size" in line["message"]
    assert "python -m builder.fetch_models" in line["message"]
