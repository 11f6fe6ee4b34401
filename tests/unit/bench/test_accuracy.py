"""The accuracy command with both measurements stood in for; what counts as worse; the table."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import accuracy
from bench.accuracy import (
    TOLERANCES,
    Comparison,
    SubmitError,
    complaints,
    diarizer_markdown,
    markdown,
    to_json,
)
from bench.corpus import ROOT, SPEECH_DIR, Reference, Utterance, load_folder, telephone_sample
from bench.scoring import COLLAR_S, Score
from bench.stock import StockResult
from tests.recordings import SHORT_SPEECH, short_reference

STOCK = Score(0.10, 0.15, 0.02, 0.05, 3, 2, 9, 0.02, 0.05)
EQUAL = Comparison("talk", 30.2, STOCK, STOCK, 0.0123)


def spoken_as(utterances: tuple[Utterance, ...]) -> dict[str, Any]:
    """What a perfect recogniser would say, in WhisperX's shape."""
    segments = []
    for u in utterances:
        times = np.linspace(u.start, u.end, len(u.text.split()) + 1).tolist()
        words = zip(u.text.split(), times, times[1:], strict=False)
        said = [{"word": w, "start": a, "end": b, "speaker": u.speaker} for w, a, b in words]
        segments.append({"text": u.text, "speaker": u.speaker, "words": said})
    return {"segments": segments, "models": {"transcribe": "perfect"}}


@pytest.fixture
def perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides hear everything."""

    def stock(_: object, models: Path, recordings: list[Path]) -> list[StockResult]:
        known = {r.audio: r for r in [telephone_sample(), *load_folder(SPEECH_DIR)]}
        known[SHORT_SPEECH] = short_reference()
        found = (known[recording] for recording in recordings)
        return [StockResult(spoken_as(r.utterances), r.turns, {}, (), "en") for r in found]

    def ours(references: list[Reference], *_: Path) -> Iterator[dict[str, Any]]:
        return iter([spoken_as(reference.utterances) for reference in references])

    monkeypatch.setattr(accuracy, "run_process", stock)
    monkeypatch.setattr(accuracy, "transcribe_all", ours)


@pytest.mark.usefixtures("perfect")
@pytest.mark.parametrize("is_written", [False, True])
def test_table_is_printed_and_written(
    is_written: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The telephone sample, the project's own; further recordings are printed, written if asked."""
    folders = ["--logs", str(tmp_path / "logs"), "--docs", str(tmp_path)]
    also = ["--also", str(SHORT_SPEECH.parent), *["--write-also"] * is_written]
    assert accuracy.main([*folders, *also]) == 0
    written = json.loads((tmp_path / "accuracy.json").read_text())["recordings"]
    names = ["telephone", "handover2", "planning3", "standup2", *["short"] * is_written]
    assert [recording["recording"] for recording in written] == names
    assert all(recording["ours"]["wer"] == 0 for recording in written)
    printed = capsys.readouterr().out
    assert "| short, 5 s |" in printed
    page = (tmp_path / "accuracy.md").read_text().splitlines()
    table = [line for line in page if "ours |" in line]
    assert len(table) == len(names)
    assert set(table) <= set(printed.splitlines())


def lose_the_end(references: list[Reference], *_: Path) -> Iterator[dict[str, Any]]:
    """Ours loses the last utterance of every recording."""
    return iter([spoken_as(reference.utterances[:-1]) for reference in references])


def fail(*_: object) -> Iterator[dict[str, Any]]:
    """A session does not come through."""
    raise SubmitError("users/bench/audio/sessions/telephone: exit 3")


@pytest.mark.usefixtures("perfect")
@pytest.mark.parametrize(
    ("ours", "said", "is_written"), [(lose_the_end, "standup2: wer", True), (fail, "exit 3", False)]
)
def test_worse_than_stock_or_a_failed_session_exits_with_1(
    ours: object,
    said: str,
    is_written: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And says in what, or what the edge client said, which is no table."""
    monkeypatch.setattr(accuracy, "transcribe_all", ours)
    assert accuracy.main(["--logs", str(tmp_path / "logs"), "--docs", str(tmp_path)]) == 1
    assert said in capsys.readouterr().err
    assert (tmp_path / "accuracy.md").exists() is is_written


def test_committed_table_is_of_the_committed_recordings() -> None:
    """And its tolerances are those of the code: a stale table is noticed."""
    document = json.loads((ROOT / "docs" / "accuracy.json").read_text())
    names = [recording["recording"] for recording in document["recordings"]]
    own = [reference.name for reference in load_folder(SPEECH_DIR)]
    assert names == ["telephone", *own]
    assert document["tolerances"] == TOLERANCES
    assert document["collar_s"] == COLLAR_S


def complaints_of(ours: dict[str, Any], stock: dict[str, Any]) -> list[str]:
    """Compare the two, each stock's usual score with these figures."""
    return complaints(replace(EQUAL, ours=replace(STOCK, **ours), stock=replace(STOCK, **stock)))


@pytest.mark.parametrize("figure", TOLERANCES)
def test_worse_than_the_tolerance_is_a_complaint(figure: str) -> None:
    limit = getattr(STOCK, figure) + TOLERANCES[figure]
    (complaint,) = complaints_of({figure: limit + 1e-6}, {})
    assert figure in complaint
    assert complaints_of({figure: limit - 1e-6}, {}) == []


UNTIMED = {"first_words": 0, "first_word_median_s": None, "first_word_p90_s": None}


@pytest.mark.parametrize(
    ("ours", "stock", "count"),
    [
        ({}, {}, 0),
        ({"wer": 0.0, "speakers_found": 2, "first_words": 10}, {}, 0),
        ({"speakers_found": 0}, {}, 1),
        ({"speakers_found": 4}, {}, 1),
        (UNTIMED, {}, 3),
        ({}, UNTIMED, 0),
    ],
    ids=["equal", "better", "too few speakers", "too many", "first words lost", "stock's lost"],
)
def test_speakers_and_first_words_count_too(
    ours: dict[str, Any], stock: dict[str, Any], count: int
) -> None:
    """Else good times of few words would pass for good times."""
    assert len(complaints_of(ours, stock)) == count


def test_table_has_two_lines_a_recording_and_json_every_figure() -> None:
    """Rates in percent, times in milliseconds, a dash for what is missing; JSON is rounded."""
    untimed = replace(STOCK, first_word_median_s=None)
    assert markdown([replace(EQUAL, stock=untimed)]).splitlines()[2:] == [
        "| talk, 30 s | ours | 10.0% | 15.0% | 2.0% | 5.0% | 3 of 2 | 9: 20 / 50 |",
        "| | stock | 10.0% | 15.0% | 2.0% | 5.0% | 3 of 2 | 9: – / 50 |",
    ]
    assert diarizer_markdown([EQUAL]).splitlines()[-1] == "| talk | 1.2% |"
    thirds = replace(EQUAL, ours=replace(STOCK, wer=1 / 3))
    document = json.loads(to_json([thirds], {"align": "tiny"}))
    assert document["recordings"][0]["ours"]["wer"] == 0.3333
    assert document["models"] == {"align": "tiny"}
