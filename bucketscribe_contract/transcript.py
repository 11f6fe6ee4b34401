"""The transcript document, ``transcription.json``: readers of WhisperX's JSON can read it, too.

Every word has every key: a value that is unknown is null. Readers ignore keys they do not know:
one may be added, with a default for older documents. What is renamed, removed or means something
else makes another ``schema_version``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from bucketscribe_contract.failures import WarningText, WireModel
from bucketscribe_contract.summary import AudioETag, Seconds

SpeakerLabel = Annotated[str, Field(pattern=r"^SPEAKER_\d{2,}$")]


class WordTiming(StrEnum):
    """Where a word's times come from."""

    ALIGNED = "aligned"
    INTERPOLATED = "interpolated"


class Word(WireModel):
    """One word; times in seconds from the start of the recording."""

    word: str
    start: Seconds | None
    end: Seconds | None
    score: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="The aligner's mean probability of the word's characters."
    )
    speaker: SpeakerLabel | None
    timing: WordTiming | None = Field(description="null where the word could not be timed.")


class Segment(WireModel):
    """A sentence; times in seconds from the start of the recording."""

    id: int = Field(ge=0)
    start: Seconds
    end: Seconds
    text: str
    speaker: SpeakerLabel | None
    words: tuple[Word, ...]


class Transcript(WireModel):
    """The whole document. All text that Whisper produced is in ``segments[].text``."""

    schema_version: Literal[1] = 1
    segments: tuple[Segment, ...]
    speakers: tuple[SpeakerLabel, ...]
    language: str | None = Field(description="null when there was no speech to tell it from.")
    language_probability: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="null when the language was given."
    )
    duration_seconds: Seconds
    processing_time_seconds: Seconds
    models: dict[str, str] = Field(description="Stage to the name of the model that ran.")
    warnings: tuple[WarningText, ...] = ()
    request_id: str | None = None
    audio_etag: AudioETag | None = Field(
        None, description="Of the recording that was read; null where S3 gave none."
    )
