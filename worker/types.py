"""Values that stages exchange: frozen, times in seconds on the waveform's clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from bucketscribe_contract import Flag, WarningCode, WordTiming

SAMPLE_RATE_HZ = 16_000
Samples = npt.NDArray[np.int16]


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


@dataclass(frozen=True)
class Waveform:
    """Decoded audio, mono at 16 kHz.

    Attributes:
        samples: int16, shape (n_samples,).
        offset_s: Where the waveform starts in the recording; 0 without a clip.
        warnings: What of the recording is not in it.
    """

    samples: Samples
    offset_s: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ

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
