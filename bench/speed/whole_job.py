"""The whole job, warm: ours against stock, by step, with the parity of what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.corpus import SAMPLE_RATE_HZ, read_recording
from bench.speed.inputs import (
    GERMAN,
    LONG,
    MEETING,
    PANEL,
    TELEPHONE,
    Bench,
    derive_models,
    write_input,
)
from bench.speed.measure import Figure, by_stage, ratios
from bench.speed.parity import Heard, compare
from bench.speed.turns import Subject, best_threads, take_turns
from bench.stock import Recipe

STOCK = "stock"
TUNED = "stock, best threads"
OURS = "ours"
Answers = Mapping[str, Sequence[Mapping[str, Any]]]


def measure_quick(bench: Bench) -> dict[str, Any]:
    """Measure the telephone sample alone."""
    subjects = tuple(
        Subject(side, side, Recipe(), (TELEPHONE,), bench.models) for side in (STOCK, OURS)
    )
    answers = take_turns(subjects, bench.pairs, bench.folder)
    return {"recordings": {TELEPHONE: compare_sides(answers, TELEPHONE, bench)}}


def measure_english(bench: Bench) -> dict[str, Any]:
    """Measure telephone, meeting and panel; stock with its best threads on the meeting."""
    recordings = (TELEPHONE, MEETING.name, PANEL.name)
    tuned = Recipe(threads=best_threads(bench))
    subjects = (
        Subject(STOCK, "stock", Recipe(), recordings, bench.models),
        Subject(OURS, "ours", Recipe(), recordings, bench.models),
        Subject(TUNED, "stock", tuned, (MEETING.name,), bench.models),
    )
    answers = take_turns(subjects, bench.pairs, bench.folder)
    measured = {name: compare_sides(answers, name, bench) for name in recordings}
    measured[MEETING.name]["tuned"] = _tuned(answers, MEETING.name)
    return {"recordings": measured, "tuned_threads": asdict(tuned.threads)}


def measure_german(bench: Bench) -> dict[str, Any]:
    """Measure German with the multilingual model.

    There is no German aligner in the demo profile: on both sides the English one times the words.
    """
    profile_changes = {"align": {"de": {"path": "align/en", "name": "align-en-tiny"}}}
    models = derive_models(bench.models, bench.folder / "models-german", profile_changes)
    recipe = Recipe(whisper="base", align_language="de")
    subjects = tuple(
        Subject(side, side, recipe, (GERMAN,), models.absolute()) for side in (STOCK, OURS)
    )
    answers = take_turns(subjects, bench.pairs, bench.folder)
    return {"recordings": {GERMAN: compare_sides(answers, GERMAN, bench)}}


def measure_memory(bench: Bench) -> dict[str, Any]:
    """Measure the peak of half an hour above the loaded models, once a side."""
    subjects = tuple(
        Subject(side, side, Recipe(), (LONG.name,), bench.models, watch_memory=True)
        for side in (STOCK, OURS)
    )
    answers = take_turns(subjects, 1, bench.folder)
    stock, ours = (answers[side][0]["memory"] for side in (STOCK, OURS))
    cuda = ours["cuda"] / stock["cuda"] if stock["cuda"] else None
    return {
        "recording": LONG.name,
        "duration_s": duration_s(LONG.name, bench),
        STOCK: stock,
        OURS: ours,
        "ratio": round(ours["added"] / stock["added"], 4),
        "wall_ratio": round(ours["wall_s"] / stock["wall_s"], 4),
        "cuda_ratio": cuda,
    }


def compare_sides(answers: Answers, name: str, bench: Bench) -> dict[str, Any]:
    """Sum up one recording: seconds of each side, ratios by step, parity."""
    stock, ours = ([answer["runs"][name] for answer in answers[side]] for side in (STOCK, OURS))
    heard = Heard.read(ours[0]["heard"]), Heard.read(stock[0]["heard"])
    length_s = duration_s(name, bench)
    return {
        "duration_s": length_s,
        STOCK: _seconds(stock),
        OURS: _seconds(ours),
        "our_stages": {s: asdict(Figure.of(v)) for s, v in _stages(ours, "stages_s").items()},
        "ratio": asdict(ratios(_walls(ours), _walls(stock))),
        "ratio_by_step": _ratios_by_step(ours, stock),
        "parity": asdict(compare(*heard, length_s)),
        "same_every_time": all(
            run["heard"] == side[0]["heard"] for side in (stock, ours) for run in side
        ),
    }


def duration_s(name: str, bench: Bench) -> float:
    """Return a recording's length."""
    samples = read_recording(write_input(name, bench.folder))
    return round(len(samples) / SAMPLE_RATE_HZ, 3)


def _tuned(answers: Answers, name: str) -> dict[str, Any]:
    tuned, ours = ([answer["runs"][name] for answer in answers[side]] for side in (TUNED, OURS))
    return {
        "seconds": _seconds(tuned),
        "ratio": asdict(ratios(_walls(ours), _walls(tuned))),
        "ratio_by_step": _ratios_by_step(ours, tuned),
    }


def _seconds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    steps = {step: asdict(Figure.of(v)) for step, v in _stages(runs, "steps_s").items()}
    return {"wall_s": asdict(Figure.of(_walls(runs))), "steps_s": steps}


def _ratios_by_step(
    ours: Sequence[Mapping[str, Any]], stock: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    our, their = _stages(ours, "steps_s"), _stages(stock, "steps_s")
    return {step: asdict(ratios(our[step], their[step])) for step in their if step in our}


def _stages(runs: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float]]:
    return by_stage([run[key] for run in runs])


def _walls(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    return [run["wall_s"] for run in runs]
