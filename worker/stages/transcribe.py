"""Transcribe: speech spans to text, in batches that several threads give to Whisper.

Takes a `Waveform` and its `SpeechSpan`s; returns a `Transcription` with one segment a span, as
whisperx would, and gives each batch's segments as soon as they are decoded. Raises `WorkerError`:
``INVALID_INPUT`` for a language or a task that the model has not learnt.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from itertools import pairwise

from whisperx.utils import TO_LANGUAGE_CODE

from bucketscribe_contract import FailureCode, Flag, JobInput, Stage, WarningCode
from worker.cancel import StageContext
from worker.engines.attention import shifted
from worker.engines.whisper import DecodedChunk, DecodingOptions, Samples, Whisper, fit_prompt
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
    needs_times: Callable[[str, str], bool] = lambda _, __: False,
    *,
    is_stock: bool = False,
) -> Transcription:
    """Return the text of every span, in order.

    Args:
        waveform: The recording.
        spans: Where somebody speaks.
        job: Language, task, prompt and hotwords.
        whisper: Loaded once per process.
        ctx: Checked before every batch; its batch size is shared by all runs of the model.
        on_text: Given each batch's segments when they are there, in order within the batch.
        found: Segments by the number of their span, from an earlier try that ran out of memory;
            filled, so that the next one does the rest.
        needs_times: Given the language and a text, tells whether attention times its words.
        is_stock: Whether to give whisperx's text to the bit, with no flags.
    """
    asked = job.language and resolve_language(job.language, whisper.languages)
    _check_task(job.task, whisper)
    if not spans:
        return Transcription((), None, None, task=job.task)
    check = partial(ctx.cancel.check, Stage.TRANSCRIBE)
    check()
    found = {} if found is None else found
    language, probability = _choose_language(waveform, spans, asked, whisper)
    prompt = fit_prompt(job.initial_prompt, job.hotwords, whisper.model.hf_tokenizer)
    options = whisper.decoding_options(language, prompt, job.task, is_stock)
    options = replace(options, needs_times=partial(needs_times, language), check=check)
    warnings = (WarningCode.PROMPT_TOO_LONG,) if prompt.was_cut else ()
    part = Transcription((), language, probability, task=job.task)

    def run(numbers: Sequence[int]) -> dict[int, TextSegment]:
        check()
        return _decode(waveform, spans, numbers, whisper, options)

    def take(segments: dict[int, TextSegment]) -> None:
        check()
        found.update(segments)
        ctx.progress(len(found) / len(spans))
        on_text(replace(part, segments=tuple(segments.values())))

    left = [number for number in range(len(spans)) if number not in found]
    batches = plan_batches(spans, left, max(1, ctx.batch_size // whisper.runs), whisper.runs)
    _side_by_side(run, batches, whisper.runs, take)
    return replace(part, segments=tuple(found[n] for n in range(len(spans))), warnings=warnings)


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
    if not options.is_stock:
        found = _decode_in_halves(waveform, [spans[n] for n in numbers], found, whisper, options)
    times = [(round(spans[n].start, 3), round(spans[n].end, 3)) for n in numbers]
    return {
        n: TextSegment(*between, one.text, _confidence(one), shifted(one.words, *between))
        for n, between, one in zip(numbers, times, found, strict=True)
    }


def _decode_in_halves(
    waveform: Waveform,
    spans: Sequence[SpeechSpan],
    found: Sequence[DecodedChunk],
    whisper: Whisper,
    options: DecodingOptions,
) -> list[DecodedChunk]:
    """Decode what even Whisper's whole context did not hold once more, in two parts each."""
    best = list(found)
    cut = [n for n, one in enumerate(best) if one.is_cut and Flag.REPETITION not in one.flags]
    halves = [half for n in cut for half in _halves(spans[n])]
    if halves:
        decoded = whisper.decode([_cut(waveform, half) for half in halves], options)
        rows = zip(cut, halves[1::2], decoded[::2], decoded[1::2], strict=True)
        for n, later, first, second in rows:
            best[n] = first.then(second, later.start - spans[n].start)
    return best


def _halves(span: SpeechSpan) -> tuple[SpeechSpan, SpeechSpan]:
    """Cut a span at its longest pause; in the middle where it has none."""
    pauses = [(end, start) for (_, end), (start, _) in pairwise(span.regions) if start > end]
    end, start = max(pauses, key=lambda pause: pause[1] - pause[0], default=(span.start, span.end))
    middle = (end + start) / 2
    return replace(span, end=middle), replace(span, start=middle)


def _confidence(one: DecodedChunk) -> Confidence:
    return Confidence(one.avg_logprob, one.compression_ratio, one.no_speech_prob, one.flags)


def resolve_language(asked: str, known: Sequence[str]) -> str:
    """Return Whisper's code of a language.

    Args:
        asked: A code, an English name in any case, or a tag whose first part is a code (pt_BR).
        known: Codes of the languages that the model can hear.
    """
    name = asked.strip().lower()
    code: str = TO_LANGUAGE_CODE.get(name, re.split("[-_]", name)[0])
    if code in known:
        return code
    what = (
        "is English-only: leave language out, or say en"
        if tuple(known) == ("en",)
        else f"knows {', '.join(sorted(known))}, their English names, and tags such as en-US"
    )
    message = f"language {asked!r}: this worker's Whisper model {what}"
    raise WorkerError(FailureCode.INVALID_INPUT, message, Stage.TRANSCRIBE)


def _check_task(task: str, whisper: Whisper) -> None:
    if task == "translate" and not whisper.can_translate:
        message = (
            f"task translate: this worker's Whisper model {whisper.name} has not learnt it; "
            "leave task out, or choose a multilingual WHISPER_MODEL that is no turbo and no distil"
        )
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
