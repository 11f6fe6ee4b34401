"""Whether ours is the same transcript as stock's, on the same weights.

Takes two `Heard`s; returns a `Parity`. What stock leaves without a time (ours spreads such words
over their segment) is counted apart, because there is no time to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from bench.corpus import SpokenWord, Turn
from bench.scoring import diarization_error

SAME_TIME_S = 0.001


@dataclass(frozen=True)
class Heard:
    """One recording as one side heard it.

    Attributes:
        segments: What Whisper said, a text for each of its chunks.
        sentences: What alignment made of them.
        words: In order.
        turns: The diarizer's.
        language: As detected.
    """

    segments: tuple[str, ...]
    sentences: tuple[str, ...]
    words: tuple[SpokenWord, ...]
    turns: tuple[Turn, ...]
    language: str | None


@dataclass(frozen=True)
class Parity:
    """How far ours is from stock.

    Attributes:
        text_equal: Every chunk's text is equal.
        sentences_equal: Every sentence's text is equal.
        words: Words of stock.
        words_equal: Share of these that ours has with the same text, within `SAME_TIME_S`.
        largest_shift_s: Largest difference of a start or an end, over words with equal text.
        untimed_words: Words that stock left without a time; not in the two figures above.
        speakers_equal: Share of stock's words whose speaker label is equal.
        der: Of our diarizer's turns against stock's, no collar.
        speakers: How many ours found.
        stock_speakers: How many stock found.
        language_equal: The same language was detected.
    """

    text_equal: bool
    sentences_equal: bool
    words: int
    words_equal: float
    largest_shift_s: float
    untimed_words: int
    speakers_equal: float
    der: float
    speakers: int
    stock_speakers: int
    language_equal: bool


def compare(ours: Heard, stock: Heard, duration_s: float) -> Parity:
    """Compare one recording; all of its `duration_s` counts for DER."""
    pairs = _pairs(ours.words, stock.words)
    timed = [(our, their) for our, their in pairs if None not in (their.start_s, their.end_s)]
    shifts = [_shift_s(our, their) for our, their in timed]
    untimed = sum(word.start_s is None or word.end_s is None for word in stock.words)
    comparable = len(stock.words) - untimed
    equal = sum(shift <= SAME_TIME_S + 1e-9 for shift in shifts)
    same_speaker = sum(our.speaker == their.speaker for our, their in pairs)
    return Parity(
        text_equal=ours.segments == stock.segments,
        sentences_equal=ours.sentences == stock.sentences,
        words=len(stock.words),
        words_equal=_share(equal, comparable),
        largest_shift_s=round(max(shifts, default=0.0), 4),
        untimed_words=untimed,
        speakers_equal=_share(same_speaker, len(stock.words)),
        der=round(diarization_error(stock.turns, ours.turns, duration_s, 0.0), 6),
        speakers=len({turn.speaker for turn in ours.turns}),
        stock_speakers=len({turn.speaker for turn in stock.turns}),
        language_equal=ours.language == stock.language,
    )


def _pairs(
    ours: Sequence[SpokenWord], stock: Sequence[SpokenWord]
) -> list[tuple[SpokenWord, SpokenWord]]:
    """Pair the words with equal text, in order."""
    texts = [word.text for word in ours], [word.text for word in stock]
    blocks = SequenceMatcher(None, *texts, autojunk=False).get_matching_blocks()
    return [(ours[b.a + i], stock[b.b + i]) for b in blocks for i in range(b.size)]


def _shift_s(our: SpokenWord, their: SpokenWord) -> float:
    if our.start_s is None or our.end_s is None or their.start_s is None or their.end_s is None:
        return float("inf")
    return max(abs(our.start_s - their.start_s), abs(our.end_s - their.end_s))


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 1.0
