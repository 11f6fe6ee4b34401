"""Words of a document: all of its text, in order, each with a time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketscribe_render.document import parse
from bucketscribe_render.words import flat, joined, spread, width_of, words_of
from tests.unit.render.documents import (
    ENGLISH,
    HOSTILE,
    OTHERS,
    body,
    documents,
    segment,
    with_words,
)


@settings(deadline=None)
@given(documents(ENGLISH + OTHERS + HOSTILE))
def test_no_word_is_lost_or_without_a_time(stored: bytes) -> None:
    document = parse(stored)
    words = list(words_of(document))
    told = "".join(flat(line.text) for line in document.lines)
    assert "".join(word.text for word in words).replace(" ", "") == told.replace(" ", "")
    assert all(0 <= word.start_s <= word.end_s for word in words)


def test_text_reads_as_it_did() -> None:
    texts = ("We spent 3.5 million.", "今日は、天気。", "明日も。", "Well")
    for text in (*texts, " ".join(texts[:2])):
        assert joined(words_of(parse(body(segment(text, 0, 9))))) == text
    both = parse(body(segment("今日は。", 0, 1), segment("明日", 1, 2), segment("Yes", 2, 3)))
    assert joined(words_of(both)) == "今日は。明日 Yes"


def test_what_nobody_timed_lies_between_its_neighbours() -> None:
    timed = with_words("ab cd ef", 1, 4, None)
    timed["words"][1] |= {"start": None, "end": None}
    assert [(w.start_s, w.end_s) for w in words_of(parse(body(timed)))] == [(1, 2), (2, 3), (3, 4)]
    for word in timed["words"]:
        del word["start"], word["end"]
    assert [w.start_s for w in words_of(parse(body(timed)))] == [1, 2, 3]


@pytest.mark.parametrize(
    "words", [None, "abc", [{"word": 1}], [{"word": "ab", "start": -1}], [{"word": "other"}], [[]]]
)
def test_words_that_are_none_leave_the_segment(words: object) -> None:
    found = list(words_of(parse(body(segment("ab cd", 1, 3, "Ada", words=words)))))
    assert [(w.text, w.start_s, w.speaker) for w in found] == [("ab", 1, "Ada"), ("cd", 2, "Ada")]


def test_a_word_has_its_own_speaker_or_the_segments() -> None:
    both = with_words("ab cd", 0, 2, "Ada")
    both["words"][1]["speaker"] = "Bo"
    assert [word.speaker for word in words_of(parse(body(both)))] == ["Ada", "Bo"]


def test_width_counts_columns() -> None:
    assert [width_of(text) for text in ("abc", "漢字", "ｶﾅ", "é", "e\u0301", "ที่", "a\u200db")] == [
        *(3, 4, 2, 1, 1, 1, 2),
    ]


@given(st.text())
def test_flat_text_is_one_line(text: str) -> None:
    shown = flat(text)
    assert len(shown.splitlines()) <= 1
    assert shown == shown.strip() == flat(shown)
    assert flat("a\u202eb \x1b[2J\x9b \n\ufeffc\u200dd") == "ab [2J c\u200dd"


def test_time_is_shared_by_width() -> None:
    assert spread(1, 4, ["a", "漢"]) == [(1, 2), (2, 4)]
    assert spread(4, 1, ["a", "\u0301"]) == [(4, 4), (4, 4)]
