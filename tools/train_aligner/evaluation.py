"""How far off are the words? Starts and ends by `whisperx.align`, against known times.

Takes a model folder and either a held-out corpus (every word's time is known) or recordings with
the times of utterances (only the first and last word of each can be judged).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.corpus import SAMPLE_RATE_HZ, Utterance, load_folder, read_recording, to_float32
from tools.train_aligner import corpus
from tools.train_aligner.speech import HELD_OUT_VOICE, Interval

SEGMENT_S = 25.0
"""Utterances are joined into segments of up to this length, as Whisper hands them over."""
MARGIN_S = 0.05
MISSED_S = 10.0
"""What a word that was given no time counts as."""

Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """What Whisper would hand over: a span in seconds and its words."""

    start_s: float
    end_s: float
    words: list[Interval]


@dataclass(frozen=True)
class Row:
    """Errors of one set in seconds: found minus known."""

    name: str
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]

    def __str__(self) -> str:
        """Write the row for a Markdown table: median / 90th percentile in milliseconds."""
        start, end = (
            "{:.0f} / {:.0f}".format(*np.percentile(np.abs(errors) * 1000, (50, 90)))
            for errors in (self.starts, self.ends)
        )
        near = f"{np.mean(np.abs(self.starts) < 0.1):.1%}"
        return f"| {self.name} | {len(self.starts)} | {start} | {end} | {near} |"


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

    def align(self, sound: Sound, segment: Segment) -> list[Interval]:
        """Return the segment's words with their times; infinite where none was found."""
        text = " ".join(word.label for word in segment.words)
        request = {"start": segment.start_s, "end": segment.end_s, "text": text}
        result: dict[str, Any] = self._align([request], self.model, self._metadata, sound, "cpu")
        found = [
            Interval(w["word"], w.get("start", np.inf), w.get("end", np.inf))
            for w in result["word_segments"]
        ]
        if [w.label for w in found] != text.split():
            raise ValueError(f"words were lost or moved in {text!r}")
        return found


def measure(name: str, aligner: Aligner, sound: Sound, segments: Iterable[Segment]) -> Row:
    """Align segments of one recording and compare words of known time."""
    errors = []
    for segment in segments:
        for known, ours in zip(segment.words, aligner.align(sound, segment), strict=True):
            errors.append((ours.start_s - known.start_s, ours.end_s - known.end_s))
    columns = (column[~np.isnan(column)] for column in np.array(errors).T)
    return Row(name, *(np.nan_to_num(column, posinf=MISSED_S) for column in columns))


def evaluate_corpus(folder: Path, utterances: list[corpus.Utterance]) -> list[Row]:
    """Measure on held-out speech: training voices, the held-out voice, eSpeak."""
    aligner = Aligner(folder)
    usable = sorted((u for u in utterances if u.words), key=_voice_set)
    return [
        measure(name, aligner, *_converse(list(group)))
        for name, group in groupby(usable, key=_voice_set)
    ]


def evaluate_recordings(folder: Path, recordings: Path) -> list[Row]:
    """Measure the first word's start and the last word's end of each utterance in a folder."""
    aligner, rows = Aligner(folder), []
    for reference in load_folder(recordings):
        sound = to_float32(read_recording(reference.audio))
        segments = _segments(map(_known_edges, reference.utterances))
        rows.append(measure(f"{reference.name}, reference text", aligner, sound, segments))
    return rows


def _voice_set(utterance: corpus.Utterance) -> str:
    if utterance.voice == HELD_OUT_VOICE:
        return f"flite {HELD_OUT_VOICE}, voice and sentences new"
    return ("espeak-ng" if "+" in utterance.voice else "flite, training voices") + ", sentences new"


def _converse(utterances: list[corpus.Utterance]) -> tuple[Sound, list[Segment]]:
    """Join utterances into one recording with pauses and faint noise, and cut its segments."""
    rng = np.random.default_rng(1)
    parts, at_s, spoken = [np.zeros(SAMPLE_RATE_HZ // 2, np.float32)], 0.5, []
    for utterance in utterances:
        first_s = max(0.0, utterance.words[0].start_s - MARGIN_S)
        last_s = utterance.words[-1].end_s + MARGIN_S
        samples = slice(int(first_s * SAMPLE_RATE_HZ), int(last_s * SAMPLE_RATE_HZ))
        sound = utterance.waveform[samples].astype(np.float32)
        by_s = at_s - first_s
        spoken.append(
            [Interval(w.label, w.start_s + by_s, w.end_s + by_s) for w in utterance.words]
        )
        pause = np.zeros(int(rng.uniform(0.15, 0.9) * SAMPLE_RATE_HZ), np.float32)
        parts += [sound / np.abs(sound).max() * 0.7, pause]
        at_s += (len(sound) + len(pause)) / SAMPLE_RATE_HZ
    whole = np.concatenate(parts)
    noise = rng.normal(0, 15 / 32768, len(whole))
    return (whole + noise).astype(np.float32), list(_segments(spoken))


def _known_edges(utterance: Utterance) -> list[Interval]:
    """Know when an utterance starts and ends, and nothing of the words between."""
    words = utterance.text.split()
    unknown = [np.nan] * (len(words) - 1)
    starts, ends = [utterance.start, *unknown], [*unknown, utterance.end]
    return list(map(Interval, words, starts, ends))


def _segments(spoken: Iterable[list[Interval]]) -> Iterator[Segment]:
    """Pack utterances into segments of at most `SEGMENT_S`."""
    words: list[Interval] = []
    for utterance in [*spoken, []]:
        if words and (not utterance or utterance[-1].end_s - words[0].start_s > SEGMENT_S):
            yield Segment(words[0].start_s - MARGIN_S, words[-1].end_s + MARGIN_S, words)
            words = []
        words = [*words, *utterance]
