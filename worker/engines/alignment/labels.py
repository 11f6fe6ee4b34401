"""What an aligner's labels stand for, and the characters of a text that it can place."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from whisperx.utils import LANGUAGES_WITHOUT_SPACES

Labels = npt.NDArray[np.int64]
UNKNOWN = -1
SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}\p{Tibetan}"
"""Scripts that write words together, for a set of `regex`."""


def is_silent(char: str) -> bool:
    """Tell whether a character is white space, or punctuation that nobody says."""
    return unicodedata.category(char)[0] in "PZC" and char not in "%&@#"


@dataclass(frozen=True)
class Characters:
    """The characters of a text that take part in alignment.

    Attributes:
        positions: Index in the text of each; ascending.
        tokens: Their labels, shape (n_tokens,). A character whose lower case has two (``İ``)
            gives two tokens, so there may be more of them than positions; whisperx's times are
            those of the first ``len(positions)`` tokens, and so are ours.
            Unknown ones are `UNKNOWN`.
    """

    positions: list[int]
    tokens: Labels


@dataclass(frozen=True)
class Alphabet:
    """An aligner's labels.

    Attributes:
        index: Label of each lower-case character, ``|`` for a space.
        blank: The CTC blank.
        language: ISO 639-1.
    """

    index: Mapping[str, int]
    blank: int
    language: str

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Self:
        """Return what ``whisperx.load_align_model`` says of its model."""
        index = metadata["dictionary"]
        blanks = [label for char, label in index.items() if char in ("[pad]", "<pad>")]
        return cls(index, blanks[-1] if blanks else 0, metadata["language"])

    @property
    def has_spaces(self) -> bool:
        """Whether words are written apart in this language."""
        return self.language not in LANGUAGES_WITHOUT_SPACES

    def spells(self, word: str) -> bool:
        """Tell whether a word has a character with a label, or is punctuation alone."""
        has_label = any(self.index.get(self._as_label(c), self.blank) != self.blank for c in word)
        return has_label or all(is_silent(c) for c in word)

    def spells_all(self, text: str) -> bool:
        """Tell whether that is so of every word of a text: not of most numerals."""
        return all(self.spells(word) for word in (text.split() if self.has_spaces else text))

    def find(self, text: str) -> Characters:
        """Return the characters of a text that can be placed.

        White space at either end cannot, nor can a space where the aligner has no label for it;
        a character that it does not know (a digit, another script) can.
        """
        first, last = len(text) - len(text.lstrip()), len(text.rstrip())
        positions: list[int] = []
        written: list[str] = []
        for position in range(first, last):
            char = self._as_label(text[position])
            if char in self.index or char not in (" ", "|"):
                positions.append(position)
                written.append(char)
        tokens = [self.index.get(char, UNKNOWN) for char in "".join(written)]
        return Characters(positions, np.array(tokens, np.int64))

    def _as_label(self, char: str) -> str:
        lower = char.lower()
        return lower.replace(" ", "|") if self.has_spaces else lower
