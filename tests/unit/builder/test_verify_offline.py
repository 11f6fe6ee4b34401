"""A folder that is incomplete, broken or chatty does not pass."""

import socket
from contextlib import suppress
from pathlib import Path

import pytest

from builder.verify_offline import Check, main, run_check


def call_home() -> None:
    """Do what a library does that looks for a newer model, and goes on without."""
    with suppress(Exception):
        socket.create_connection(("192.0.2.1", 443), timeout=1)


def test_model_that_works_is_reported_with_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a model."""
    assert run_check(Check("whisper x", lambda: None)) is None
    assert capsys.readouterr().out.split()[:3] == ["whisper", "x", "ok"]


def test_model_that_calls_home_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Even when it would have worked without an answer."""
    assert run_check(Check("whisper x", call_home)) == "whisper x tried to reach 192.0.2.1"
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.usefixtures("capsys")
def test_model_that_raises_fails_with_its_own_words() -> None:
    """The library's message is the best hint there is."""

    def check() -> None:
        raise ValueError("size mismatch for lm_head")

    assert run_check(Check("align en", check)) == (
        "align en does not work: ValueError: size mismatch for lm_head"
    )


def test_folder_without_profile_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has the command that makes the folder."""
    assert main([str(tmp_path)]) == 1
    assert "fetch_models.py --profile demo --into" in capsys.readouterr().err


@pytest.mark.models
def test_deleted_file_is_named(copied_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before any model is loaded."""
    (copied_dir / "diarization" / "plda" / "plda.npz").unlink()
    assert main([str(copied_dir)]) == 1
    captured = capsys.readouterr()
    assert "missing from" in captured.err
    assert "diarization/plda/plda.npz" in captured.err
    assert captured.out == ""


@pytest.mark.models
def test_changed_file_is_named(copied_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A truncated download loads, sometimes."""
    vocabulary = copied_dir / "align" / "en" / "vocab.json"
    content = vocabulary.read_bytes()
    vocabulary.unlink()
    vocabulary.write_bytes(content[:-1])
    assert main([str(copied_dir)]) == 1
    assert "changed in" in capsys.readouterr().err


@pytest.mark.models
def test_assembled_folder_passes(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every model loads and runs with the network refused."""
    assert main([str(models_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "nltk_data",
        "whisper",
        "vad",
        "align",
        "diarization",
    ]
    assert all(" ok " in line for line in lines)
