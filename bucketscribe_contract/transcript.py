"""The transcript document, ``transcription.json``: readers of WhisperX's JSON can read it, too.

Keys of the first version are always written: a value that is unknown is null. A later one has a
default, for older documents, and is left out where it has it: so a document in which nothing is
doubtful is no larger. What is renamed, removed or means something else makes another
``schema_version``. docs/transcript.md shows every key.
"""

from __future__ import annotations

from enum import StrEnum
from operator import not_
from typing import Annotated, Literal

from pydantic import Field

from bucketscribe_contract.failures import WarningText, WireModel
from bucketscribe_contract.summary import AudioETag, Seconds

SpeakerLabel = Annotated[str, Field(pattern=r"^SPEAKER_\d{2,}$")]
SpeakerName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,100}$")]


def _is_unknown(figure: float | None) -> bool:
    return figure is None


class WordTiming(StrEnum):
    """Where a word's times come from: an aligner, Whisper's attention, or its place in the text."""

    ALIGNED = "aligned"
    ATTENTION = "attention"
    INTERPOLATED = "interpolated"


class Flag(StrEnum):
    """Why a segment's text is doubtful."""

    REPETITION = "repetition"
    NO_SPEECH = "no_speech"
    LOW_CONFIDENCE = "low_confidence"
    PROMPT = "prompt"


class Word(WireModel):
    """One word; times in seconds from the start of the recording."""

    word: str
    start: Seconds | None
    end: Seconds | None
    score: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="Mean probability: the aligner's of its characters, or Whisper's of its tokens."
    )
    speaker: SpeakerLabel | None
    timing: WordTiming | None = Field(description="null where the word could not be timed.")
    overlap: bool = Field(
        False, exclude_if=not_, description="Whether somebody else speaks at the same time."
    )


class Segment(WireModel):
    """One speaker's sentence, or part of one; times in seconds from the start of the recording.

    The three figures are Whisper's, of the chunk of up to 30 s that the segment is from.
    """

    id: int = Field(ge=0)
    start: Seconds
    end: Seconds
    text: str
    speaker: SpeakerLabel | None
    words: tuple[Word, ...]
    avg_logprob: float | None = Field(
        None, exclude_if=_is_unknown, description="Mean log-probability of the tokens."
    )
    compression_ratio: float | None = Field(
        None,
        exclude_if=_is_unknown,
        description="How many times smaller zlib makes the chunk's text.",
    )
    no_speech_prob: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, exclude_if=_is_unknown, description="How probable it is that nobody speaks."
    )
    flags: tuple[Flag, ...] = Field(
        (), exclude_if=not_, description="Why the text is doubtful; absent where it is not."
    )


class Interval(WireModel):
    """A part of the recording, in seconds from its start."""

    start: Seconds
    end: Seconds


class DroppedText(Interval):
    """What ``drop_flagged`` left out of the segments."""

    text: str
    flags: tuple[Flag, ...]


class Transcript(WireModel):
    """The whole document. All text that Whisper gave is in ``segments`` and ``dropped``."""

    schema_version: Literal[1] = 1
    segments: tuple[Segment, ...]
    speakers: tuple[SpeakerLabel, ...]
    speaker_names: dict[SpeakerLabel, SpeakerName] = Field(
        {}, exclude_if=not_, description="What people call them; the edge client writes it."
    )
    language: str | None = Field(description="null when there was no speech to tell it from.")
    language_probability: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="null when the language was given."
    )
    duration_seconds: Seconds
    processing_time_seconds: Seconds
    models: dict[str, str] = Field(description="Stage to the name of the model that ran.")
    task: Literal["transcribe", "translate"] = Field(
        "transcribe",
        exclude_if=lambda task: task == "transcribe",
        description="translate: the text is English, whatever was spoken.",
    )
    uncovered: tuple[Interval, ...] = Field(
        (), exclude_if=not_, description="Speech of 3 s or more that no word covers."
    )
    dropped: tuple[DroppedText, ...] = Field(
        (), exclude_if=not_, description="What `drop_flagged` left out of the segments."
    )
    warnings: tuple[WarningText, ...] = ()
    request_id: str | None = None
    audio_etag: AudioETag | None = Field(
        None, description="Of the recording that was read; null where S3 gave none."
    )
