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

import av
import numpy as np
from numpy.typing import NDArray

from tools.train_aligner.corpus import TimedWord, Utterance
from tools.train_aligner.flite import HELD_OUT_VOICE
from tools.train_aligner.speech import SAMPLE_RATE_HZ

SEGMENT_S = 25.0
"""Utterances are joined into segments of up to this length, as Whisper hands them over."""
MARGIN_S = 0.05
MISSED_S = 10.0

Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """What Whisper would hand over: a span and its words; NaN where a time is not known."""

    start_s: float
    end_s: float
    words: tuple[TimedWord, ...]

    @property
    def text(self) -> str:
        """The words as written."""
        return " ".join(word.word for word in self.words)


@dataclass(frozen=True)
class Row:
    """Errors of one set in seconds: found minus known, by our model and by the baseline."""

    name: str
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    naive_starts: NDArray[np.float64]


class Aligner:
    """`whisperx.align` with one model; the sentence splitter is an untrained one.

    Args:
        folder: The model folder.
    """

    def __init__(self, folder: Path) -> None:
        import whisperx.alignment as alignment
        from nltk.tokenize.punkt import PunktSentenceTokenizer

        alignment.nltk_load = lambda _: PunktSentenceTokenizer()
        self._align = alignment.align
        self._model, self._metadata = alignment.load_align_model(
            "en", "cpu", model_name=str(folder), model_cache_only=True
        )

    def align(self, sound: Sound, segment: Segment) -> list[TimedWord]:
        """Return the segment's words with the times that were found."""
        request = {"start": segment.start_s, "end": segment.end_s, "text": segment.text}
        result: dict[str, Any] = self._align([request], self._model, self._metadata, sound, "cpu")
        found = [
            TimedWord(w["word"], w.get("start", np.nan), w.get("end", np.nan))
            for w in result["word_segments"]
        ]
        if [w.word for w in found] != segment.text.split():
            raise ValueError(f"words were lost or moved in {segment.text!r}")
        return found


def spread(segment: Segment) -> list[TimedWord]:
    """Spread a segment's words over it by their number of letters: the naive baseline."""
    lengths = np.array([len(word.word) + 1 for word in segment.words])
    edges = np.concatenate([[0], np.cumsum(lengths)]) / (lengths.sum() - 1)
    times = segment.start_s + edges * (segment.end_s - segment.start_s)
    return [TimedWord(w.word, times[i], times[i + 1]) for i, w in enumerate(segment.words)]


def measure(name: str, aligner: Aligner, sound: Sound, segments: Iterable[Segment]) -> Row:
    """Align segments of one recording and compare words of known time."""
    starts, ends, naive = list[float](), list[float](), list[float]()
    for segment in segments:
        found = aligner.align(sound, segment)
        for known, ours, theirs in zip(segment.words, found, spread(segment), strict=True):
            if np.isfinite(known.start_s):
                starts.append(_error(ours.start_s, known.start_s))
                naive.append(theirs.start_s - known.start_s)
            if np.isfinite(known.end_s):
                ends.append(_error(ours.end_s, known.end_s))
    return Row(name, np.array(starts), np.array(ends), np.array(naive))


def _error(found_s: float, known_s: float) -> float:
    """Return the error; a word that was given no time counts as far off."""
    return found_s - known_s if np.isfinite(found_s) else MISSED_S


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
    aligner = Aligner(folder)
    return [
        measure(
            f"{path.name.split('.')[0]}, utterance starts, reference text",
            aligner,
            _read(path.with_name(path.name.replace(".ref.json", ".flac"))),
            _segments(map(_known_edges, json.loads(path.read_text(encoding="utf-8")))),
        )
        for path in references
    ]


def format_table(rows: list[Row]) -> str:
    """Format rows as a Markdown table of milliseconds, median / 90th percentile."""
    header = "| set | words | start | end | start within 100 ms | naive start |"
    return "\n".join([header, "|---|---|---|---|---|---|", *map(_format_row, rows)])


def _format_row(row: Row) -> str:
    near = np.mean(np.abs(row.starts) < 0.1)
    columns = (row.name, len(row.starts), _spread_ms(row.starts), _spread_ms(row.ends))
    return (
        "| " + " | ".join(map(str, (*columns, f"{near:.1%}", _spread_ms(row.naive_starts)))) + " |"
    )


def _spread_ms(errors_s: NDArray[np.float64]) -> str:
    median, p90 = np.percentile(np.abs(errors_s) * 1000, (50, 90))
    return f"{median:.0f} / {p90:.0f}"


def _voice_set(utterance: Utterance) -> str:
    if utterance.voice == HELD_OUT_VOICE:
        return f"flite {HELD_OUT_VOICE}, voice and sentences new"
    if "+" in utterance.voice:
        return "espeak-ng, sentences new"
    return "flite, training voices, sentences new"


def _converse(utterances: list[Utterance]) -> tuple[Sound, list[Segment]]:
    """Join utterances into one recording with pauses and faint noise, and cut its segments."""
    rng = np.random.default_rng(1)
    parts, at_s, spoken = [np.zeros(SAMPLE_RATE_HZ // 2, np.float32)], 0.5, []
    for utterance in utterances:
        first = max(0.0, utterance.words[0].start_s - MARGIN_S)
        sound, words = _excerpt(utterance, first), utterance.words
        spoken.append([_shift(word, at_s - first) for word in words])
        pause = np.zeros(int(rng.uniform(0.15, 0.9) * SAMPLE_RATE_HZ), np.float32)
        parts += [sound, pause]
        at_s += (len(sound) + len(pause)) / SAMPLE_RATE_HZ
    whole = np.concatenate(parts)
    noise = rng.normal(0, 15 / 32768, len(whole))
    return (whole + noise).astype(np.float32), list(_segments(spoken))


def _excerpt(utterance: Utterance, first_s: float) -> Sound:
    """Cut an utterance from `first_s` to just after its last word; peak at 0.7."""
    last_s = utterance.words[-1].end_s + MARGIN_S
    first, last = int(first_s * SAMPLE_RATE_HZ), int(last_s * SAMPLE_RATE_HZ)
    sound = utterance.waveform[first:last].astype(np.float32)
    return np.asarray(sound / np.abs(sound).max() * 0.7, dtype=np.float32)


def _shift(word: TimedWord, by_s: float) -> TimedWord:
    return TimedWord(word.word, word.start_s + by_s, word.end_s + by_s)


def _known_edges(utterance: dict[str, Any]) -> list[TimedWord]:
    """Know when an utterance starts and ends, and nothing of the words between."""
    words = utterance["text"].split()
    inner = [TimedWord(word, np.nan, np.nan) for word in words]
    inner[0] = TimedWord(words[0], utterance["start"], inner[0].end_s)
    inner[-1] = TimedWord(words[-1], inner[-1].start_s, utterance["end"])
    return inner


def _segments(spoken: Iterable[list[TimedWord]]) -> Iterator[Segment]:
    """Pack utterances into segments of at most `SEGMENT_S`."""
    pending: list[list[TimedWord]] = []
    for words in spoken:
        if pending and words[-1].end_s - pending[0][0].start_s > SEGMENT_S:
            yield _segment(pending)
            pending = []
        pending.append(words)
    if pending:
        yield _segment(pending)


def _segment(utterances: list[list[TimedWord]]) -> Segment:
    words = [word for utterance in utterances for word in utterance]
    return Segment(
        words[0].start_s - MARGIN_S,
        words[-1].end_s + MARGIN_S,
        tuple(words),
    )


def _read(path: Path) -> Sound:
    """Decode a recording to mono float32 at 16 kHz."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE_HZ)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float32)
