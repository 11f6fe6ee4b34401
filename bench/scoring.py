"""How good a transcript is: WER, cpWER, DER, number of speakers, times of first words.

Takes a `Reference`, a `Hypothesis` and the recording's length; returns a `Score`. Words are
compared as Whisper's English normaliser writes them, so that rates are comparable with published
ones: numbers as figures, contractions written out, American spelling, hesitations left out. Its
spelling map, english_spellings.json, comes from openai-whisper 20250625 (MIT).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
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


MATCH_S = 1.5
"""A word is recognised where it was said: so far from its true start at most."""


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
    """

    words: int
    edits: int
    cp_edits: int
    matched: int
    right: int
    segments: int
    mixed: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Score:
    """How one recording came out; rates are parts of one, times are seconds.

    Attributes:
        wer: Word error rate over the recording in order of time.
        cpwer: Concatenated minimum-permutation WER (CHiME-6): wrong speakers count too.
        der: Diarization error rate, overlap included, collar `COLLAR_S`.
        der_no_collar: The same without a collar.
        speakers_found: Speakers in the transcript.
        speakers_true: Speakers in the reference.
        first_words: Utterances whose first word was recognised and timed.
        first_word_median_s: Median error of those words' starts; None without any.
        first_word_p90_s: 90th percentile of the same.
        counts: What the first two are made of, and more.
    """

    wer: float
    cpwer: float
    der: float
    der_no_collar: float
    speakers_found: int
    speakers_true: int
    first_words: int
    first_word_median_s: float | None
    first_word_p90_s: float | None
    counts: Counts


def score(
    reference: Reference,
    hypothesis: Hypothesis,
    duration_s: float,
    turns: Sequence[Turn] | None = None,
) -> Score:
    """Score one recording: what was recognised against what was really said.

    Args:
        reference: What was really said.
        hypothesis: What was recognised.
        duration_s: The recording's length: all of it is scored.
        turns: The diarizer's own turns; None takes them from the words of the transcript.
    """
    found = hypothesis.turns() if turns is None else turns
    counts = count(reference, hypothesis)
    errors_s = first_word_errors(reference.utterances, hypothesis.words)
    return Score(
        wer=counts.edits / counts.words,
        cpwer=counts.cp_edits / counts.words,
        der=diarization_error(reference.turns, found, duration_s, COLLAR_S),
        der_no_collar=diarization_error(reference.turns, found, duration_s, 0.0),
        speakers_found=len({turn.speaker for turn in found} | hypothesis.speakers),
        speakers_true=len(reference.speakers),
        first_words=len(errors_s),
        first_word_median_s=float(np.median(errors_s)) if errors_s else None,
        first_word_p90_s=float(np.percentile(errors_s, 90)) if errors_s else None,
        counts=counts,
    )


def count(reference: Reference, hypothesis: Hypothesis) -> Counts:
    """Count what is right and wrong in one recording."""
    spoken = normalise(" ".join(utterance.text for utterance in reference.utterances))
    both = reference.text_by_speaker(), hypothesis.text_by_speaker()
    by_speaker = ([normalise(text) for text in texts.values()] for texts in both)
    pairs = speakers_of_matches(reference.words, hypothesis.words)
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
    )


def speakers_of_matches(
    spoken: Sequence[SpokenWord], heard: Sequence[SpokenWord]
) -> list[tuple[str | None, str | None]]:
    """Return who said each recognised word, and who is said to: true and found speaker."""
    ours, theirs = (_tokens([word.text for word in words]) for words in (spoken, heard))
    matches = _matches([token for token, _ in ours], [token for token, _ in theirs])
    pairs = [(spoken[ours[i][1]], heard[theirs[j][1]]) for i, j in matches.items()]
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

    Returns:
        The edits, summed over speakers.
    """
    size = max(len(reference), len(hypothesis))
    rows = [*reference, *([()] * (size - len(reference)))]
    columns = [*hypothesis, *([()] * (size - len(hypothesis)))]
    costs = np.array([[edits(row, column) for column in columns] for row in rows])
    return int(costs[linear_sum_assignment(costs)].sum()) if size else 0


def diarization_error(
    reference: Iterable[Turn], hypothesis: Iterable[Turn], duration_s: float, collar_s: float
) -> float:
    """Measure DER over the whole recording with overlapped speech included (pyannote.metrics)."""
    metric = DiarizationErrorRate(collar=collar_s, skip_overlap=False)
    whole = Timeline([Segment(0.0, duration_s)])
    return float(metric(_annotation(reference), _annotation(hypothesis), uem=whole))


def first_word_errors(utterances: Sequence[Utterance], words: Sequence[SpokenWord]) -> list[float]:
    """Measure how far the first words of utterances are from where these start.

    Both sides are normalised word by word, since a word's time is lost where the normaliser
    makes one number of several words.

    Returns:
        Absolute errors in seconds, of those first words that were recognised and timed.
    """
    spoken = [_tokens(utterance.text.split()) for utterance in utterances]
    heard = _tokens([word.text for word in words])
    match = _matches([token for tokens in spoken for token, _ in tokens], [t for t, _ in heard])
    errors_s: list[float] = []
    position = 0
    for utterance, tokens in zip(utterances, spoken, strict=True):
        found = match.get(position) if tokens else None
        position += len(tokens)
        start_s = words[heard[found][1]].start_s if found is not None else None
        if start_s is not None:
            errors_s.append(abs(start_s - utterance.start))
    return errors_s


def _tokens(words: Sequence[str]) -> list[tuple[str, int]]:
    """Normalise each word by itself; return tokens with the index of the word they are from."""
    return [(token, index) for index, word in enumerate(words) for token in normalise(word)]


def _matches(reference: Sequence[str], hypothesis: Sequence[str]) -> dict[int, int]:
    """Pair the words that are equal in the best alignment: index of one to index of the other."""
    output = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return {
        chunk.ref_start_idx + offset: chunk.hyp_start_idx + offset
        for chunk in output.alignments[0]
        if chunk.type == "equal"
        for offset in range(chunk.ref_end_idx - chunk.ref_start_idx)
    }


def _annotation(turns: Iterable[Turn]) -> Annotation:
    """Build pyannote's annotation; one track a turn, as turns of two speakers may coincide."""
    annotation = Annotation()
    for track, turn in enumerate(turns):
        annotation[Segment(turn.start_s, turn.end_s), track] = turn.speaker
    return annotation
