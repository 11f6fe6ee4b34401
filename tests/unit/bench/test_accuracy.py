"""The accuracy command, with its two measurements stood in for, and for real."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import accuracy
from bench.accuracy import TOLERANCES, complaints
from bench.corpus import SPEECH_DIR, Reference, Utterance, load_folder, read_transcript
from bench.scoring import COLLAR_S
from bench.whole_path import ROOT, SubmitError
from tests.recordings import SHORT_SPEECH, short_reference

FIVE_MINUTES_S = 300


def spoken_as(utterances: tuple[Utterance, ...]) -> dict[str, Any]:
    """What a perfect recogniser would say, in WhisperX's shape."""
    segments = [{"text": u.text, "speaker": u.speaker, "words": _words(u)} for u in utterances]
    turns = [[u.start, u.end, u.speaker] for u in utterances]
    return {"segments": segments, "turns": turns, "models": {"transcribe": "perfect"}}


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

    def stock(references: list[Reference], *_: Path) -> list[dict[str, Any]]:
        return [spoken_as(reference.utterances) for reference in references]

    def ours(references: list[Reference], *_: Path) -> Iterator[dict[str, Any]]:
        return iter([spoken_as(reference.utterances) for reference in references])

    monkeypatch.setattr(accuracy, "run_stock", stock)
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
    assert (
        accuracy.main(["--logs", str(tmp_path / "logs"), "--docs", str(tmp_path), *also, *asked])
        == 0
    )
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


@pytest.mark.timeout(60)
def test_stock_that_fails_names_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without models is no table."""
    folders = ["--models", str(tmp_path), "--logs", str(tmp_path), "--docs", str(tmp_path)]
    assert accuracy.main(folders) == 1
    assert "stock.log" in capsys.readouterr().err
    assert "profile.json" in (tmp_path / "stock.log").read_text()


def test_committed_table_is_of_the_committed_recordings() -> None:
    """And its tolerances are those of the code: a stale table is noticed."""
    document = json.loads((ROOT / "docs" / "accuracy.json").read_text())
    names = [recording["recording"] for recording in document["recordings"]]
    own = [reference.name for reference in load_folder(SPEECH_DIR)]
    assert names == ["telephone", *own]
    assert document["tolerances"] == TOLERANCES
    assert document["collar_s"] == COLLAR_S


@pytest.fixture(scope="module")
def models() -> Path:
    """The demo models, assembled where `make` puts them unless they are there already."""
    folder = Path(os.environ.get("MODELS_DIR", ROOT / "models"))
    fetch = [sys.executable, "-m", "builder.fetch_models", "--profile", "demo", "--into"]
    subprocess.run([*fetch, str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.mark.models
@pytest.mark.timeout(FIVE_MINUTES_S)
def test_stock_hears_the_short_speech(models: Path, tmp_path: Path) -> None:
    """Every word, both speakers, from a process of its own."""
    (document,) = accuracy.run_stock([short_reference()], models, tmp_path)
    hypothesis = read_transcript(document)
    assert "train to the harbor leaves in" in hypothesis.text
    assert len(hypothesis.speakers) == 2
    assert set(document["timings_s"]) == {"transcribe", "align", "diarize", "attribute"}


@pytest.mark.e2e
@pytest.mark.models
@pytest.mark.timeout(FIVE_MINUTES_S)
def test_ours_is_no_worse_than_stock_on_the_short_speech(models: Path, tmp_path: Path) -> None:
    """Through S3, queue and worker, with the real edge client."""
    (comparison,), names = accuracy.compare([short_reference()], models, tmp_path / "logs")
    assert complaints(comparison) == []
    assert comparison.ours.wer < 0.1
    assert set(names) == {"speech", "transcribe", "align", "diarize"}
