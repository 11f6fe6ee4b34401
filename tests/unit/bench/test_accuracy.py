"""The accuracy command with both measurements stood in for; what counts as worse; the table."""

import json
import shutil
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
    Report,
    SubmitError,
    complaints,
    diarizer_markdown,
    from_json,
    markdown,
    to_json,
)
from bench.corpus import (
    ROOT,
    SPEECH_DIR,
    Hypothesis,
    Reference,
    SpokenWord,
    Utterance,
    load_folder,
    telephone_sample,
)
from bench.encodings import ENCODINGS, Agreement, agreement, agreement_markdown
from bench.scoring import COLLAR_S, Counts, Score
from bench.stock import StockResult
from tests.recordings import SHORT_SPEECH, short_reference

STOCK = Score(0.10, 0.15, 0.02, 0.05, 3, 2, 9, 0.02, 0.05, Counts(100, 10, 15, 80, 72, 12, 3))
EQUAL = Comparison("talk", 30.2, STOCK, STOCK, 0.0123)
WAV = Agreement("wav", 9, 9, 0.0, 0.0)


def spoken_as(utterances: tuple[Utterance, ...]) -> dict[str, Any]:
    """What a perfect recogniser would say, in WhisperX's shape."""
    segments = []
    for u in utterances:
        times = np.linspace(u.start, u.end, len(u.text.split()) + 1).tolist()
        words = zip(u.text.split(), times, times[1:], strict=False)
        said = [{"word": w, "start": a, "end": b, "speaker": u.speaker} for w, a, b in words]
        segments.append({"text": u.text, "speaker": u.speaker, "words": said})
    return {"segments": segments, "models": {"transcribe": "perfect"}}


Sent = list[tuple[Reference, str]]


def perfect(recordings: Sent, *_: Path) -> Iterator[dict[str, Any]]:
    return iter([spoken_as(reference.utterances) for reference, _ in recordings])


def lose_the_end(recordings: Sent, *_: Path) -> Iterator[dict[str, Any]]:
    return iter([spoken_as(reference.utterances[:-1]) for reference, _ in recordings])


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
    true = [(spoken_as(r.utterances), spoken_as(r.utterances)) for r in references]
    results = {accuracy.transcribe_files: stock, accuracy.attribute_to_true_speakers: true}
    monkeypatch.setattr(accuracy, "run_process", lambda function, *_: results[function])
    monkeypatch.setattr(accuracy, "transcribe_all", ours)
    shutil.copy(ROOT / "docs" / "accuracy.json", tmp_path)
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
    assert "| telephone: 1 recording, 87 words | ours | " in printed
    page = (tmp_path / "accuracy.md").read_text().splitlines()
    tables = [line for line in page if " s | ours |" in line or " wma |" in line]
    assert len(tables) == len(names) + 1
    assert set(tables) <= set(printed.splitlines())


def test_the_encodings_alone_leave_the_other_tables_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("accuracy.md", "accuracy.json"):
        shutil.copy(ROOT / "docs" / name, tmp_path)
    monkeypatch.setattr(accuracy, "run_process", None)
    monkeypatch.setattr(accuracy, "transcribe_all", perfect)
    folders = ["--logs", str(tmp_path / "logs"), "--docs", str(tmp_path)]
    assert accuracy.main([*folders, "--encodings"]) == 0
    committed, written = (
        from_json((folder / "accuracy.json").read_text()) for folder in (ROOT / "docs", tmp_path)
    )
    assert written.comparisons == committed.comparisons
    assert {(a.words, a.equal, a.largest_shift_s) for a in written.encodings} == {(99, 99, 0.0)}


def test_encodings_that_came_out_the_same_share_a_row() -> None:
    words = [SpokenWord(text, at, at, None) for at, text in enumerate(("a", "b", "c", "d"))]
    later = [replace(word, start_s=word.start_s + 0.02) for word in words if word.start_s != 1]
    untimed = [replace(word, start_s=None) for word in words[:1]]
    said = {"wav": words, "flac": words, "amr": later, "x": untimed, "y": []}
    whole = Hypothesis("", tuple(words))
    found = [agreement(name, whole, Hypothesis("", tuple(w))) for name, w in said.items()]
    assert agreement_markdown(found).splitlines()[2:] == [
        "| wav, flac | 4 of 4 | 0 / 0 |",
        "| amr | 3 of 4 | 20 / 20 |",
        "| x | 1 of 4 | – / – |",
        "| y | 0 of 4 | – / – |",
    ]


def test_committed_table_is_of_the_committed_recordings() -> None:
    """And its tolerances are those of the code: a stale table is noticed."""
    document = json.loads((ROOT / "docs" / "accuracy.json").read_text())
    names = [recording["recording"] for recording in document["recordings"]]
    own = [reference.name for reference in load_folder(SPEECH_DIR)]
    assert names == ["telephone", *own]
    assert document["tolerances"] == TOLERANCES
    assert document["collar_s"] == COLLAR_S
    encodings = {found["encoding"]: found for found in document["encodings"]}
    assert list(encodings) == list(ENCODINGS)
    assert all(abs(found["shift_s"]) < 0.05 for found in encodings.values())


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
    document = json.loads(to_json(Report([thirds], {"align": "tiny"}, [WAV], {})))
    assert document["recordings"][0]["ours"]["wer"] == 0.3333
    assert document["models"] == {"align": "tiny"}
