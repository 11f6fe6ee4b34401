"""The stages of a job, in order. Nothing else names them.

Takes a validated job input; returns the job's output. Raises `WorkerError`.

This module imports no torch: the stages that need the models are imported when they first run, so
that a fresh worker fetches its first recording while torch is imported and the models are loaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from bucketscribe_contract import FailureCode, JobInput, Segment, Stage, Transcript, WarningCode
from worker.cancel import CancelToken, StageContext
from worker.errors import JobCancelled, WorkerError
from worker.execution import StageRunner, TaskGroup
from worker.host.progress import ProgressReporter
from worker.memory import trim_heap
from worker.settings import WorkerSettings
from worker.stages.compose import Findings, compose
from worker.stages.decode import DecodeLimits, decode
from worker.stages.deliver import deliver, encode_transcript, inline_fallback, summarize
from worker.stages.fetch import FILE, DownloadLimits, fetch, job_directory
from worker.stages.stream import NotStreamable, RecordingStream
from worker.stages.validate import Speed, check_result_url
from worker.types import (
    Alignment,
    Diarization,
    Recording,
    Samples,
    SpeechSpan,
    TextSegment,
    TimedSegment,
    Transcription,
    Waveform,
    letters,
)
from worker.urls import UrlPolicy

if TYPE_CHECKING:
    from worker.engines.alignment.acoustic import Aligner
    from worker.engines.diarization.activity import Activity
    from worker.models.load import Models


logger = logging.getLogger(__name__)
_time = attrgetter("start", "end")


class SegmentQueue:
    """Takes parts of a transcription from one thread and gives them to another."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Transcription | None] = SimpleQueue()

    def put(self, part: Transcription) -> None:
        """Add some segments."""
        self._queue.put(part)

    def close(self) -> None:
        """Take that no more segments will come."""
        self._queue.put(None)

    def __iter__(self) -> Iterator[Transcription]:
        """Give all segments since the last time, in order, until the queue is closed."""
        while (part := self._queue.get()) is not None:
            segments = list(part.segments)
            is_closed = False
            while not is_closed and not self._queue.empty():
                more = self._queue.get()
                is_closed = more is None
                segments += more.segments if more is not None else ()
            yield replace(part, segments=tuple(sorted(segments, key=_time)))
            if is_closed:
                return


def in_order(parts: Sequence[tuple[Transcription, Alignment]]) -> Alignment:
    """Join the alignments of a transcription's parts, in the order of its segments.

    Args:
        parts: Each with its alignment, which holds every letter of it.
    """
    sentences: list[tuple[tuple[float, float], list[TimedSegment]]] = []
    warnings: dict[object, None] = {}
    for transcription, alignment in parts:
        warnings |= dict.fromkeys(alignment.warnings)
        rest = iter(alignment.segments)
        for segment in transcription.segments:
            sentences.append((_time(segment), _of(segment, rest)))
        if sentences:
            sentences[-1][1].extend(rest)
    ordered = sorted(sentences, key=lambda item: item[0])
    segments = tuple(sentence for _, found in ordered for sentence in found)
    return Alignment(segments, tuple(warnings))  # type: ignore[arg-type]


def _of(segment: TextSegment, sentences: Iterator[TimedSegment]) -> list[TimedSegment]:
    """Take a segment's own sentences: those that hold its letters."""
    left = len(letters(segment.text))
    found: list[TimedSegment] = []
    while left > 0 and (sentence := next(sentences, None)) is not None:
        found.append(sentence)
        left -= len(letters(sentence.text))
    return found


@dataclass(frozen=True)
class Speech:
    """Where somebody speaks; and local activity, where diarization has the same segmentation."""

    spans: tuple[SpeechSpan, ...]
    activity: Activity | None


@dataclass
class Job:
    """One job on its way through the stages.

    Attributes:
        input: What the queue gave, validated.
        loaded: The models, or a function that waits for them; then speech is found after the
            recording has arrived, and not while it arrives.
        settings: Of the worker.
        token: Cancels the job.
        progress: Told of every stage.
        speed: Of this worker; learns from the job.
        recording: On this machine, which is read where it is; None: what the input names.
    """

    input: JobInput
    loaded: Models | Callable[[], Models]
    settings: WorkerSettings
    token: CancelToken
    progress: ProgressReporter
    speed: Speed
    recording: Recording | None = None
    runner: StageRunner = field(init=False)
    _arrived: float = field(default=0.0, init=False)
    audio_etag: str | None = field(default=None, init=False)
    audio_s: float | None = field(default=None, init=False)
    warnings: tuple[str, ...] = field(default=(), init=False)
    _aligners: dict[str | None, Aligner | None] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.runner = StageRunner(self.progress, self.input.strict)

    def run(self) -> dict[str, Any]:
        """Go through the stages and return the job's output."""
        with job_directory() as folder:
            waveform, speech = self._fetch_and_find_speech(folder)
        findings = self._find_text_and_speakers(waveform, speech)
        segments = self._attribute(findings, waveform)
        elapsed_s = self.runner.elapsed_s
        document = compose(self.input, self.models, findings, segments, waveform, elapsed_s)
        self.speed.learn(waveform.duration_s, time.perf_counter() - self._arrived)
        self.warnings = document.warnings
        return self._deliver(document)

    @cached_property
    def models(self) -> Models:
        """The models; waits until they are loaded."""
        return self.loaded() if callable(self.loaded) else self.loaded

    def _fetch_and_find_speech(self, folder: Path) -> tuple[Waveform, Speech]:
        """Fetch and decode; find speech meanwhile where the recording allows, else afterwards."""
        with TaskGroup(self.token) as group:
            stream = RecordingStream(folder / FILE, group.token)
            can_stream = self.input.clip is None and not callable(self.loaded)
            early = group.start(lambda: self._find_speech_early(stream)) if can_stream else None
            try:
                waveform = self._fetch(folder, stream, group.token)
            finally:
                stream.end()
            with self.runner.stage(Stage.SPEECH, group.token) as ctx:
                speech = early.result() if early else None
                if speech is None:
                    length = len(waveform.samples)
                    speech = self._find_speech(waveform.blocks, lambda: length, ctx)
            trim_heap()
        return waveform, speech

    def _find_speech_early(self, stream: RecordingStream) -> Speech | None:
        """Find speech in a recording that still arrives; None where that is not possible."""
        try:
            ctx = StageContext(stream.token, partial(self.progress.report, Stage.SPEECH))
            return self._find_speech(lambda: stream, lambda: stream.n_samples, ctx)
        except NotStreamable as exc:
            logger.debug("speech is found when the recording is complete: %s", exc)
            return None
        except Exception:
            self.progress.fail(Stage.SPEECH)
            raise

    def _fetch(self, folder: Path, stream: RecordingStream, token: CancelToken) -> Waveform:
        with self.runner.stage(Stage.FETCH, token) as ctx:
            if self.recording is not None:
                recording = replace(self.recording, path=folder / FILE)
                recording.path.symlink_to(self.recording.path)
                stream.grow(recording.bytes)
                ctx.progress(1.0)
            else:
                limits = DownloadLimits(self.settings.max_audio_bytes, UrlPolicy.of(self.settings))
                recording = fetch(self.input, folder, limits, ctx, stream.grow)
            self.audio_etag = recording.etag
        with self.runner.stage(Stage.DECODE, token) as ctx:
            length = DecodeLimits(self._max_duration_s, self.input.clip)
            waveform = decode(recording, length, ctx)
            self.audio_s = waveform.duration_s
        self._arrived = time.perf_counter()
        _ = self.models  # the speed to expect depends on the device that they are loaded on
        if self.input.result_url is not None:
            check_result_url(
                self.input.result_url, waveform.duration_s, self.speed, recording.clock_skew_s
            )
        return waveform

    @property
    def _is_stock(self) -> bool:
        return self.settings.fidelity == "stock"

    @property
    def _max_duration_s(self) -> float:
        """Without a result URL the transcript must fit into what a queue takes as output."""
        longest = self.settings.max_audio_seconds
        is_free = self.input.result_url is not None or self.recording is not None
        return longest if is_free else min(longest, self.settings.max_inline_seconds)

    def _find_speech(
        self,
        samples: Callable[[], Iterable[Samples]],
        n_samples: Callable[[], int | None],
        ctx: StageContext,
    ) -> Speech:
        """Find speech in what ``samples`` gives, from the start again where memory ran out."""
        from worker.stages.diarize import recorder_for
        from worker.stages.speech import find_speech

        models = self.models

        def find(ctx: StageContext) -> Speech:
            if not (models.shares_segmentation and self.input.diarize):
                found = find_speech(samples(), models.detector, ctx, n_samples=n_samples)
                return Speech(found, None)
            recorder = recorder_for(models.diarization)
            spans = find_speech(samples(), models.detector, ctx, recorder.add, n_samples)
            return Speech(spans, recorder.activity() if spans else None)

        return self.runner.in_batches(Stage.SPEECH, ctx, models.device.windows_batch_size, find)

    def _find_text_and_speakers(self, waveform: Waveform, speech: Speech) -> Findings:
        """Transcribe; meanwhile align what is transcribed already, and diarize."""
        with TaskGroup(self.token) as group:
            segments = SegmentQueue()
            diarization = group.start(lambda: self._diarize(waveform, speech, group.token))
            alignment = group.start(
                lambda: self._align(waveform, segments, len(speech.spans), group.token)
            )
            try:
                transcription = self._transcribe(waveform, speech.spans, segments, group.token)
            finally:
                segments.close()
            trim_heap()
            return Findings(
                transcription,
                alignment.result(),
                diarization.result(),
                waveform.warnings + self.runner.warnings,
                self.audio_etag,
                () if self._is_stock else speech.spans,
            )

    def _transcribe(
        self,
        waveform: Waveform,
        spans: tuple[SpeechSpan, ...],
        segments: SegmentQueue,
        token: CancelToken,
    ) -> Transcription:
        from worker.stages.transcribe import transcribe

        models = self.models
        found: dict[int, TextSegment] = {}
        with self.runner.stage(Stage.TRANSCRIBE, token) as ctx:
            return self.runner.in_batches(
                Stage.TRANSCRIBE,
                ctx,
                models.device.batch_size,
                lambda ctx: transcribe(
                    waveform,
                    spans,
                    self.input,
                    models.whisper,
                    ctx,
                    segments.put,
                    found,
                    self._needs_times,
                    is_stock=self._is_stock,
                ),
            )

    def _align(
        self, waveform: Waveform, segments: SegmentQueue, count: int, token: CancelToken
    ) -> Alignment:
        """Align segments as they come, of which there will be ``count``: what is there together."""
        aligned: list[tuple[Transcription, Alignment]] = []
        aligner: Aligner | None = None
        done = 0
        on_stream = self.models.device.on_stream_of
        for part in segments:
            with self.runner.stage(Stage.ALIGN, token) as ctx, on_stream(Stage.ALIGN):
                aligner = aligner if aligned else self._aligner(part)
                ctx = ctx.part(done / count, len(part.segments) / count)
                aligned.append((part, self._align_part(waveform, part, aligner, ctx)))
                done += len(part.segments)
        if not aligned:
            with self.runner.stage(Stage.ALIGN, token):
                pass
        return in_order(aligned)

    def _align_part(
        self,
        waveform: Waveform,
        part: Transcription,
        aligner: Aligner | None,
        ctx: StageContext,
    ) -> Alignment:
        from worker.stages.align import align, interpolate

        device = self.models.device
        return self.runner.or_degraded(
            Stage.ALIGN,
            lambda: self.runner.in_batches(
                Stage.ALIGN,
                replace(ctx, lanes=device.lanes),
                device.slices_batch_size,
                lambda ctx: align(
                    waveform,
                    part,
                    aligner,
                    ctx,
                    is_stock=self._is_stock,
                ),
            ),
            lambda: interpolate(waveform, part, aligner.joiner if aligner else " "),
        )

    def _aligner(self, part: Transcription) -> Aligner | None:
        """Return the language's aligner, which a strict job must have, but for a translation."""
        aligner = self._find_aligner(part.language)
        if aligner is None and self.input.strict and part.task == "transcribe":
            message = f"no aligner for {part.language!r}, and the job is strict"
            raise WorkerError(FailureCode.MODEL_UNAVAILABLE, message, Stage.ALIGN)
        return aligner

    def _find_aligner(self, language: str | None) -> Aligner | None:
        """Return a language's aligner, tried once a job; weights that do not load are not there.

        Nobody spoke the words of a translation: it has none.
        """
        if language not in self._aligners:
            is_spoken = self.input.task == "transcribe"
            try:
                found = self.models.aligner(language if is_spoken else None)
            except WorkerError as exc:
                logger.warning("%s", exc)
                found = None
            self._aligners[language] = found
        return self._aligners[language]

    def _needs_times(self, language: str, text: str) -> bool:
        """Tell whether attention must time a text: no aligner, or words it has no letters for."""
        from worker.engines.alignment.labels import Alphabet

        if self._is_stock:
            return False
        aligner = self._find_aligner(language)
        return aligner is None or not Alphabet.of(aligner.metadata).spells_all(text)

    def _diarize(self, waveform: Waveform, speech: Speech, token: CancelToken) -> Diarization:
        if not (self.input.diarize and speech.spans):
            return Diarization()
        from worker.stages.diarize import diarize

        models, device = self.models, self.models.device
        with self.runner.stage(Stage.DIARIZE, token) as ctx, device.on_stream_of(Stage.DIARIZE):
            return self.runner.or_degraded(
                Stage.DIARIZE,
                lambda: self.runner.in_batches(
                    Stage.DIARIZE,
                    ctx,
                    device.windows_batch_size,
                    lambda ctx: diarize(
                        waveform,
                        self.input,
                        models.diarization,
                        ctx,
                        speech.activity,
                        is_stock=self._is_stock,
                    ),
                ),
                lambda: Diarization(warnings=(WarningCode.DIARIZATION_FAILED,)),
            )

    def _attribute(self, findings: Findings, waveform: Waveform) -> tuple[Segment, ...]:
        from worker.stages.attribute import attribute, attribute_as_stock

        with self.runner.stage(Stage.ATTRIBUTE, self.token):
            return (attribute_as_stock if self._is_stock else attribute)(
                findings.alignment,
                findings.diarization,
                waveform.offset_s,
                waveform.duration_s,
            )

    def _deliver(self, document: Transcript) -> dict[str, Any]:
        if self.input.result_url is None:
            self.progress.close()
            return document.model_dump(mode="json")
        body = encode_transcript(document)
        try:
            with self.runner.stage(Stage.DELIVER, self.token):
                self.progress.close()
                sent_to = self.input.result_url, self.input.result_headers
                deliver(body, *sent_to, UrlPolicy.of(self.settings), self.token)
        except JobCancelled:
            raise
        except Exception as exc:  # any failure: the transcript is there and has cost GPU time
            logger.warning("deliver: %s: %s", type(exc).__name__, exc)
            return inline_fallback(document, exc)
        timings, elapsed_s = self.runner.timings, self.runner.elapsed_s
        summary = summarize(document, body, timings, elapsed_s)
        return summary.model_dump(mode="json", exclude_none=True)
