"""How the parts sum up what their processes measured, and how processes are run."""

import json
import os
from pathlib import Path

import pytest

from bench import cold_start
from bench.speed import floor, limits
from bench.speed.inputs import derive_models
from bench.speed.measure import by_stage, figure, ratios
from bench.speed.sides import JobFailed, by_step
from bench.speed.turns import run_process


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


def test_the_floor_takes_the_faster_number_of_threads_of_each_model() -> None:
    """The packed floor is one thread each, spread over the cores."""
    found = floor.summarise({"1": {"a": 4.0, "b": 1.0}, "2": {"a": 3.0, "b": 2.0}}, cores=2)
    assert found["forwards_s"] == {"a": 3.0, "b": 1.0}
    assert (found["floor_s"], found["packed_floor_s"]) == (4.0, 2.5)


def test_cold_start_is_held_against_loading_and_then_the_first_job() -> None:
    serial = [{"import": 5.0, "models": 3.0}, {"import": 6.0, "models": 2.0}]
    workers = [{"first result": 6.0}, {"first result": 9.0}]
    found = cold_start.summarise(workers, serial, [4.0, 2.0])
    assert found["earlier first result"]["median"] == 11.0
    assert found["ratio"] == figure([0.5, 0.9])


def test_a_slow_job_is_held_against_the_longer_of_download_and_work() -> None:
    """5 s of download and 10 s of work; then 20 s of download."""
    slow = [{"wall_s": 11.0, "rate": 20.0}, {"wall_s": 22.0, "rate": 5.0}]
    found = limits.summarise_throttled(slow, [{"wall_s": 10.0}, {"wall_s": 10.0}], 100)
    assert (found["ratio"], found["download_s"]) == (figure([1.1, 1.1]), 5.0)


def test_delivery_counts_as_added() -> None:
    """10 s end to end, of which the pipeline says 9 s, 1 s of that delivery."""
    found = limits.summarise_overhead([{"end_to_end": 10.0, "pipeline": 9.0, "deliver": 1.0}])
    assert (found["added_s"], found["added_share"]) == (figure([2.0]), figure([0.25]))
