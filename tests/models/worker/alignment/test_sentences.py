"""Sentence splitters are read once, and keep no text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.worker.alignment.aligners import Aligners

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("aligners")]


def test_a_language_is_read_once(aligners: Aligners, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.engines.alignment.words import _splitter, split_sentences

    _splitter.cache_clear()
    text = "Mr. Smith went to Washington. He left."
    assert split_sentences(text, "en") == [(0, 29), (30, 38)]
    monkeypatch.setattr("nltk.data.find", None)
    assert split_sentences(text, "xx") == [(0, 29), (30, 38)]


def test_no_word_of_a_text_is_kept(aligners: Aligners) -> None:
    from worker.engines.alignment.words import _splitter, split_sentences

    split_sentences("Read the tables.", "en")
    known = _splitter("english")._params.ortho_context
    before = len(known)
    split_sentences("We met... Zzyzxian of Inc. Frobozzly and Mr. J. Xyzzyqwert. Etc. So.", "en")
    assert len(known) == before


def test_tables_that_are_missing_are_named() -> None:
    from worker.engines.alignment.words import _splitter

    with pytest.raises(LookupError, match="klingon"):
        _splitter("klingon")
