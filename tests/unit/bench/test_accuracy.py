"""The accuracy command with both measurements stood in for; what counts as worse; the table."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import accuracy
from bench.accuracy import TOLERANCES, Comparison, complaints, diarizer_markdown, markdown, to_json
from bench.corpus import SPEECH_DIR, Reference, Utterance, load_folder, telephone_sample
from bench.scoring import COLLAR_S, Score
from bench.stock import StockResult
from bench.whole_path import ROOT, SubmitError
from tests.recordings import SHORT_SPEECH, short_reference

STOCK = Score(
    wer=0.10,
    cpwer=0.15,
    der=0.02,
    der_no_collar=0.05,
    speakers_found=3,
    speakers_true=2,
    first_words=9,
    first_word_median_s=0.02,
    first_word_p90_s=0.05,
)
EQUAL = Comparison("talk", 30.2, STOCK, STOCK, 0.0123)


def spoken_as(utterances: tuple[Utterance, ...]) -> dict[str, Any]:
    """What a perfect recogniser would say, in WhisperX's shape."""
    segments = [{"text": u.text, "speaker": u.speaker, "words": _words(u)} for u in utterances]
    return {"segments": segments, "models": {"transcribe": "perfect"}}


def _words(utterance: Utterance) -> list[dict[str, Any]]:
    texts = utterance.text.split()
    step_s = (utterance.end - utterance.start) / len(texts)
    starts = [utterance.start + index * step_s for index in range(len(texts))]
    return [
        {"word": text, "start": start, "end": start + step_s, "speaker": utterance.speaker}
        for text, start in zip(texts, starts, strict=True)
    ]


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
def test_table_is_written_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The telephone sample first, then the project's own."""
    assert accuracy.main(["--logs", str(tmp_path / "logs"), "--docs", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "accuracy.json").read_text())
    names = [recording["recording"] for recording in written["recordings"]]
    assert names == ["telephone", "handover2", "planning3", "standup2"]
    assert all(recording["ours"]["wer"] == 0 for recording in written["recordings"])
    table = [line for line in capsys.readouterr().out.splitlines() if "| ours |" in line]
    assert set(table) <= set((tmp_path / "accuracy.md").read_text().splitlines())
    assert len(table) == 4


@pytest.mark.usefixtures("perfect")
@pytest.mark.parametrize(("asked", "written"), [([], False), (["--write-also"], True)])
def test_further_recordings_are_written_only_when_asked(
    asked: list[str], written: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are printed in any case."""
    also = ["--also", str(SHORT_SPEECH.parent)]
    folders = ["--logs", str(tmp_path / "logs"), "--docs", str(tmp_path)]
    assert accuracy.main([*folders, *also, *asked]) == 0
    assert "| short, 5 s |" in capsys.readouterr().out
    assert ("| short, 5 s |" in (tmp_path / "accuracy.md").read_text()) is written


@pytest.mark.usefixtures("perfect")
def test_worse_than_stock_fails_and_says_in_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours loses the last utterance of every recording."""

    def worse(references: list[Reference], *_: Path) -> Iterator[dict[str, Any]]:
        return iter([spoken_as(reference.utterances[:-1]) for reference in references])

    monkeypatch.setattr(accuracy, "transcribe_all", worse)
    assert accuracy.main(["--logs", str(tmp_path / "logs"), "--docs", str(tmp_path)]) == 1
    assert "standup2: wer" in capsys.readouterr().err


@pytest.mark.usefixtures("perfect")
def test_a_session_that_fails_is_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the edge client said is passed on."""

    def fail(*_: object) -> Iterator[dict[str, Any]]:
        raise SubmitError("users/bench/audio/sessions/telephone: exit 3")

    monkeypatch.setattr(accuracy, "transcribe_all", fail)
    assert accuracy.main(["--logs", str(tmp_path / "logs"), "--docs", str(tmp_path)]) == 1
    assert "exit 3" in capsys.readouterr().err
    assert not list(tmp_path.glob("accuracy.*"))


def test_committed_table_is_of_the_committed_recordings() -> None:
    """And its tolerances are those of the code: a stale table is noticed."""
    document = json.loads((ROOT / "docs" / "accuracy.json").read_text())
    names = [recording["recording"] for recording in document["recordings"]]
    own = [reference.name for reference in load_folder(SPEECH_DIR)]
    assert names == ["telephone", *own]
    assert document["tolerances"] == TOLERANCES
    assert document["collar_s"] == COLLAR_S


@pytest.mark.parametrize("figure", TOLERANCES)
def test_worse_than_the_tolerance_is_a_complaint(figure: str) -> None:
    """Just inside it is none."""
    limit = getattr(STOCK, figure) + TOLERANCES[figure]
    outside = replace(EQUAL, ours=replace(STOCK, **{figure: limit + 1e-6}))
    inside = replace(EQUAL, ours=replace(STOCK, **{figure: limit - 1e-6}))
    assert len(complaints(outside)) == 1
    assert figure in complaints(outside)[0]
    assert complaints(inside) == []


UNTIMED = replace(STOCK, first_words=0, first_word_median_s=None, first_word_p90_s=None)


@pytest.mark.parametrize(
    ("comparison", "count"),
    [
        (EQUAL, 0),
        (replace(EQUAL, ours=replace(STOCK, wer=0.0, speakers_found=2, first_words=10)), 0),
        (replace(EQUAL, ours=replace(STOCK, speakers_found=0)), 1),
        (replace(EQUAL, ours=replace(STOCK, speakers_found=4)), 1),
        (replace(EQUAL, ours=UNTIMED), 3),
        (replace(EQUAL, stock=UNTIMED), 0),
    ],
    ids=["equal", "better", "too few speakers", "too many", "first words lost", "stock's lost"],
)
def test_speakers_and_first_words_count_too(comparison: Comparison, count: int) -> None:
    """Else good times of few words would pass for good times."""
    assert len(complaints(comparison)) == count


def test_table_has_two_lines_a_recording() -> None:
    """Rates in percent, times in milliseconds, a dash for what was not measured."""
    untimed = replace(STOCK, first_word_median_s=None)
    assert markdown([replace(EQUAL, stock=untimed)]).splitlines()[2:] == [
        "| talk, 30 s | ours | 10.0% | 15.0% | 2.0% | 5.0% | 3 of 2 | 9: 20 / 50 |",
        "| | stock | 10.0% | 15.0% | 2.0% | 5.0% | 3 of 2 | 9: – / 50 |",
    ]
    assert diarizer_markdown([EQUAL]).splitlines()[-1] == "| talk | 1.2% |"


def test_json_has_every_figure_rounded() -> None:
    """For programs: parts of one, seconds."""
    comparison = replace(EQUAL, ours=replace(STOCK, wer=1 / 3))
    document = json.loads(to_json([comparison], {"align": "tiny"}))
    (recording,) = document["recordings"]
    assert recording["ours"]["wer"] == 0.3333
    assert recording["stock"]["first_word_p90_s"] == 0.05
    assert document["models"] == {"align": "tiny"}
