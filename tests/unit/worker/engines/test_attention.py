"""Words out of a path from tokens to frames: all text, in order, within the chunk."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import ctranslate2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketscribe_contract import WordTiming
from worker.engines.attention import LetterTimes, shifted, split_words, time_words
from worker.types import TimedWord, letters

RATE_HZ = 16_000


class FakeModel:
    """Gives a drawn path, or a planted one; tokens are the bytes of UTF-8."""

    device = "cpu"

    def __init__(self, seed: int, planted: list[int] | None) -> None:
        self._chance, self._planted = np.random.default_rng(seed), planted

    def align(self, _: Any, start: list[int], rows: list[list[int]], n_mels: int) -> list[Any]:
        """Return a path for one row."""
        assert tuple(start) == (7,)
        n_frames, n_tokens = n_mels // 2, len(rows[0]) + 1
        drawn = np.sort(self._chance.integers(0, max(n_frames, 1), n_tokens)).tolist()
        path = list(enumerate(self._planted or drawn)) if n_frames else []
        return [SimpleNamespace(alignments=path, text_token_probs=self._chance.random(n_tokens))]


class FakeTokenizer:
    """Decodes what `FakeModel` takes."""

    sot_sequence = (7,)
    tokenizer = property(lambda self: self)

    def decode_batch(self, rows: list[list[int]]) -> list[str]:
        """Return the text of each row."""
        return [bytes(row).decode("utf-8", "replace") for row in rows]


def timed(
    text: str, sound: Any, lag_s: float = 0.0, seed: int = 0, planted: list[int] | None = None
) -> tuple[TimedWord, ...]:
    encoded = ctranslate2.StorageView.from_array(np.zeros((1, 2, 2), np.float32))
    model: Any = SimpleNamespace(model=FakeModel(seed, planted))
    tokenizer: Any = FakeTokenizer()
    (words,) = time_words(model, encoded, tokenizer, [list(text.encode())], [sound], lag_s)
    return words


texts = st.text(max_size=60) | st.lists(
    st.sampled_from(
        [" It's", " 10%", "。", "你好", "สวัสดี", " -", " $5,", "「はい」", "é", " ", "?"]
    )
).map("".join)


@given(texts, st.floats(0.001, 30), st.floats(-0.5, 0.5), st.integers(0, 99))
@settings(deadline=None)
def test_words_hold_the_text_in_order_within_the_chunk(
    text: str, duration_s: float, lag_s: float, seed: int
) -> None:
    sound = np.random.default_rng(seed).random(int(duration_s * RATE_HZ) + 1, np.float32)
    words = timed(text, sound, lag_s, seed)
    assert letters("".join(word.word for word in words)) == letters(text)
    assert all(0 <= w.start < w.end <= len(sound) / RATE_HZ + 1e-9 for w in words)
    assert all(one.end <= other.start + 1e-9 for one, other in pairwise(words))
    assert all(w.score is not None and 0 <= w.score <= 1 for w in words)
    assert {word.timing for word in words} <= {WordTiming.ATTENTION}


@pytest.mark.parametrize("frame", [0, 20, 49])
def test_words_of_one_frame_are_set_side_by_side(frame: int) -> None:
    words = timed("a b c d e", np.ones(RATE_HZ, np.float32), planted=[frame] * 10)
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert all(word.end - word.start >= 0.019 for word in words)


@pytest.mark.parametrize("loud_s", [1.0, 4.0])
def test_a_word_is_where_its_pause_is_not(loud_s: float) -> None:
    sound = np.full(6 * RATE_HZ, 0.001, np.float32)
    sound[int(loud_s * RATE_HZ) : int((loud_s + 0.3) * RATE_HZ)] = 0.5
    (word,) = timed("a", sound, planted=[10, 290])
    assert (word.start, word.end) == pytest.approx((loud_s, loud_s + 0.28), abs=0.03)


def test_punctuation_has_none_of_a_words_time_and_a_lag_is_taken_off() -> None:
    words = timed(
        "“ab, c", np.ones(2 * RATE_HZ, np.float32), 0.1, planted=[0, 1, 2, 10, 15, 20, 40, 50, 60]
    )
    assert [(w.word, w.start, w.end) for w in words] == [
        ("“ab,", pytest.approx(0.1), pytest.approx(0.3)),
        ("c", pytest.approx(0.9), pytest.approx(1.1)),
    ]


@pytest.mark.parametrize(
    ("text", "begins", "words"),
    [
        (" It's 10%, no.", [0, 3, 5, 8, 9, 10, 13], ["It's", "10%,", "no."]),
        (
            "你好。我用iPhone吗",
            [0, 1, 2, 3, 4, 5, 7, 11],
            ["你", "好。", "我", "用", "iPhone", "吗"],
        ),
        ("「はい」と", [0, 1, 2, 3, 4], ["「は", "い」", "と"]),
        ("はい「え」", [0, 1, 2, 3, 4], ["は", "い", "「え」"]),
        ("世界2024年", [0, 2, 4, 6], ["世界", "2024", "年"]),
    ],
)
def test_tokens_divide_words_where_the_script_does_not(
    text: str, begins: list[int], words: list[str]
) -> None:
    assert [text[a:b] for a, b in split_words(text, begins)] == words


def test_words_are_put_on_the_recordings_clock() -> None:
    word = TimedWord("a", 0.5, 1.0004, 0.5, WordTiming.ATTENTION)
    assert shifted([word], 2.0, 3.0) == (TimedWord("a", 2.5, 3.0, 0.5, WordTiming.ATTENTION),)


@given(st.lists(st.text("ab ", min_size=1).filter(str.strip), min_size=1), st.data())
def test_letters_share_the_time_of_their_word(said: list[str], data: st.DataObject) -> None:
    words = [TimedWord(text, i, i + 0.5, 0.5) for i, text in enumerate(said)]
    whole = letters("".join(said))
    first = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(first + 1, len(whole)))
    found = LetterTimes(words).cut(first, stop)
    assert letters("".join(word.word for word in found)) == whole[first:stop]
    assert all(word.start < word.end for word in found)
    assert all(one.end <= other.start for one, other in pairwise(found))
    assert LetterTimes(words).cut(0, len(whole)) == tuple(words)
