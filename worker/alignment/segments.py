"""One segment: its text, its slice of the waveform, and where the emission puts its words."""

from __future__ import annotations

import numpy as np
import torch

from worker.alignment.ctc import Emission, TokenPath, find_path
from worker.alignment.labels import UNKNOWN, Alphabet, Characters, Labels
from worker.alignment.sentences import split_sentences
from worker.alignment.timing import CharacterTimes, PlacedSentence, Times, place_sentences
from worker.values import SAMPLE_RATE_HZ, TextSegment, Waveform


def slice_of(waveform: Waveform, segment: TextSegment) -> slice | None:
    """Return the segment's samples, or None where it begins after the waveform's end."""
    if segment.start >= waveform.duration_s:
        return None
    return slice(int(segment.start * SAMPLE_RATE_HZ), int(segment.end * SAMPLE_RATE_HZ))


def place_segment(
    segment: TextSegment, characters: Characters, emission: Emission, alphabet: Alphabet
) -> list[PlacedSentence]:
    """Return the segment's sentences in order of time; none where its text cannot be placed.

    Text may be missing, as it is in whisperx: where a sentence has no times, and where there are
    fewer frames than characters.

    Args:
        segment: Text and times.
        characters: Of its text, at least one.
        emission: Of its samples, shape (n_frames, n_labels).
        alphabet: The aligner's labels.
    """
    emission, tokens = _with_wildcard(emission, characters.tokens, alphabet.blank)
    path = find_path(emission, tokens, alphabet.blank)
    if path is None:
        return []
    times = _character_times(segment, path, characters, len(emission))
    spans = split_sentences(segment.text, alphabet.language)
    return place_sentences(segment.text, spans, times, alphabet.has_spaces)


def _with_wildcard(emission: Emission, tokens: Labels, blank: int) -> tuple[Emission, Labels]:
    """Give unknown characters a label: as probable as the most probable that is not the blank."""
    unknown = tokens == UNKNOWN
    if not unknown.any():
        return emission, tokens
    best = np.delete(emission, blank, axis=1).max(axis=1, keepdims=True)
    n_labels = emission.shape[1]
    return np.concatenate([emission, best], axis=1), np.where(unknown, n_labels, tokens)


def _character_times(
    segment: TextSegment, path: TokenPath, characters: Characters, n_frames: int
) -> CharacterTimes:
    """Return each character's times and score.

    The probabilities come from torch's ``exp``, and are added up by Python, as in whisperx:
    NumPy's ``exp`` differs in the last bit of four numbers out of ten.
    """
    frame_s = (segment.end - segment.start) / n_frames
    bounds: list[int] = path.bounds.tolist()
    first = bounds[0]
    probabilities: list[float] = torch.exp(torch.from_numpy(path.log_probabilities)).tolist()
    empty: Times = [None] * len(segment.text)
    times = CharacterTimes(empty, empty.copy(), empty.copy())
    for k, position in enumerate(characters.positions):
        start, end = bounds[k], bounds[k + 1]
        score = sum(probabilities[start - first : end - first]) / (end - start)
        times.starts[position] = round(start * frame_s + segment.start, 3)
        times.ends[position] = round(end * frame_s + segment.start, 3)
        times.scores[position] = round(score, 3)
    return times
