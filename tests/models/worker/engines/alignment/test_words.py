"""Times and scores are whisperx's own, to the bit, whatever the text and the times."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from whisperx.utils import interpolate_nans

from tests.fakes.alignment import stock_sentences
from tests.recordings import short_speech
from worker.cancel import StageContext
from worker.engines.alignment.acoustic import Aligner
from worker.engines.alignment.words import (
    CharacterTimes,
    PlacedSentence,
    _splitter,
    fill_from_nearest,
    place_sentences,
    split_sentences,
)
from worker.stages.align import _place
from worker.types import TextSegment, Waveform

SPEECH = Waveform(short_speech())

SAYINGS = [
    "Well.", "5", "no", "Dr. Smith", "?", "$3.50", "são", "€1,000.00!", "7%", "|", "İstanbul",
    "...", "№ 12", "It's", "(A.", "B.)", '"Go!"', "привет.", "你好。", "\n", "\t", "  ", "<pad>",
    "e\u0301t\u00e9", "x" * 60, "\u200b", "\u3000", "A. 7. B.", "1.", "z",
]  # fmt: skip
texts = (
    st.text(max_size=60)
    | st.lists(st.sampled_from(SAYINGS), max_size=12).map(" ".join)
    | st.lists(st.sampled_from(SAYINGS), max_size=12).map("".join)
)
starts = st.floats(0, 6.5) | st.sampled_from([0.0, 5.4, SPEECH.duration_s, 100.0])
lengths = st.floats(0.3, 6) | st.sampled_from([0.0, 0.01, 0.025, 0.03, 0.2])
segments = st.builds(
    lambda start, length, text: TextSegment(start, start + length, text),
    starts,
    lengths,
    texts,
)
many = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def placed(segments: list[TextSegment], aligner: Aligner) -> list[list[PlacedSentence]]:
    """What the engine gives for each segment, before any text is made up for."""
    found = dict(_place(SPEECH, segments, aligner, StageContext(), is_stock=True))
    return [found[i] for i in range(len(segments))]


@given(kind=st.integers(0, 3), spoken=st.lists(segments, min_size=1, max_size=3))
@many
def test_sentences_words_times_and_scores_are_those_of_whisperx(
    aligners: list[Aligner], kind: int, spoken: list[TextSegment]
) -> None:
    aligner = aligners[kind]
    spoken = [segment for segment in spoken if segment.text.strip()]
    expected = [stock_sentences(SPEECH, segment, aligner) for segment in spoken]
    assert repr(placed(spoken, aligner)) == repr(expected)


@given(st.lists(st.floats(0, 10) | st.just(math.nan), max_size=12))
def test_gaps_are_filled_as_pandas_fills_them(values: list[float]) -> None:
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


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ((1.0, 1.1, None, None, None), [("a. b.", 1.0)]),
        ((2.0, 2.1, None, 1.0, 1.1), [("b.", 1.0), ("a.", 2.0)]),
        ((None, None, None, None, None), []),
    ],
    ids=["no times: merged into its neighbour", "in order of times", "no times at all"],
)
def test_sentences_are_placed_by_their_times(
    starts: tuple[float | None, ...], expected: list[tuple[str, float]]
) -> None:
    found = place_sentences("a. b.", [(0, 2), (3, 5)], times(*starts), True)
    assert [(s.text, s.start) for s in found] == expected


@pytest.mark.usefixtures("aligners")
def test_a_language_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _splitter.cache_clear()
    text = "Mr. Smith went to Washington. He left."
    assert split_sentences(text, "en") == [(0, 29), (30, 38)]
    monkeypatch.setattr("nltk.data.find", None)
    assert split_sentences(text, "xx") == [(0, 29), (30, 38)]


@pytest.mark.usefixtures("aligners")
def test_no_word_of_a_text_is_kept() -> None:
    split_sentences("Read the tables.", "en")
    known = _splitter("english")._params.ortho_context
    before = len(known)
    split_sentences("We met... Zzyzxian of Inc. Frobozzly and Mr. J. Xyzzyqwert. Etc. So.", "en")
    assert len(known) == before


@pytest.mark.usefixtures("aligners")
def test_tables_that_are_missing_are_named() -> None:
    with pytest.raises(LookupError, match="klingon"):
        _splitter("klingon")
