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


def perfect(references: list[Reference], *_: Path) -> Iterator[dict[str, Any]]:
    return iter([spoken_as(reference.utterances) for reference in references])


def lose_the_end(references: list[Reference], *_: Path) -> Iterator[dict[str, Any]]:
    return iter([spoken_as(reference.utterances[:-1]) for reference in references])


def fail(*_: object) -> Iterator[dict[str, Any]]:
    raise SubmitError("users/bench/audio/sessions/telephone: exit 3")


@pytest.mark.parametrize(
    ("ours", "code", "said"),
    [
        (perfect, 0, "no worse than stock"),
        (lose_the_end, 1, "standup2: wer"),
        (fail, 1, "telephone: exit 3"),
    ],
)
def test_the_table_is_printed_and_written_and_worse_than_stock_exits_with_1(
    ours: object,
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Further recordings are printed alone; where a session failed there is no table."""
    references = [telephone_sample(), *load_folder(SPEECH_DIR), short_reference()]
    stock = [StockResult(spoken_as(r.utterances), r.turns, {}, (), "en") for r in references]
    monkeypatch.setattr(accuracy, "run_process", lambda *_: stock)
    monkeypatch.setattr(accuracy, "transcribe_all", ours)
    folders = ["--logs", str(tmp_path / "logs"), "--docs", str(tmp_path)]
    assert accuracy.main([*folders, "--also", str(SHORT_SPEECH.parent)]) == code
    printed, complained = capsys.readouterr()
    assert said in complained
    if ours is fail:
        assert not (tmp_path / "accuracy.md").exists()
        return
    written = json.loads((tmp_path / "accuracy.json").read_text())["recordings"]
    names = [recording["recording"] for recording in written]
    assert names == ["telephone", "handover2", "planning3", "standup2"]
    assert "| short, 5 s |" in printed
    page = (tmp_path / "accuracy.md").read_text().splitlines()
    table = [line for line in page if "ours |" in line]
    assert len(table) == len(names)
    assert set(table) <= set(printed.splitlines())


def test_committed_table_is_of_the_committed_recordings() -> None:
    """And its tolerances are those of the code: a stale table is noticed."""
    document = json.loads((ROOT / "docs" / "accuracy.json").read_text())
    names = [recording["recording"] for recording in document["recordings"]]
    own = [reference.name for reference in load_folder(SPEECH_DIR)]
    assert names == ["telephone", *own]
    assert document["tolerances"] == TOLERANCES
    assert document["collar_s"] == COLLAR_S


def complaints_of(**ours: Any) -> list[str]:
    """Compare stock's usual score with these figures in it to stock's usual score."""
    return complaints(replace(EQUAL, ours=replace(STOCK, **ours)))


def test_worse_than_the_tolerance_is_a_complaint() -> None:
    """Speakers and first words count too: else good times of few words would pass for good."""
    for figure, tolerance in TOLERANCES.items():
        limit = getattr(STOCK, figure) + tolerance
        (complaint,) = complaints_of(**{figure: limit + 1e-6})
        assert figure in complaint
        assert complaints_of(**{figure: limit - 1e-6}) == []
    for speakers in (0, 4):  # of two, of which stock finds three
        assert len(complaints_of(speakers_found=speakers)) == 1
    assert complaints_of(wer=0.0, speakers_found=2, first_words=10) == []
    untimed = {"first_words": 0, "first_word_median_s": None, "first_word_p90_s": None}
    assert len(complaints_of(**untimed)) == 3
    assert complaints(replace(EQUAL, stock=replace(STOCK, **untimed))) == []


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
