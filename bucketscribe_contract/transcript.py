"""The transcript document, ``transcription.json``, and what a worker answers when it is in S3.

Readers of WhisperX's JSON can read it, too. Keys of the first version are always written: a value
that is unknown is null. A later one has a default, for older documents, and is left out where it
has it: so a document in which nothing is doubtful is no larger. What is renamed, removed or means
something else makes another ``schema_version``. docs/transcript.md shows every key.
"""

from __future__ import annotations

from enum import StrEnum
from operator import not_
from typing import Annotated, Literal

from pydantic import Field

from bucketscribe_contract.failures import JobFailure, Stage, WarningText, WireModel

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seconds = Annotated[float, Field(ge=0)]
AUDIO_ETAG_PATTERN = r"^[\x21-\x7e]{1,64}$"
AudioETag = Annotated[str, Field(pattern=AUDIO_ETAG_PATTERN)]
"""S3's name for one version of the recording, quotes included, as its ``ETag`` header has it."""
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


class StoredResult(WireModel):
    """The object that was PUT."""

    bytes: int = Field(ge=0)
    sha256: Sha256


class JobSummary(WireModel):
    """A finished job, in under 1,024 bytes."""

    status: Literal["ok"] = "ok"
    message: str = "Transcription uploaded to S3"
    segments_count: int = Field(ge=0)
    speakers_count: int = Field(ge=0)
    duration_seconds: Seconds
    processing_time_seconds: Seconds
    language: str | None = None
    warnings: tuple[WarningText, ...] = ()
    result: StoredResult
    timings: dict[Stage, Seconds] = Field(description="Seconds spent in each stage.")
    request_id: str | None = None
    audio_etag: AudioETag | None = Field(
        None, description="Of the recording that was read; absent where S3 gave none."
    )


class TranscriptForm(StrEnum):
    """How much of the transcript an output holds: the largest form that fits is sent."""

    COMPLETE = "complete"
    WITHOUT_SCORES = "without_scores"
    WITHOUT_WORDS = "without_words"


class UploadFailed(WireModel):
    """The GPU work is done, S3 did not take it: the edge writes it with its own keys.

    With ``RESULT_EXISTS`` S3 has one: it is this one if its SHA-256 is ``sent_sha256``.
    The reason travels as ``failure``: RunPod takes a key named ``error`` out of what a handler
    returns and marks the job FAILED (runpod 1.12.0, ``rp_job.run_job``).
    """

    status: Literal["upload_failed"] = "upload_failed"
    failure: JobFailure
    transcript_gzip_base64: str = Field(repr=False)
    form: TranscriptForm = TranscriptForm.COMPLETE
    result: StoredResult = Field(description="Of the transcript before compression.")
    sent_sha256: Sha256 | None = Field(None, description="Of the whole transcript, as it was PUT.")
    request_id: str | None = None
