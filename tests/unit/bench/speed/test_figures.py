"""How the parts sum up what their processes measured, and how processes are run."""

import json
import os
from pathlib import Path

import pytest

from bench.speed.__main__ import first_result_s
from bench.speed.inputs import derive_models
from bench.speed.measure import by_stage, figure, ratios
from bench.speed.sides import JobFailed, by_step, run_process


def fail() -> None:
    """What another process runs."""
    raise JobFailed(f"process {os.getpid()}")


def test_a_process_is_a_fresh_one_and_raises_what_its_function_raised() -> None:
    with pytest.raises(JobFailed, match="process") as failed:
        run_process(fail)
    assert str(failed.value) != f"process {os.getpid()}"


def test_ratios_are_taken_pair_by_pair() -> None:
    """A minute in which the machine was slow for both sides changes none; a missing run is told."""
    assert ratios([1.0, 10.0, 2.0], [2.0, 20.0, 4.0]) == figure([0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="argument 2"):
        ratios([1.0, 2.0], [1.0])


def test_our_stages_add_up_to_the_steps_of_stock() -> None:
    """Fetch and decode are what load_audio does; a stage that a run lacks took no time."""
    spent = {"fetch": 1.0, "decode": 2.0, "speech": 3.0, "transcribe": 4.0, "align": 5.0}
    assert by_step(spent) == {"load": 3.0, "transcribe": 7.0, "align": 5.0}
    assert by_stage([{"a": 1.0}, {"a": 2.0, "b": 3.0}]) == {"a": [1.0, 2.0], "b": [0.0, 3.0]}


def test_a_derived_models_folder_shares_files_and_changes_its_profile(tmp_path: Path) -> None:
    """Twice is as good as once."""
    models = tmp_path / "models"
    (models / "vad").mkdir(parents=True)
    (models / "profile.json").write_text('{"vad": 1, "align": 2}')
    for _ in range(2):
        derived = derive_models(models, tmp_path / "derived", {"align": 3})
    assert json.loads((derived / "profile.json").read_text()) == {"vad": 1, "align": 3}
    assert (derived / "vad").resolve() == models / "vad"
    assert json.loads((models / "profile.json").read_text())["align"] == 2


def test_the_first_result_counts_from_the_start_of_its_process(tmp_path: Path) -> None:
    """A process that ends without one is a failure that shows what it said."""
    result = tmp_path / "result"
    code = f"import time; time.sleep(0.3); open({str(result)!r}, 'w').close(); time.sleep(0.7)"
    assert 0.25 < first_result_s(["-c", code], tmp_path, result) < 0.95
    with pytest.raises(JobFailed, match=r"exit 1\)\n.*no model"):
        first_result_s(["-c", "raise SystemExit('no model')"], tmp_path, result)
