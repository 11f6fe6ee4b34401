"""Values that stages exchange: frozen, times in seconds on the waveform's clock."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt

from bucketscribe_contract import Flag, WarningCode, WordTiming

SAMPLE_RATE_HZ = 16_000
Samples = npt.NDArray[np.int16]
_BLOCK_SAMPLES = 60 * SAMPLE_RATE_HZ


def letters(text: str) -> str:
    """Return the text without its white space."""
    return "".join(text.split())


@dataclass(frozen=True)
class Recording:
    """The recording as it was stored, in the job's temporary directory.

    Attributes:
        path: The file.
        bytes: Its size.
        clock_skew_s: S3's clock minus this machine's; 0 for inline audio.
        etag: Which version of the object it is, in S3's words; None where S3 gave none.
    """

    path: Path
    bytes: int
    clock_skew_s: float = 0.0
    etag: str | None = None


class SampleFile:
    """Samples that are read where they are wanted: a day of them fits into no memory.

    They are not mapped, since what is read of a mapping counts as the process's memory.

    Args:
        file: int16, little-endian; it may be closed and removed, what is in it stays.
        n_samples: Of them.
        offset: Bytes before the first.
    """

    def __init__(self, file: IO[bytes], n_samples: int, offset: int = 0) -> None:
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._n_samples, self._offset = n_samples, offset

    def __len__(self) -> int:
        return self._n_samples

    def __getitem__(self, wanted: slice) -> Samples:
        """Read a slice: (n,). OSError: the file is shorter than it was."""
        start, stop, _ = wanted.indices(self._n_samples)
        n_bytes = max(stop - start, 0) * 2
        body = os.pread(self._descriptor, n_bytes, self._offset + start * 2)
        if len(body) < n_bytes:
            raise OSError("the waveform's file has become shorter")
        return np.frombuffer(body, "<i2")


@dataclass(frozen=True)
class Waveform:
    """Decoded audio, mono at 16 kHz.

    Attributes:
        samples: int16, (n_samples,); a slice of them is an array.
        offset_s: Where the waveform starts in the recording; 0 without a clip.
        warnings: What of the recording is not in it.
    """

    samples: Samples | SampleFile
    offset_s: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ

    def blocks(self) -> Iterator[Samples]:
        """Give all samples, a minute at a time."""
        for start in range(0, len(self.samples), _BLOCK_SAMPLES):
            yield self.samples[start : start + _BLOCK_SAMPLES]

    def part(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return a copy of the samples from ``start`` to ``stop`` in [-1, 1).

        Args:
            start: First sample, at least 0.
            stop: One past the last one; what lies beyond the end is not there.
        """
        return np.multiply(self.samples[start:stop], np.float32(1 / 32768), dtype=np.float32)


@dataclass(frozen=True)
class SpeechSpan:
    """Up to 30 s with speech, and the speech regions inside it."""

    start: float
    end: float
    regions: tuple[tuple[float, float], ...]

    @property
    def speech_s(self) -> float:
        """Seconds of speech inside the span."""
        return sum(end - start for start, end in self.regions)


@dataclass(frozen=True)
class Confidence:
    """How sure Whisper is of one span's text: `bucketscribe_contract.Segment` says what of."""

    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class TimedWord:
    """A word with times; ``score`` is None where none is known."""

    word: str
    start: float
    end: float
    score: float | None
    timing: WordTiming = WordTiming.ALIGNED


@dataclass(frozen=True)
class TextSegment:
    """What Whisper heard in one span.

    Attributes:
        start: Where the span begins.
        end: Where it ends.
        text: As decoded, leading space included.
        confidence: Of the text.
        words: Timed by Whisper's attention, where that was wanted; they hold all of the text.
    """

    start: float
    end: float
    text: str
    confidence: Confidence = Confidence()
    words: tuple[TimedWord, ...] = ()


@dataclass(frozen=True)
class Transcription:
    """All text of a recording, in order.

    Attributes:
        segments: One a span.
        language: That is spoken.
        language_probability: None where the job said it.
        warnings: What could not be done as asked.
        task: With translate, the text is English.
    """

    segments: tuple[TextSegment, ...]
    language: str | None
    language_probability: float | None
    warnings: tuple[WarningCode, ...] = ()
    task: Literal["transcribe", "translate"] = "transcribe"

    @property
    def text_language(self) -> str | None:
        """The language that the text is in."""
        return "en" if self.task == "translate" else self.language


@dataclass(frozen=True)
class TimedSegment:
    """A sentence, its words where they could be timed, and how sure Whisper is of its span."""

    start: float
    end: float
    text: str
    words: tuple[TimedWord, ...] = ()
    confidence: Confidence = Confidence()


@dataclass(frozen=True)
class Alignment:
    """Sentences in order, holding all text of the transcription."""

    segments: tuple[TimedSegment, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpeakerTurn:
    """Somebody speaks."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True)
class Diarization:
    """Who spoke when.

    Attributes:
        turns: Those of different speakers may overlap.
        exclusive: The same with one speaker at a time, the loudest.
        warnings: What could not be done as asked.
    """

    turns: tuple[SpeakerTurn, ...] = ()
    exclusive: tuple[SpeakerTurn, ...] = ()
    warnings: tuple[WarningCode, ...] = ()
