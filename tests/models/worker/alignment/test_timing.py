"""Times of words and sentences without any, against pandas."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engines.alignment.words import CharacterTimes, fill_from_nearest, place_sentences

pytestmark = pytest.mark.models


@given(st.lists(st.floats(0, 10) | st.just(math.nan), max_size=12))
def test_gaps_are_filled_as_pandas_fills_them(values: list[float]) -> None:
    import pandas as pd
    from whisperx.utils import interpolate_nans

    expected = interpolate_nans(pd.Series(values, dtype=float)).tolist()
    assert repr(fill_from_nearest(values)) == repr(expected)


def times(*starts: float | None) -> CharacterTimes:
    """Characters that last a tenth of a second."""
    ends = [None if start is None else start + 0.1 for start in starts]
    scores = [None if start is None else 0.5 for start in starts]
    return CharacterTimes(list(starts), ends, scores)


def test_a_word_takes_the_time_of_the_nearer_word() -> None:
    (sentence,) = place_sentences("a b c", [(0, 5)], times(1.0, None, None, None, 2.0), True)
    assert [(word.start, word.score) for word in sentence.words] == [
        (1.0, 0.5),
        (1.0, None),
        (2.0, 0.5),
    ]


def test_a_sentence_without_times_is_merged_into_its_neighbour() -> None:
    found = place_sentences("a. b.", [(0, 2), (3, 5)], times(1.0, 1.1, None, None, None), True)
    assert [(s.text, s.start, s.end) for s in found] == [("a. b.", 1.0, pytest.approx(1.2))]


def test_sentences_are_in_order_of_their_times() -> None:
    found = place_sentences("a. b.", [(0, 2), (3, 5)], times(2.0, 2.1, None, 1.0, 1.1), True)
    assert [(s.text, s.start) for s in found] == [("b.", 1.0), ("a.", 2.0)]


def test_without_any_times_there_is_no_sentence() -> None:
    assert place_sentences("a b", [(0, 3)], times(None, None, None), True) == []
