"""How good a transcript is, or how like another: errors in words, speakers and turns, counted.

Takes a `Reference`, a `Hypothesis` and the recording's length; returns `Counts`. Their words are
compared as Whisper's English normaliser writes them, so that rates are comparable with published
ones: numbers as figures, contractions written out, American spelling, hesitations left out. Its
spelling map, english_spellings.json, comes from openai-whisper 20250625 (MIT).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate
from scipy.optimize import linear_sum_assignment

from bench.corpus import Hypothesis, Reference, SpokenWord, Turn, Utterance

SPELLINGS = Path(__file__).parent / "english_spellings.json"
MATCH_S = 1.5
"""A word is recognised where it was said: so far from its true start at most."""
SAME_TIME_S = 0.001
COLLAR_S = 0.25
"""As pyannote.metrics counts: 0.125 s on either side of each boundary of the reference."""


@cache
def _normaliser() -> Any:
    """Build it once; its import takes seconds."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer(json.loads(SPELLINGS.read_text()))


def normalise(text: str) -> list[str]:
    """Normalise a text to the words that are compared."""
    words: list[str] = _normaliser()(text).split()
    return words


@dataclass(frozen=True)
class Counts:
    """What the rates of a recording, or of several together, are made of.

    Attributes:
        words: Said.
        edits: Of the text in order of time.
        cp_edits: Of the texts by speaker.
        matched: Words that were recognised where they were said.
        right: Those of them whose speaker is right, under the best naming of speakers.
        segments: In the transcript.
        mixed: Segments in which words of two speakers stand.
        sentences: Said: at least one an utterance; 0: not counted.
        speech_s: What `wrong_s` is a part of; 0: not measured.
        wrong_s: DER's numerator, overlap included, collar `COLLAR_S`.
        speakers_true: Who speak; 0: not counted.
        speakers_found: Whom the transcript has.
    """

    words: int
    edits: int
    cp_edits: int
    matched: int
    right: int
    segments: int
    mixed: int
    sentences: int = 0
    speech_s: float = 0.0
    wrong_s: float = 0.0
    speakers_true: int = 0
    speakers_found: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def count(reference: Reference, hypothesis: Hypothesis, duration_s: float) -> Counts:
    """Count what is right and wrong in one recording, all of whose `duration_s` counts."""
    spoken = normalise(" ".join(utterance.text for utterance in reference.utterances))
    both = reference.text_by_speaker(), hypothesis.text_by_speaker()
    by_speaker = ([normalise(text) for text in texts.values()] for texts in both)
    pairs = speakers_of_matches(reference.words, hypothesis.words)
    turns = hypothesis.turns()
    der, speech_s = diarization_error(reference.turns, turns, duration_s, COLLAR_S)
    segments: dict[int, set[str | None]] = {}
    for word in hypothesis.words:
        segments.setdefault(word.segment, set()).add(word.speaker)
    return Counts(
        words=len(spoken),
        edits=edits(spoken, normalise(hypothesis.text)),
        cp_edits=cp_edits(*by_speaker),
        matched=len(pairs),
        right=best_naming(pairs),
        segments=len(segments),
        mixed=sum(len(speakers) > 1 for speakers in segments.values()),
        sentences=count_sentences(reference.utterances),
        speech_s=speech_s,
        wrong_s=der * speech_s,
        speakers_true=len(reference.speakers),
        speakers_found=len({turn.speaker for turn in turns} | hypothesis.speakers),
    )


def count_sentences(utterances: Iterable[Utterance]) -> int:
    """Count the ends of sentences in each utterance; one that has none is one sentence."""
    return sum(max(1, len(re.findall(r"[.?!]+(?=\s|$)", said.text))) for said in utterances)


def speakers_of_matches(
    spoken: Sequence[SpokenWord], heard: Sequence[SpokenWord]
) -> list[tuple[str | None, str | None]]:
    """Return who said each recognised word, and who is said to: true and found speaker."""
    ours, theirs = (_tokens([word.text for word in words]) for words in (spoken, heard))
    matches = _matches([token for token, _ in ours], [token for token, _ in theirs])
    pairs = [(spoken[ours[i][1]], heard[theirs[j][1]]) for i, j in matches]
    return [(said.speaker, got.speaker) for said, got in pairs if _is_near(said, got)]


def _is_near(said: SpokenWord, heard: SpokenWord) -> bool:
    if said.start_s is None or heard.start_s is None:
        return True
    return abs(said.start_s - heard.start_s) <= MATCH_S


def best_naming(pairs: Iterable[tuple[str | None, str | None]]) -> int:
    """Count the pairs of true and found speaker that agree under the best one-to-one naming."""
    votes = Counter(pairs)
    true, found = (sorted({str(pair[i]) for pair in votes}) for i in (0, 1))
    table = np.zeros((len(true), len(found)), np.int64)
    for (speaker, name), number in votes.items():
        table[true.index(str(speaker)), found.index(str(name))] += number
    return int(table[linear_sum_assignment(table, maximize=True)].sum())


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Count the fewest words to substitute, delete and insert."""
    if not reference:  # jiwer counts one error for any text against an empty one
        return len(hypothesis)
    output = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return int(output.substitutions + output.deletions + output.insertions)


def cp_edits(reference: Sequence[Sequence[str]], hypothesis: Sequence[Sequence[str]]) -> int:
    """Count the edits under the best assignment of found speakers to true ones.

    Speakers beyond the other side's number are matched with silence, so missed speakers are all
    deletions and invented ones all insertions (cpWER, Watanabe et al. 2020, arXiv:2004.09249).
    A minimum over permutations of a sum of pairs is a linear assignment.
    """
    size = max(len(reference), len(hypothesis))
    rows = [*reference, *([()] * (size - len(reference)))]
    columns = [*hypothesis, *([()] * (size - len(hypothesis)))]
    costs = np.array([[edits(row, column) for column in columns] for row in rows])
    return int(costs[linear_sum_assignment(costs)].sum()) if size else 0


def diarization_error(
    reference: Iterable[Turn], hypothesis: Iterable[Turn], duration_s: float, collar_s: float
) -> tuple[float, float]:
    """Measure DER over the whole recording with overlapped speech included (pyannote.metrics).

    Returns:
        The rate, and the seconds of speech that it is of.
    """
    metric = DiarizationErrorRate(collar=collar_s, skip_overlap=False)
    whole = Timeline([Segment(0.0, duration_s)])
    found = metric(annotation(reference), annotation(hypothesis), uem=whole, detailed=True)
    return float(found["diarization error rate"]), float(found["total"])


def _tokens(words: Sequence[str]) -> list[tuple[str, int]]:
    """Normalise each word by itself; return tokens with the index of the word they are from."""
    return [(token, index) for index, word in enumerate(words) for token in normalise(word)]


def _matches(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[int, int]]:
    """Pair the indexes of words that are equal in the best alignment."""
    output = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return [
        (chunk.ref_start_idx + offset, chunk.hyp_start_idx + offset)
        for chunk in output.alignments[0]
        if chunk.type == "equal"
        for offset in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]


def annotation(turns: Iterable[Turn]) -> Annotation:
    """Build pyannote's annotation; one track a turn, as turns of two speakers may coincide."""
    tracks = Annotation()
    for track, turn in enumerate(turns):
        tracks[Segment(turn.start_s, turn.end_s), track] = turn.speaker
    return tracks


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
