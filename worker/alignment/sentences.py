"""Sentences of a text, by NLTK's Punkt tables, which are read once per language."""

from __future__ import annotations

from functools import cache

import nltk
from nltk.tokenize.punkt import PunktTokenizer
from whisperx.utils import PUNKT_LANGUAGES

Span = tuple[int, int]


class _Counts(dict[str, int]):
    """Counts that are 0 where there is none; NLTK's own would keep every word it ever sees."""

    def __missing__(self, _: str) -> int:
        return 0


def split_sentences(text: str, language: str) -> list[Span]:
    """Return where each sentence begins and ends in the text.

    Args:
        text: As Whisper gave it.
        language: ISO 639-1; one without tables is split as English is, as whisperx does it.

    Raises:
        LookupError: The models folder has no tables.
    """
    return list(_splitter(PUNKT_LANGUAGES.get(language, "english")).span_tokenize(text))


@cache
def _splitter(name: str) -> PunktTokenizer:
    splitter = nltk.tokenize.PunktTokenizer(name)
    splitter._params.ortho_context = _Counts(splitter._params.ortho_context)
    return splitter
