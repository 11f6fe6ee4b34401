"""Whether ours is the same transcript as stock's, on the same weights.

Takes two `Hypothesis`es; returns figures. What stock leaves without a time (ours spreads such words
over their segment) is counted apart, because there is no time to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from bench.corpus import Hypothesis, SpokenWord
from bench.scoring import diarization_error

SAME_TIME_S = 0.001


def compare(ours: Hypothesis, stock: Hypothesis, duration_s: float) -> dict[str, Any]:
    """Compare one recording; all of its `duration_s` counts for DER.

    Returns:
        ``words`` that stock has, ``untimed_words`` that it left without a time; of the others
        ``words_equal``, the share that ours has with the same text within `SAME_TIME_S`, and
        ``largest_shift_s`` of a start or an end over words with equal text; ``speakers_equal``,
        the share of all words; ``der`` of the turns of our words against those of stock's, no
        collar; the rest says what is equal.
    """
    pairs = _pairs(ours.words, stock.words)
    timed = [(our, their) for our, their in pairs if None not in (their.start_s, their.end_s)]
    shifts = [_shift_s(our, their) for our, their in timed]
    untimed = sum(word.start_s is None or word.end_s is None for word in stock.words)
    equal = sum(shift <= SAME_TIME_S + 1e-9 for shift in shifts)
    same_speaker = sum(our.speaker == their.speaker for our, their in pairs)
    our_sentences, their_sentences = ([w.segment for w in side.words] for side in (ours, stock))
    return {
        "text_equal": ours.text == stock.text,
        "sentences_equal": our_sentences == their_sentences,
        "words": len(stock.words),
        "words_equal": _share(equal, len(stock.words) - untimed),
        "largest_shift_s": round(max(shifts, default=0.0), 4),
        "untimed_words": untimed,
        "speakers_equal": _share(same_speaker, len(stock.words)),
        "der": round(diarization_error(stock.turns(), ours.turns(), duration_s, 0.0)[0], 6),
    }


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
