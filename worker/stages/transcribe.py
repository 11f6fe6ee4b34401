"""Transcribe: speech spans to text, in batches that several threads give to Whisper.

Takes a `Waveform` and its `SpeechSpan`s; returns a `Transcription` with one segment a span, as
whisperx would, and gives each batch's segments as soon as they are decoded. Raises `WorkerError`:
``INVALID_INPUT`` for a language that the model does not know.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import pairwise

from bucketscribe_contract import FailureCode, JobInput, Stage, WarningCode
from worker.cancel import StageContext
from worker.engines.whisper import DecodingOptions, Samples, Whisper, fit_prompt
from worker.errors import WorkerError
from worker.types import (
    SAMPLE_RATE_HZ,
    Confidence,
    SpeechSpan,
    TextSegment,
    Transcription,
    Waveform,
)

VOTES = 4


def detect_language(
    waveform: Waveform, spans: Sequence[SpeechSpan], whisper: Whisper
) -> tuple[str, float]:
    """Return the language and its probability, averaged over speech.

    Stock whisperx uses the raw first 30 s, where leading silence or music gives a wrong language.

    Args:
        waveform: The recording.
        spans: At least one; the `VOTES` with most speech are listened to.
        whisper: A multilingual one.
    """
    chosen = sorted(spans, key=lambda span: span.speech_s, reverse=True)[:VOTES]
    seconds = sum(span.speech_s for span in chosen)
    weights: defaultdict[str, float] = defaultdict(float)
    for span in chosen:
        probabilities = whisper.language_probabilities(_cut(waveform, span))
        for language, probability in probabilities.items():
            weights[language] += probability * span.speech_s / seconds
    language = max(weights, key=weights.__getitem__)
    return language, min(round(weights[language], 4), 1.0)


def _cut(waveform: Waveform, span: SpeechSpan) -> Samples:
    return waveform.part(int(span.start * SAMPLE_RATE_HZ), int(span.end * SAMPLE_RATE_HZ))


def transcribe(
    waveform: Waveform,
    spans: Sequence[SpeechSpan],
    job: JobInput,
    whisper: Whisper,
    ctx: StageContext,
    on_text: Callable[[Transcription], None] = lambda _: None,
    found: dict[int, TextSegment] | None = None,
) -> Transcription:
    """Return the text of every span, in order.

    Args:
        waveform: The recording.
        spans: Where somebody speaks.
        job: Language, prompt and hotwords.
        whisper: Loaded once per process.
        ctx: Checked before every batch; its batch size is shared by all runs of the model.
        on_text: Given each batch's segments when they are there, in order within the batch.
        found: Segments by the number of their span, from an earlier try that ran out of memory;
            filled, so that the next one does the rest.
    """
    _check_language(job.language, whisper)
    if not spans:
        return Transcription((), None, None)
    ctx.cancel.check(Stage.TRANSCRIBE)
    found = {} if found is None else found
    language, probability = _choose_language(waveform, spans, job.language, whisper)
    prompt = fit_prompt(job.initial_prompt, job.hotwords, whisper.model.hf_tokenizer)
    options = whisper.decoding_options(language, prompt)

    def run(numbers: Sequence[int]) -> dict[int, TextSegment]:
        ctx.cancel.check(Stage.TRANSCRIBE)
        return _decode(waveform, spans, numbers, whisper, options)

    def take(segments: dict[int, TextSegment]) -> None:
        ctx.cancel.check(Stage.TRANSCRIBE)
        found.update(segments)
        ctx.progress(len(found) / len(spans))
        on_text(Transcription(tuple(segments.values()), language, probability))

    left = [number for number in range(len(spans)) if number not in found]
    batches = plan_batches(spans, left, max(1, ctx.batch_size // whisper.runs), whisper.runs)
    _side_by_side(run, batches, whisper.runs, take)
    warnings = (WarningCode.PROMPT_TOO_LONG,) if prompt.was_cut else ()
    return Transcription(
        tuple(found[n] for n in range(len(spans))), language, probability, warnings
    )


def plan_batches(
    spans: Sequence[SpeechSpan], numbers: Sequence[int], batch_size: int, runs: int
) -> list[list[int]]:
    """Sort spans into batches, longest first: a batch takes as long as its longest text.

    Args:
        spans: All spans.
        numbers: Those to be decoded.
        batch_size: Largest batch.
        runs: Batches that are decoded at once; their number is a multiple of it where there are
            spans enough, so that none waits for the last batch of another.

    Returns:
        Batches of nearly equal size, each a list of numbers in rising order.
    """
    if not numbers:
        return []
    count = min(math.ceil(len(numbers) / batch_size / runs) * runs, len(numbers))
    longest_first = sorted(numbers, key=lambda n: spans[n].start - spans[n].end)
    bounds = [len(numbers) * i // count for i in range(count + 1)]
    return [sorted(longest_first[start:stop]) for start, stop in pairwise(bounds)]


def _side_by_side(
    run: Callable[[Sequence[int]], dict[int, TextSegment]],
    batches: Sequence[Sequence[int]],
    runs: int,
    take: Callable[[dict[int, TextSegment]], None],
) -> None:
    """Run the batches and take what each found as it ends.

    One thread more than the model can run at once: it computes features meanwhile. After a
    failure no batch begins, and what those at work still find is taken too.
    """
    failure: BaseException | None = None
    with ThreadPoolExecutor(runs + 1, "transcribe") as pool:
        running = [pool.submit(run, batch) for batch in batches]
        try:
            for done in as_completed(running):
                if done.cancelled():
                    continue
                if done.exception() is None:
                    take(done.result())
                    continue
                failure = failure or done.exception()
                _cancel(running)
        finally:
            _cancel(running)
    if failure is not None:
        raise failure


def _cancel(running: Sequence[Future[dict[int, TextSegment]]]) -> None:
    for future in running:
        future.cancel()


def _decode(
    waveform: Waveform,
    spans: Sequence[SpeechSpan],
    numbers: Sequence[int],
    whisper: Whisper,
    options: DecodingOptions,
) -> dict[int, TextSegment]:
    found = whisper.decode([_cut(waveform, spans[number]) for number in numbers], options)
    return {
        n: TextSegment(
            round(spans[n].start, 3), round(spans[n].end, 3), one.text, Confidence(one.avg_logprob)
        )
        for n, one in zip(numbers, found, strict=True)
    }


def _check_language(language: str | None, whisper: Whisper) -> None:
    spoken = whisper.model.supported_languages
    if language is not None and language not in spoken:
        what = "is English-only" if spoken == ["en"] else "does not know it"
        message = f"language {language!r}: this worker's Whisper model {what}"
        raise WorkerError(FailureCode.INVALID_INPUT, message, Stage.TRANSCRIBE)


def _choose_language(
    waveform: Waveform,
    spans: Sequence[SpeechSpan],
    asked: str | None,
    whisper: Whisper,
) -> tuple[str, float | None]:
    if asked is not None:
        return asked, None
    if not whisper.model.model.is_multilingual:
        return "en", None
    return detect_language(waveform, spans, whisper)
