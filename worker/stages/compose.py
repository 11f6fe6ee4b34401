"""Compose: the transcript document, which says what of it is doubtful, left out or missing.

Takes what the stages found and the segments, attributed to speakers; returns the contract's
`Transcript`. It raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bucketscribe_contract import (
    DroppedText,
    Flag,
    Interval,
    JobInput,
    Segment,
    Stage,
    Transcript,
    WarningCode,
)
from worker.types import Alignment, Diarization, SpeechSpan, Transcription, Waveform

if TYPE_CHECKING:
    from worker.models.load import Models

SHORTEST_S = 3.0
"""Speech that no word covers is listed from here on: people breathe, laugh and say "mm"."""
_PAUSE_S = 0.5
"""A shorter pause does not end speech; the detector's regions have pauses from 0.1 s on."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Findings:
    """What the stages of a job gave, the warnings of the job itself, and what it was done on.

    Without ``speech`` nothing is said about speech that no word covers.
    """

    transcription: Transcription
    alignment: Alignment
    diarization: Diarization
    warnings: tuple[str, ...]
    audio_etag: str | None = None
    speech: tuple[SpeechSpan, ...] = ()


def compose(
    job: JobInput,
    models: Models,
    findings: Findings,
    segments: tuple[Segment, ...],
    waveform: Waveform,
    elapsed_s: float,
) -> Transcript:
    """Return the document.

    Args:
        job: What was asked.
        models: What it was done with.
        findings: What the stages gave.
        segments: Attributed to speakers.
        waveform: What was transcribed.
        elapsed_s: Since the job was taken.
    """
    kept, dropped = _divided(segments, job.drop_flagged)
    missing = uncovered(findings.speech, segments, waveform)
    speakers = {s.speaker for s in kept} | {w.speaker for s in kept for w in s.words}
    warnings: tuple[str, ...] = () if segments else (WarningCode.NO_SPEECH,)
    for found in (findings.transcription, findings.alignment, findings.diarization):
        warnings += found.warnings
    language = findings.transcription.language
    return Transcript(
        segments=kept,
        speakers=tuple(sorted(speaker for speaker in speakers if speaker)),
        language=language,
        language_probability=findings.transcription.language_probability,
        duration_seconds=round(waveform.duration_s, 3),
        processing_time_seconds=elapsed_s,
        models=_model_names(job, models, language),
        task=job.task,
        uncovered=missing,
        dropped=dropped,
        warnings=(*warnings, *_doubts(segments, dropped, missing), *findings.warnings),
        request_id=job.request_id,
        audio_etag=findings.audio_etag,
    )


def _model_names(job: JobInput, models: Models, language: str | None) -> dict[str, str]:
    profile = models.folder.profile
    names = {Stage.SPEECH: profile.vad.name, Stage.TRANSCRIBE: models.folder.whisper_name}
    if language in profile.align and job.task == "transcribe":
        names[Stage.ALIGN] = profile.align[language].name
    if job.diarize:
        names[Stage.DIARIZE] = profile.diarization.name
    return {stage.value: name for stage, name in names.items()}


def _divided(
    segments: tuple[Segment, ...], drop_flagged: bool
) -> tuple[tuple[Segment, ...], tuple[DroppedText, ...]]:
    """Return what stays in the document's segments, and what only its list has."""
    if not drop_flagged:
        return segments, ()
    kept = (segment for segment in segments if not segment.flags)
    dropped = tuple(
        DroppedText(start=s.start, end=s.end, text=s.text, flags=s.flags)
        for s in segments
        if s.flags
    )
    return tuple(s.model_copy(update={"id": n}) for n, s in enumerate(kept)), dropped


def uncovered(
    speech: Iterable[SpeechSpan], segments: Iterable[Segment], waveform: Waveform
) -> tuple[Interval, ...]:
    """Return where speech was heard for `SHORTEST_S` or longer and no word is, in order.

    Args:
        speech: What the detector heard, on the waveform's clock.
        segments: One without words covers its whole time.
        waveform: Whose clock the returned intervals leave for the recording's.
    """

    def shift(*times_s: float) -> Span:
        start, end = (round(time_s + waveform.offset_s, 3) for time_s in times_s)
        return start, end

    whole = shift(0.0, waveform.duration_s)
    pauses = _holes((shift(*region) for span in speech for region in span.regions), whole, _PAUSE_S)
    said = (time for segment in segments for time in _said(segment))
    holes = _holes((*pauses, *said), whole, SHORTEST_S)
    return tuple(Interval(start=start, end=end) for start, end in holes)


def _said(segment: Segment) -> list[Span]:
    words = [(w.start, w.end) for w in segment.words if w.start is not None and w.end is not None]
    return words or [(segment.start, segment.end)]


def _holes(spans: Iterable[Span], within: Span, shortest_s: float) -> Iterator[Span]:
    """Give the parts of an interval that none of the spans covers, in order."""
    covered_s, end_s = within
    for start, end in (*sorted(spans), (end_s, end_s)):
        if round(start - covered_s, 3) >= shortest_s:
            yield covered_s, start
        covered_s = max(covered_s, end)


def _doubts(
    segments: tuple[Segment, ...],
    dropped: tuple[DroppedText, ...],
    missing: tuple[Interval, ...],
) -> Iterator[str]:
    """Give the warnings that count what is flagged, and what no word covers."""
    counts = {flag: sum(flag in segment.flags for segment in segments) for flag in Flag}
    flagged = ", ".join(f"{flag} {count}" for flag, count in counts.items() if count)
    if flagged:
        left_out = f"; {len(dropped)} dropped" if dropped else ""
        yield f"{WarningCode.FLAGGED}: {flagged}{left_out}"
    if missing:
        seconds = sum(part.end - part.start for part in missing)
        places = f"{len(missing)} place{'s' if len(missing) > 1 else ''}"
        yield f"{WarningCode.UNCOVERED_SPEECH}: {seconds:.0f} s in {places}"
