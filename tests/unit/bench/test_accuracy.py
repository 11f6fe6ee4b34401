"""The accuracy command with both measurements stood in for; the table."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import accuracy
from bench.accuracy import RATES, Report, SubmitError, interval, table
from bench.corpus import ROOT, SPEECH_DIR, Reference, Utterance, load_folder, telephone_sample
from bench.scoring import COLLAR_S, Counts
from tests.recordings import SHORT_SPEECH, short_reference


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


def fail(*_: object) -> Iterator[dict[str, Any]]:
    raise SubmitError("users/bench/audio/sessions/telephone: exit 3")


@pytest.mark.parametrize(("ours", "code"), [(perfect, 0), (fail, 1)])
def test_the_table_is_printed_and_written(
    ours: object,
    code: int,
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
    if ours is fail:
        assert "telephone: exit 3" in complained
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
    """A stale table is noticed."""
    text = (ROOT / "docs" / "accuracy.json").read_text()
    report = Report.from_json(text)
    assert (ROOT / "docs" / "accuracy.md").read_text().endswith(table(report.groups))
    assert report.to_json() == text
    assert len(report.groups["synthetic"]["ours"]) == len(load_folder(SPEECH_DIR))
    assert json.loads(text)["collar_s"] == COLLAR_S


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
