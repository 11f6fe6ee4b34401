"""Compose the transcript document from what the stages found, and sum it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract import (
    JobInput,
    JobSummary,
    Segment,
    Stage,
    StoredResult,
    Transcript,
    WarningCode,
)
from worker.values import Alignment, Diarization, Transcription

if TYPE_CHECKING:
    from worker.models import Models


@dataclass(frozen=True)
class Findings:
    """What the stages of a job gave, the warnings of the job itself, and what it was done on."""

    transcription: Transcription
    alignment: Alignment
    diarization: Diarization
    warnings: tuple[str, ...]
    audio_etag: str | None = None

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """The warnings of every stage, in order."""
        return (
            self.transcription.warnings
            + self.alignment.warnings
            + self.diarization.warnings
            + self.warnings
        )


def compose(
    job: JobInput,
    models: Models,
    findings: Findings,
    segments: tuple[Segment, ...],
    duration_s: float,
    elapsed_s: float,
) -> Transcript:
    """Return the document.

    Args:
        job: What was asked.
        models: What it was done with.
        findings: What the stages gave.
        segments: Attributed to speakers.
        duration_s: Of the audio that was transcribed.
        elapsed_s: Since the job was taken.
    """
    speakers = {s.speaker for s in segments} | {w.speaker for s in segments for w in s.words}
    silent = () if segments else (WarningCode.NO_SPEECH,)
    language = findings.transcription.language
    return Transcript(
        segments=segments,
        speakers=tuple(sorted(speaker for speaker in speakers if speaker)),
        language=language,
        language_probability=findings.transcription.language_probability,
        duration_seconds=round(duration_s, 3),
        processing_time_seconds=elapsed_s,
        models=_model_names(job, models, language),
        warnings=silent + findings.all_warnings,
        request_id=job.request_id,
        audio_etag=findings.audio_etag,
    )


def _model_names(job: JobInput, models: Models, language: str | None) -> dict[str, str]:
    profile = models.profile
    names = {Stage.SPEECH: profile.vad.name, Stage.TRANSCRIBE: models.whisper_name}
    if language in profile.align:
        names[Stage.ALIGN] = profile.align[language].name
    if job.diarize:
        names[Stage.DIARIZE] = profile.diarization.name
    return {stage.value: name for stage, name in names.items()}


def summary_of(
    document: Transcript, stored: StoredResult, timings: Mapping[Stage, float], elapsed_s: float
) -> JobSummary:
    """Return what the job's output says of a transcript that is in S3.

    Args:
        document: The transcript.
        stored: What S3 has of it.
        timings: Seconds by stage.
        elapsed_s: Of the whole job, so far.
    """
    return JobSummary(
        segments_count=len(document.segments),
        speakers_count=len(document.speakers),
        duration_seconds=document.duration_seconds,
        processing_time_seconds=elapsed_s,
        language=document.language,
        warnings=document.warnings,
        result=stored,
        timings=dict(timings),
        request_id=document.request_id,
        audio_etag=document.audio_etag,
    )
