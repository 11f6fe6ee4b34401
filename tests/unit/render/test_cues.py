"""Cues keep the rules of subtitles for whatever was said, and all that was said."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bucketscribe_render.cues import Cue, Layout, cues_of
from bucketscribe_render.document import Document, parse
from bucketscribe_render.words import flat, width_of, words_of
from tests.unit.render.documents import (
    ENGLISH,
    HOSTILE,
    OTHERS,
    body,
    documents,
    meeting,
    segment,
    with_words,
)

layouts = st.builds(Layout, st.integers(16, 60), st.integers(1, 3))
STANDARD = Layout()


def shown(cues: list[Cue]) -> list[str]:
    """Return the cues' texts, a line each, without the dashes of two speakers."""
    return [
        text.removeprefix("- ") if len({who for who, _ in cue.lines}) > 1 else text
        for cue in cues
        for _, text in cue.lines
    ]


def check(document: Document, layout: Layout, named: bool = False) -> list[Cue]:
    """Return the cues, which keep every rule that nothing said can break."""
    cues, last = cues_of(document, layout, named), None
    told = []
    for word in words_of(document):
        is_new = word.speaker is not None and word.speaker != last
        told.append(f"[{word.speaker}]" if is_new and named and len(document.speakers) > 1 else "")
        told.append(word.text)
        last = word.speaker
    assert "".join(shown(cues)).replace(" ", "") == "".join(told).replace(" ", "")
    for cue in cues:
        assert 700 <= cue.end_ms - cue.start_ms <= 7000
        assert 1 <= len(cue.lines) <= layout.lines
        for _, text in cue.lines:
            assert width_of(text) <= layout.line_width
            assert text == flat(text) != ""
    for a, b in pairwise(cues):
        assert b.start_ms - a.end_ms == 0 or b.start_ms - a.end_ms >= 80
    return cues


@settings(deadline=None)
@given(documents(ENGLISH + OTHERS + HOSTILE), layouts, st.booleans())
@example(body(), STANDARD, True)
def test_rules_hold_and_no_word_is_lost(stored: bytes, layout: Layout, named: bool) -> None:
    check(parse(stored), layout, named)


@pytest.mark.parametrize("letter", ["x", "漢", "ก", "(", "\u0301", "W "])
def test_nothing_is_too_long(letter: str) -> None:
    long = letter * 10_000
    for segments in ([segment(long, 0, 1)], [segment("a", 0, 1, long), segment("b", 1, 2, "B")]):
        check(parse(body(*segments)), STANDARD, named=True)


WHOLE = ("3.5 million", "12 000", "$ 5", "5 %", "Henry Miller", "New York", "Mr. Smith", "J. Ro")
parts = st.sampled_from((*WHOLE, "two hundred", "we", "think that", "festivals, which", "are"))


@settings(deadline=None)
@given(st.lists(parts, max_size=40), st.sampled_from((0.1, 0.3, 1.0, 4.0)), layouts)
def test_no_line_ends_inside_a_number_or_a_name(
    said: list[str], seconds: float, layout: Layout
) -> None:
    text = " and ".join(("so", *said))
    cues = check(parse(body(with_words(text, 0, len(said) * seconds + 1, None))), layout)
    lines = "\n".join(shown(cues))
    assert all(lines.count(whole) == text.count(whole) for whole in (*WHOLE, "two hundred"))


@pytest.mark.parametrize("name", ["planning3", "handover2", "standup2", "ausflug2"])
@pytest.mark.parametrize("named", [False, True])
def test_real_speech_is_easy_to_read(name: str, named: bool) -> None:
    document = parse(meeting(name))
    cues = check(document, STANDARD, named)
    assert sum(cue.end_ms - cue.start_ms < 1000 for cue in cues) <= len(cues) / 50
    letters = [sum(len(text) for _, text in cue.lines) for cue in cues]
    starts = [*(cue.start_ms for cue in cues[1:]), cues[-1].end_ms]
    for cue, count, until in zip(cues, letters, starts, strict=True):
        seconds = (cue.end_ms - cue.start_ms) / 1000  # hasty only where the next one follows
        assert count / seconds <= 17.5 or until - cue.end_ms <= 80
    ends = [cue.lines[-1][1] for cue in cues]
    assert sum(text.endswith((".", "?", "!", ",")) for text in ends) >= 0.9 * len(ends)


def texts(*segments: dict[str, object], layout: Layout = STANDARD) -> list[str]:
    cues = check(parse(body(*segments)), layout)
    return ["|".join(text for _, text in cue.lines) for cue in cues]


def test_a_sentence_breaks_at_its_clauses_and_lines_are_even() -> None:
    text = "When we meet again, which is next week, I will bring what is left of the cake."
    assert texts(with_words(text, 0, 6, None)) == [
        "When we meet again, which is next week,|I will bring what is left of the cake."
    ]
    careful = "Last year we spent almost twice as much, so we must be careful."
    assert texts(with_words(careful, 0, 5, None)) == [
        "Last year we spent almost twice as much,|so we must be careful."
    ]
    assert texts(with_words("Then forty bags would cost two hundred dollars", 0, 3, None)) == [
        "Then forty bags would|cost two hundred dollars"
    ]


def test_a_speaker_begins_a_cue_but_an_interjection_is_a_second_line() -> None:
    a, b = with_words("Shall we go?", 0, 2, "Ada"), with_words("Yes, we shall.", 2, 4, "Bo")
    assert texts(a, b) == ["Shall we go?", "Yes, we shall."]
    a, b = with_words("I think that we", 0, 2, "Ada"), with_words("Yeah.", 2, 2.4, "Bo")
    c = with_words("should go home.", 2.4, 5, "Ada")
    assert texts(a, b, c) == ["- I think that we|- Yeah.", "should go home."]
    assert texts(a, b, c, layout=Layout(42, 1)) == ["I think that we", "Yeah.", "should go home."]
    narrow = Layout(16, 2)
    assert texts(a, b, c, layout=narrow) == ["I think", "- that we|- Yeah.", "should go home."]


def test_a_cue_that_would_be_short_joins_another_speakers() -> None:
    a, b = with_words("Shall we go?", 0, 2, "Ada"), with_words("Yes.", 2, 2.3, "Bo")
    c = with_words("Then let us take the car.", 2.3, 5, "Ada")
    assert texts(a, b, c) == ["Shall we go?", "- Yes.|- Then let us take the car."]


def test_what_comes_after_a_pause_is_not_shown_before_it() -> None:
    a, b = with_words("Perhaps we should", 0, 2, None), with_words("go home now.", 5, 6, None)
    assert texts(a, b) == ["Perhaps we should", "go home now."]


def test_overlapped_speech_keeps_its_order_and_is_shown_as_long_as_it_is_spoken() -> None:
    a = with_words("I think that we should all go home together now.", 0, 5, "Ada")
    cues = check(parse(body(a, segment("Yes, we shall.", 1, 1.5, "Bo"))), STANDARD)
    assert [(cue.start_ms, cue.lines[0][0]) for cue in cues] == [(0, "Ada"), (4487, "Bo")]


def test_short_cues_stay_while_nobody_speaks() -> None:
    document = parse(body(segment("Yes.", 1, 1.2), segment("No.", 9, 9.1)))
    assert [(c.start_ms, c.end_ms) for c in cues_of(document, STANDARD)] == [
        *((1000, 2000), (9000, 10_000)),
    ]
    document = parse(body(segment("Yes.", 1, 1.2), segment("x" * 42, 2.3, 5), segment("no", 5, 6)))
    assert [(c.start_ms, c.end_ms) for c in cues_of(document, STANDARD)][0] == (1000, 2220)


def test_scripts_without_spaces_break_where_they_may() -> None:
    text = "明日も晴れるといいのですが、天気予報によると午後から雨が降るかもしれません。"
    assert texts(segment(text, 0, 7)) == [
        "明日も晴れるといいのですが、天気予報に|よると午後から雨が降るかもしれません。"
    ]
    text = "コンピュータープログラミングの勉強を2024年から始めました。"
    assert texts(segment(text, 0, 7)) == [
        "コンピュータープログラミングの|勉強を2024年から始めました。"
    ]
    for line in "|".join(texts(segment("（コンピューター）、" * 20, 0, 60))).split("|"):
        assert not re.match("[ー、）]", line)
        assert not line.endswith("（")
    for line in "|".join(texts(segment("เราจะมาพูดถึงเรื่องที่นี่" * 9, 0, 30))).split("|"):
        assert not re.match("[\u0e30-\u0e39\u0e47-\u0e4e]", line)
        assert not re.search("[เแโใไ]$", line)
