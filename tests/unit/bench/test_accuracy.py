"""The accuracy command with both measurements stood in for; what counts as worse; the table."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import accuracy
from bench.accuracy import RATES, TOLERANCES, Report, SubmitError, complaints, interval, table
from bench.corpus import ROOT, SPEECH_DIR, Reference, Utterance, load_folder, telephone_sample
from bench.scoring import COLLAR_S, Counts
from tests.recordings import SHORT_SPEECH, short_reference

STOCK = Counts(1000, 100, 150, 80, 72, 12, 3, 10, 100.0, 5.0, 3, 2)


def spoken_as(utterances: tuple[Utterance, ...]) -> dict[str, Any]:
    """What a perfect recogniser would say, in WhisperX's shape."""
    segments = []
    for u in utterances:
        times = np.linspace(u.start, u.end, len(u.text.split()) + 1).tolist()
        words = zip(u.text.split(), times, times[1:], strict=False)
        said = [{"word": w, "start": a, "end": b, "speaker": u.speaker} for w, a, b in words]
        segments.append({"text": u.text, "speaker": u.speaker, "words": said})
    return {"segments": segments, "models": {"transcribe": "perfect"}}


def perfect(references: Sequence[Reference], *_: Path) -> Iterator[dict[str, Any]]:
    return iter([spoken_as(reference.utterances) for reference in references])


def lose_the_end(references: Sequence[Reference], *_: Path) -> Iterator[dict[str, Any]]:
    return iter([spoken_as(reference.utterances[:-1]) for reference in references])


def fail(*_: object) -> Iterator[dict[str, Any]]:
    raise SubmitError("users/bench/audio/sessions/telephone: exit 3")


@pytest.mark.parametrize(
    ("ours", "code", "said"),
    [
        (perfect, 0, "no worse than stock"),
        (lose_the_end, 1, "synthetic: WER"),
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
    """Groups not measured stay as committed; where a session failed nothing is written."""
    references = [telephone_sample(), *load_folder(SPEECH_DIR), short_reference()]
    stock = list(perfect(references))
    results: dict[object, Any] = {
        accuracy.transcribe_files: stock,
        accuracy.attribute_true_turns: list(zip(stock, stock, strict=True)),
    }
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
    written = Report.from_json((tmp_path / "accuracy.json").read_text())
    committed = Report.from_json((ROOT / "docs" / "accuracy.json").read_text())
    assert {group: len(ways["ours"]) for group, ways in written.groups.items()} == {
        "telephone": 1, "synthetic": 3, "ami": 7, "data": 1
    }  # fmt: skip
    assert written.groups["ami"] == committed.groups["ami"]
    assert "| telephone: 1 recording, 87 words | ours | " in printed
    assert table(written.groups) == printed.removesuffix("\n")
    assert (tmp_path / "accuracy.md").read_text().endswith(table(written.groups))


def test_committed_table_is_of_the_committed_counts_and_recordings() -> None:
    """And its tolerances are those of the code: a stale table is noticed."""
    text = (ROOT / "docs" / "accuracy.json").read_text()
    report = Report.from_json(text)
    assert (ROOT / "docs" / "accuracy.md").read_text().endswith(table(report.groups))
    assert report.to_json() == text
    assert len(report.groups["synthetic"]["ours"]) == len(load_folder(SPEECH_DIR))
    document = json.loads(text)
    assert document["tolerances"] == TOLERANCES
    assert document["collar_s"] == COLLAR_S


def complaints_of(**ours: Any) -> list[str]:
    """Compare stock's usual counts with these in them to stock's usual counts."""
    return complaints({"talk": {"ours": [replace(STOCK, **ours)], "stock": [STOCK]}})


def test_worse_than_the_tolerance_is_a_complaint() -> None:
    for name, counted, limit in [
        ("WER", "edits", 105), ("cpWER", "cp_edits", 160), ("DER", "wrong_s", 7)
    ]:  # fmt: skip
        assert complaints_of(**{counted: limit}) == []
        (complaint,) = complaints_of(**{counted: limit + 0.5})
        assert complaint.startswith(f"talk: {name} ")
    for speakers in (1, 5):  # of three, of whom stock finds two
        assert len(complaints_of(speakers_found=speakers)) == 1
    assert complaints_of(edits=0, speakers_found=3) == []


def test_speakers_too_many_do_not_make_up_for_others_that_are_missed() -> None:
    both = [replace(STOCK, speakers_found=2), replace(STOCK, speakers_found=4)]
    groups = {"talk": {"ours": both, "stock": [STOCK, replace(STOCK, speakers_found=3)]}}
    assert complaints(groups) == ["talk: 2 speakers too many or too few, stock 1"]


def test_rates_are_of_all_words_and_have_an_interval_from_three_recordings_on() -> None:
    """A dash for what was not measured."""
    bad = Counts(100, 50, 60, 50, 40, 5, 0, 10, 60.0, 6.0, 2, 1)
    good = Counts(300, 30, 40, 250, 250, 20, 1, 10, 40.0, 0.0, 2, 2)
    assert interval([bad, good], RATES["WER"]) is None
    low, high = interval([bad, good, good], RATES["WER"]) or (0.0, 0.0)
    assert 0.1 <= low < 110 / 700 < high <= 0.5
    old = Counts(100, 50, 60, 50, 40, 5, 0)
    lines = table({"ami": {"ours": [bad, good], "stock": [old]}}).splitlines()
    rates = "20.0% | 25.0% | 5.0% | 6.0% | 96.7% of 300"
    assert lines[2:] == [
        f"| ami: 2 recordings, 400 words | ours | {rates} | 3 of 4 | 25 (1) | 1.25 |",
        "| | stock | 50.0% | 60.0% | 10.0% | – | 80.0% of 50 | – | 5 (0) | – |",
    ]
