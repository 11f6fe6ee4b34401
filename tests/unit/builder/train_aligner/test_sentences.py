"""What may be spoken, and what is kept for the evaluation."""

from pathlib import Path

import pytest

from tools.train_aligner.sentences import read_sentences, split_sentences

GOOD = "The quick brown fox does not care."


@pytest.fixture
def fortunes(tmp_path: Path) -> Path:
    """A folder of fortunes, one of which spans lines."""
    (tmp_path / "a.u8").write_text(f"{GOOD}\n%\nIt was said\nthat nobody's dog came home. \n")
    return tmp_path


def test_sentences_are_joined_over_lines(fortunes: Path) -> None:
    """Fortunes are wrapped at 75 columns."""
    assert read_sentences(fortunes) == ["It was said that nobody's dog came home.", GOOD]


def test_sentence_is_taken_once(fortunes: Path) -> None:
    """Two files share many fortunes, with other punctuation."""
    (fortunes / "b.u8").write_text("The quick, brown fox does not care!\n")
    assert len(read_sentences(fortunes)) == 2


@pytest.mark.parametrize(
    "sentence",
    [
        "The year was 1984 and nobody minded.",  # digits are read in many ways
        "Ask Mr Brown about the missing dog.",
        "The FBI did not care about the dog.",
        "He said 'go away' and they all went.",
        "Wait for it -- it may come to you.",
        "Too short.",
    ],
)
def test_what_is_spoken_otherwise_than_written_is_left_out(sentence: str, tmp_path: Path) -> None:
    """The letters must be what is heard."""
    (tmp_path / "a.u8").write_text(sentence)
    assert read_sentences(tmp_path) == []


@pytest.mark.parametrize("seed", range(6))
def test_held_out_sentences_are_nowhere_in_training(seed: int) -> None:
    """Not even as a part of another sentence, nor a part of them."""
    numbers = ("one", "three", "five", "seven")
    whole = [f"The number {word} is odd." for word in numbers]
    train, held_out = split_sentences([*whole, *(f"Well. {s}" for s in whole)], 2, seed)
    assert len(held_out) == 2
    kept = {word for sentence in train for word in sentence.split()}
    assert all(sentence.split()[-3] not in kept for sentence in held_out)
    assert train
