"""How the parts sum up what their processes measured."""

import json
from pathlib import Path

import pytest

from bench import cold_start
from bench.corpus import Utterance
from bench.speed import floor
from bench.speed import limits as overhead
from bench.speed import limits as throttled
from bench.speed.inputs import derive_models
from bench.speed.sides import Job, by_step
from bench.speed.turns import Task, candidates
from bench.stock import Recipe, Threads


def test_our_stages_add_up_to_the_steps_of_stock() -> None:
    """Fetch and decode are what load_audio does."""
    spent = {"fetch": 1.0, "decode": 2.0, "speech": 3.0, "transcribe": 4.0, "align": 5.0}
    assert by_step(spent) == {"load": 3.0, "transcribe": 7.0, "align": 5.0}


def test_a_warm_up_is_a_clip() -> None:
    """Of the same recording."""
    assert "clip" not in Job("http://a", "http://b").to_input()
    assert Job("http://a", "http://b", 20.0).to_input()["clip"] == {"start_s": 0.0, "end_s": 20.0}


def test_the_readmes_threads_are_tried_first() -> None:
    """And nothing is tried twice, not even on one core."""
    for cores in (1, 2, 16):
        tried = candidates(cores)
        assert tried[0] == Threads()
        assert len(set(tried)) == len(tried)


def test_a_task_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Threads included."""
    recipe = Recipe(whisper="base", align_language="de", threads=Threads(1, 2, again=True))
    recordings = (tmp_path / "a.wav", tmp_path / "b.wav")
    task = Task("ours", tmp_path, recordings, "http://c/", tmp_path / "d", recipe, True)
    task.write(tmp_path / "task.json")
    assert Task.read(tmp_path / "task.json") == task


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
    """Pair by pair."""
    found = cold_start.summarise(
        [{"first result": 6.0}, {"first result": 9.0}],
        [{"import": 5.0, "models": 3.0}, {"import": 6.0, "models": 2.0}],
        [4.0, 2.0],
    )
    assert found["earlier first result"]["median"] == 11.0
    assert found["ratio"] == {"median": 0.7, "low": 0.5, "high": 0.9, "runs": 2}


def test_a_slow_job_is_held_against_the_longer_of_download_and_work() -> None:
    """5 s of download and 10 s of work; then 20 s of download."""
    slow = [{"wall_s": 11.0, "rate": 20.0}, {"wall_s": 22.0, "rate": 5.0}]
    found = throttled.summarise_throttled(slow, [{"wall_s": 10.0}, {"wall_s": 10.0}], 100)
    assert found["ratio"] == {"median": 1.1, "low": 1.1, "high": 1.1, "runs": 2}
    assert found["download_s"] == 5.0


def test_delivery_counts_as_added() -> None:
    """10 s end to end, of which the pipeline says 9 s, 1 s of that delivery."""
    found = overhead.summarise_overhead([{"end_to_end": 10.0, "pipeline": 9.0, "deliver": 1.0}])
    assert found["added_s"]["median"] == 2.0
    assert found["added_share"]["median"] == 0.25


@pytest.mark.models
def test_segments_are_as_long_as_whispers_chunks() -> None:
    """Up to 30 s each; those that end too late are left out."""
    from bench.speed.stages import segments

    said = [Utterance(10.0 * i, 10.0 * i + 9, "A", f"number {i}.") for i in range(7)]
    found = segments(said, until_s=65.0)
    assert [(s["start"], s["end"]) for s in found] == [(0.0, 29.0), (30.0, 59.0)]
    assert found[0]["text"] == " number 0. number 1. number 2."
