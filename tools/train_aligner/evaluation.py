"""How far off are the words? Starts and ends by `whisperx.align`, against known times.

Takes a model folder and either a held-out corpus (every word's time is known) or recordings
with the times of utterances (only the first and last word of each can be judged). Beside each
row stands the naive baseline: the words of a segment spread over it by their length.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.corpus import read_recording
from tools.train_aligner.corpus import TimedWord, Utterance
from tools.train_aligner.speech import HELD_OUT_VOICE, SAMPLE_RATE_HZ

SEGMENT_S = 25.0
"""Utterances are joined into segments of up to this length, as Whisper hands them over."""
MARGIN_S = 0.05
MISSED_S = 10.0
"""What a word that was given no time counts as."""

Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """What Whisper would hand over: a span and its words; NaN where a time is not known."""

    start_s: float
    end_s: float
    words: tuple[TimedWord, ...]


@dataclass(frozen=True)
class Row:
    """Errors of one set in seconds: found minus known, by our model and by the baseline."""

    name: str
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    naive_starts: NDArray[np.float64]


class Aligner:
    """`whisperx.align` with the model of a folder; the sentence splitter is an untrained one."""

    def __init__(self, folder: Path) -> None:
        import whisperx.alignment as alignment
        from nltk.tokenize.punkt import PunktSentenceTokenizer

        alignment.nltk_load = lambda _: PunktSentenceTokenizer()
        self._align = alignment.align
        self.model, self._metadata = alignment.load_align_model(
            "en", "cpu", model_name=str(folder), model_cache_only=True
        )

    def align(self, sound: Sound, segment: Segment) -> list[TimedWord]:
        """Return the segment's words with the times that were found."""
        text = " ".join(word.word for word in segment.words)
        request = {"start": segment.start_s, "end": segment.end_s, "text": text}
        result: dict[str, Any] = self._align([request], self.model, self._metadata, sound, "cpu")
        found = [
            TimedWord(w["word"], w.get("start", np.nan), w.get("end", np.nan))
            for w in result["word_segments"]
        ]
        if [w.word for w in found] != text.split():
            raise ValueError(f"words were lost or moved in {text!r}")
        return found


def spread(segment: Segment) -> list[TimedWord]:
    """Spread a segment's words over it by their number of letters: the naive baseline."""
    lengths = np.array([len(word.word) + 1 for word in segment.words])
    edges = np.concatenate([[0], np.cumsum(lengths)]) / (lengths.sum() - 1)
    times = segment.start_s + edges * (segment.end_s - segment.start_s)
    return [TimedWord(w.word, times[i], times[i + 1]) for i, w in enumerate(segment.words)]


def measure(name: str, aligner: Aligner, sound: Sound, segments: Iterable[Segment]) -> Row:
    """Align segments of one recording and compare words of known time."""
    errors = []
    for segment in segments:
        found = aligner.align(sound, segment)
        for known, ours, naive in zip(segment.words, found, spread(segment), strict=True):
            start, end = _error(ours.start_s, known.start_s), _error(ours.end_s, known.end_s)
            errors.append((start, end, naive.start_s - known.start_s))
    starts, ends, naive_starts = (column[np.isfinite(column)] for column in np.array(errors).T)
    return Row(name, starts, ends, naive_starts)


def _error(found_s: float, known_s: float) -> float:
    return MISSED_S if np.isnan(found_s) and np.isfinite(known_s) else found_s - known_s


def evaluate_corpus(folder: Path, utterances: list[Utterance]) -> list[Row]:
    """Measure on held-out speech: training voices, the held-out voice, eSpeak."""
    aligner = Aligner(folder)
    usable = sorted((u for u in utterances if u.words), key=_voice_set)
    return [
        measure(name, aligner, *_converse(list(group)))
        for name, group in groupby(usable, key=_voice_set)
    ]


def evaluate_recordings(folder: Path, references: list[Path]) -> list[Row]:
    """Measure the first word's start and the last word's end of each utterance.

    Args:
        folder: The model folder.
        references: `NAME.ref.json` files beside `NAME.flac`: start, end and text of utterances.
    """
    aligner, rows = Aligner(folder), []
    for path in references:
        name = path.name.removesuffix(".ref.json")
        recording = read_recording(path.with_name(name + ".flac"))
        sound = np.asarray(recording / 32768, dtype=np.float32)
        spoken = map(_known_edges, json.loads(path.read_text(encoding="utf-8")))
        rows.append(measure(f"{name}, reference text", aligner, sound, _segments(spoken)))
    return rows


def format_table(rows: list[Row]) -> str:
    """Format rows as a Markdown table of milliseconds, median / 90th percentile."""
    lines = ["| set | words | start | end | start within 100 ms | naive start |", "|---" * 6 + "|"]
    for row in rows:
        errors = (row.starts, row.ends, row.naive_starts)
        start, end, naive = (
            "{:.0f} / {:.0f}".format(*np.percentile(np.abs(e) * 1000, (50, 90))) for e in errors
        )
        near = f"{np.mean(np.abs(row.starts) < 0.1):.1%}"
        lines.append(f"| {row.name} | {len(row.starts)} | {start} | {end} | {near} | {naive} |")
    return "\n".join(lines)


def _voice_set(utterance: Utterance) -> str:
    if utterance.voice == HELD_OUT_VOICE:
        return f"flite {HELD_OUT_VOICE}, voice and sentences new"
    espeak = "+" in utterance.voice
    return f"{'espeak-ng' if espeak else 'flite, training voices'}, sentences new"


def _converse(utterances: list[Utterance]) -> tuple[Sound, list[Segment]]:
    """Join utterances into one recording with pauses and faint noise, and cut its segments."""
    rng = np.random.default_rng(1)
    parts, at_s, spoken = [np.zeros(SAMPLE_RATE_HZ // 2, np.float32)], 0.5, []
    for utterance in utterances:
        first_s = max(0.0, utterance.words[0].start_s - MARGIN_S)
        last_s = utterance.words[-1].end_s + MARGIN_S
        samples = slice(int(first_s * SAMPLE_RATE_HZ), int(last_s * SAMPLE_RATE_HZ))
        sound = utterance.waveform[samples].astype(np.float32)
        by_s = at_s - first_s
        shifted = [TimedWord(w.word, w.start_s + by_s, w.end_s + by_s) for w in utterance.words]
        spoken.append(shifted)
        pause = np.zeros(int(rng.uniform(0.15, 0.9) * SAMPLE_RATE_HZ), np.float32)
        parts += [sound / np.abs(sound).max() * 0.7, pause]
        at_s += (len(sound) + len(pause)) / SAMPLE_RATE_HZ
    whole = np.concatenate(parts)
    noise = rng.normal(0, 15 / 32768, len(whole))
    return (whole + noise).astype(np.float32), list(_segments(spoken))


def _known_edges(utterance: dict[str, Any]) -> list[TimedWord]:
    """Know when an utterance starts and ends, and nothing of the words between."""
    words = utterance["text"].split()
    starts = [utterance["start"], *[np.nan] * (len(words) - 1)]
    ends = [*[np.nan] * (len(words) - 1), utterance["end"]]
    return [TimedWord(*word) for word in zip(words, starts, ends, strict=True)]


def _segments(spoken: Iterable[list[TimedWord]]) -> Iterator[Segment]:
    """Pack utterances into segments of at most `SEGMENT_S`."""
    words: list[TimedWord] = []
    for utterance in [*spoken, []]:
        if words and (not utterance or utterance[-1].end_s - words[0].start_s > SEGMENT_S):
            yield Segment(words[0].start_s - MARGIN_S, words[-1].end_s + MARGIN_S, tuple(words))
            words = []
        words = [*words, *utterance]
