"""Which characters of a text an aligner can place."""

from __future__ import annotations

import pytest

from worker.engines.alignment.labels import UNKNOWN, Alphabet

INDEX = {"<pad>": 0, "|": 1, "a": 2, "b": 3, "i": 4}


def alphabet(language: str = "en", **more: int) -> Alphabet:
    """An alphabet of three letters."""
    return Alphabet.of({"dictionary": INDEX | more, "language": language})


@pytest.mark.parametrize(
    ("text", "positions", "tokens"),
    [
        ("ab a", [0, 1, 2, 3], [2, 3, 1, 2]),
        ("  A\n", [2], [2]),
        ("a 5b", [0, 1, 2, 3], [2, 1, UNKNOWN, 3]),
        ("a|b", [0, 1, 2], [2, 1, 3]),
        (" \t ", [], []),
        ("İb", [0, 1], [4, UNKNOWN, 3]),
    ],
)
def test_characters_become_tokens(text: str, positions: list[int], tokens: list[int]) -> None:
    found = alphabet().find(text)
    assert (found.positions, found.tokens.tolist()) == (positions, tokens)


def test_a_language_without_spaces_does_not_place_them() -> None:
    assert alphabet("ja").find("a b").positions == [0, 2]


def test_the_blank_is_the_label_for_padding() -> None:
    assert alphabet().blank == 0
    assert alphabet(**{"[pad]": 7}).blank == 7
    assert Alphabet.of({"dictionary": {"a": 3}, "language": "en"}).blank == 0
