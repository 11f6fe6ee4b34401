"""No job misses what something stands in for on import; nothing is reported, no hub is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.corpus import ROOT
from tests.recordings import SHORT_SPEECH
from worker.models.imports import ABSENT, STOOD_IN_FOR

SCRIPT = """
import base64, json, sys
from pathlib import Path
from worker.models import imports
if sys.argv[1] == "whole":
    imports.STOOD_IN_FOR, imports.ABSENT = {}, ()
from bucketscribe_contract import JobInput
from worker.cancel import CancelToken, StageContext
from worker.types import Waveform
"""
JOB = """
from worker.host.progress import ProgressReporter
from worker.runtime import Runtime
job = {"audio_base64": base64.b64encode(Path(sys.argv[2]).read_bytes()).decode()}
found = Runtime().run(job, CancelToken(), ProgressReporter([], 1.0))["segments"]
"""
COMMUNITY = """
imports.go_offline()
with imports.light_imports():
    from tests.fakes import diarization as fakes
from tests.recordings import telephone_speech
from worker.stages.diarize import diarize
embedding = fakes.small_embedding()
pipeline = fakes.community(Path(sys.argv[2]), fakes.powerset_segmentation(), embedding)
waveform = Waveform(telephone_speech()[: 15 * 16000])
job = JobInput(audio_base64="", num_speakers=2)  # beyond VBx: KMeans, of scikit-learn
turns = diarize(waveform, job, pipeline, StageContext(batch_size=8)).turns
found = [[turn.start, turn.end, turn.speaker] for turn in turns] if embedding.seen else []
"""
REPORT = """
modules = [*sys.modules]
import os
import huggingface_hub.constants as hub
from pyannote.audio.telemetry import metrics
assert hub.HF_HUB_OFFLINE
assert not metrics.is_metrics_enabled()
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
print(json.dumps({"found": found, "modules": modules}))
"""
OFFLINE = {"HF_HUB_OFFLINE", "PYANNOTE_METRICS_ENABLED", "ORT_DISABLE_TELEMETRY"}


def run(script: str, how: str, argument: Path) -> tuple[Any, set[str]]:
    """Run a script in a process of its own; return its result, and what it missed.

    What was missed is what was imported though something stood in for it. The script fails
    where a hub would be asked, or pyannote's maker or onnxruntime's be told.
    """
    env = {name: value for name, value in os.environ.items() if name not in OFFLINE}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT + script + REPORT, how, str(argument)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    printed = json.loads(ended.stdout.splitlines()[-1])
    return printed["found"], {*STOOD_IN_FOR, *ABSENT} & {*printed["modules"]}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(JOB, id="demo job"),
        pytest.param(COMMUNITY, id="production diarization", marks=pytest.mark.soak),
    ],
)
def test_nothing_that_is_stood_in_for_is_needed_or_changes_anything(
    script: str, tmp_path: Path
) -> None:
    argument = SHORT_SPEECH if script == JOB else tmp_path
    with ThreadPoolExecutor() as pool:
        both = pool.map(lambda how: run(script, how, argument), ("light", "whole"))
        (light, missed), (whole, imported) = both
    assert missed == set()
    assert {"pandas", "torchmetrics", "torch._dynamo", "optuna"} <= imported
    assert len(light) > 0
    assert light == whole
