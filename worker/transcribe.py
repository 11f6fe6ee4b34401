"""Transcribe: speech spans to text, with whisperx's batched Whisper.

Takes a `Waveform` and its `SpeechSpan`s; returns a `Transcription` with one segment a span.

whisperx keeps its tokenizer and its options between calls, and an exception leaves the last
job's behind (whisperx/asr.py, transcribe): both are put back after every job here.

Raises `WorkerError`: ``INVALID_INPUT`` for a language that the model does not speak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from whisperx.asr import FasterWhisperPipeline
from whisperx.vads import Vad

from contract import FailureCode, JobInput, Stage, WarningCode
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.language import detect_language
from worker.prompt import Prompt, fit_prompt
from worker.values import SpeechSpan, TextSegment, Transcription, Waveform


def transcribe(
    waveform: Waveform,
    spans: Sequence[SpeechSpan],
    job: JobInput,
    whisper: FasterWhisperPipeline,
    batch_size: int,
    token: CancelToken,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Transcription:
    """Return the text of every span.

    Args:
        waveform: The recording.
        spans: Where somebody speaks.
        job: Language, prompt and hotwords.
        whisper: Loaded once per process.
        batch_size: Spans decoded at once.
        token: Looked at between spans.
        on_progress: Given the share of spans done, in [0, 1].
    """
    _check_language(job.language, whisper)
    if not spans:
        return Transcription((), None, None)
    language, probability = _choose_language(waveform, spans, job.language, whisper)
    prompt = fit_prompt(job.initial_prompt, job.hotwords, whisper.model.hf_tokenizer)

    def step(percent: float) -> None:
        token.check(Stage.TRANSCRIBE)
        on_progress(percent / 100)

    token.check(Stage.TRANSCRIBE)
    with _for_this_job(whisper, spans, prompt):
        found = whisper.transcribe(
            waveform.float32, batch_size=batch_size, language=language, progress_callback=step
        )
    segments = tuple(
        TextSegment(s["start"], s["end"], s["text"], float(s["avg_logprob"]))
        for s in found["segments"]
    )
    warnings = (WarningCode.PROMPT_TOO_LONG,) if prompt.was_cut else ()
    return Transcription(segments, language, probability, warnings)


def _check_language(language: str | None, whisper: FasterWhisperPipeline) -> None:
    spoken = whisper.model.supported_languages
    if language is not None and language not in spoken:
        what = "is English-only" if spoken == ["en"] else "does not know it"
        message = f"language {language!r}: this worker's Whisper model {what}"
        raise WorkerError(FailureCode.INVALID_INPUT, message, Stage.TRANSCRIBE)


def _choose_language(
    waveform: Waveform,
    spans: Sequence[SpeechSpan],
    asked: str | None,
    whisper: FasterWhisperPipeline,
) -> tuple[str, float | None]:
    if asked is not None:
        return asked, None
    if not whisper.model.model.is_multilingual:
        return "en", None
    return detect_language(waveform, spans, whisper.model)


class _Found(Vad):  # type: ignore[misc]  # whisperx has no types
    """Stands in for whisperx's detector: the spans were found by an earlier stage."""

    def __init__(self, spans: Sequence[SpeechSpan]) -> None:
        self._spans = [{"start": s.start, "end": s.end, "segments": s.regions} for s in spans]

    def __call__(self, audio: Any, **_: Any) -> list[dict[str, Any]]:
        return self._spans

    @staticmethod
    def preprocess_audio(audio: Any) -> Any:
        return audio

    @staticmethod
    def merge_chunks(segments: Any, *_: Any, **__: Any) -> Any:
        return segments


@contextmanager
def _for_this_job(
    whisper: FasterWhisperPipeline, spans: Sequence[SpeechSpan], prompt: Prompt
) -> Iterator[None]:
    before = whisper.vad_model, whisper.options, whisper.tokenizer
    whisper.vad_model = _Found(spans)
    whisper.options = replace(
        whisper.options, initial_prompt=prompt.initial_prompt, hotwords=prompt.hotwords
    )
    whisper.tokenizer = None
    try:
        yield
    finally:
        whisper.vad_model, whisper.options, whisper.tokenizer = before
