"""The stages of a job, in order. Nothing else names them.

Takes a validated job input; returns the job's output. Raises `WorkerError`.

This module is light (`worker.pipeline`), so that a fresh worker fetches its first recording while
torch is imported and the models are loaded.

Text on its way from transcription to alignment, batch by batch, and back into order.

The stages that need the models, each imported when it is first run.

`worker.pipeline` takes them from here, and is light: with what they import, torch would come first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from bucketscribe_contract import FailureCode, JobInput, Segment, Stage, Transcript, WarningCode
from worker.cancel import CancelToken
from worker.errors import JobCancelled, WorkerError
from worker.execution import Branches, Course
from worker.host.progress import ProgressReporter
from worker.memory import give_back
from worker.settings import WorkerSettings
from worker.stages.decode import DecodeLimits, decode
from worker.stages.deliver import (
    EncodedTranscript,
    Findings,
    compose,
    deliver,
    summary_of,
    upload_failed,
)
from worker.stages.fetch import FILE, DownloadLimits, fetch, job_directory
from worker.stages.stream import Arrival, NotFollowed
from worker.stages.validate import Speed, check_result_url
from worker.types import (
    Alignment,
    Diarization,
    Samples,
    SpeechSpan,
    TextSegment,
    TimedSegment,
    Transcription,
    Waveform,
)

if TYPE_CHECKING:
    from worker.engines.alignment.acoustic import Aligner
    from worker.engines.diarization.activity import Activity, ActivityRecorder
    from worker.models.load import Models


class Handover:
    """Parts of a transcription, put by one thread and taken by another."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Transcription | None] = SimpleQueue()

    def put(self, part: Transcription) -> None:
        """Hand on some segments."""
        self._queue.put(part)

    def close(self) -> None:
        """Hand on nothing more."""
        self._queue.put(None)

    def __iter__(self) -> Iterator[Transcription]:
        """Give what has gathered since the last time, in order, until it is closed."""
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
    left = _letters(segment.text)
    found: list[TimedSegment] = []
    while left > 0 and (sentence := next(sentences, None)) is not None:
        found.append(sentence)
        left -= _letters(sentence.text)
    return found


def _letters(text: str) -> int:
    return len("".join(text.split()))


def _time(segment: TextSegment) -> tuple[float, float]:
    return segment.start, segment.end


def _late(module: str, name: str) -> Callable[..., Any]:
    """Return a function that is imported when it is first called."""

    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(import_module(module), name)(*arguments, **named)

    return call


find_speech: Callable[..., tuple[SpeechSpan, ...]] = _late("worker.stages.speech", "find_speech")
transcribe: Callable[..., Transcription] = _late("worker.stages.transcribe", "transcribe")
align: Callable[..., Alignment] = _late("worker.stages.align", "align")
interpolate: Callable[..., Alignment] = _late("worker.stages.align", "interpolate")
starting_batch_size: Callable[..., int] = _late(
    "worker.engines.alignment.acoustic", "starting_batch_size"
)
diarize: Callable[..., Diarization] = _late("worker.stages.diarize", "diarize")
recorder_for: Callable[..., ActivityRecorder] = _late("worker.stages.diarize", "recorder_for")
attribute: Callable[..., tuple[Segment, ...]] = _late("worker.stages.attribute", "attribute")


logger = logging.getLogger(__name__)


def _part_of(
    share: Callable[[float], None], start: float, length: float
) -> Callable[[float], None]:
    """Return what takes the share of a part that is done."""
    return lambda done: share(start + length * done)


@dataclass(frozen=True)
class Speech:
    """Where somebody speaks, and what diarization would find by looking at the same windows."""

    spans: tuple[SpeechSpan, ...]
    activity: Activity | None


@dataclass
class Job:
    """One job on its way through the stages; made for it, gone with it.

    ``loaded`` may be a function that gives the models: it is called when the recording is there.
    Where they are loaded already, speech is found while the recording arrives.
    """

    input: JobInput
    loaded: Models | Callable[[], Models]
    settings: WorkerSettings
    token: CancelToken
    progress: ProgressReporter
    speed: Speed
    course: Course = field(init=False)
    _arrived: float = field(default=0.0, init=False)
    audio_etag: str | None = field(default=None, init=False)
    audio_s: float | None = field(default=None, init=False)
    warnings: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        self.course = Course(self.progress, self.input.strict)

    def run(self) -> dict[str, Any]:
        """Go through the stages and return the job's output."""
        with job_directory() as folder:
            waveform, speech = self._listen(folder)
        findings = self._hear(waveform, speech)
        with self.course.stage(Stage.ATTRIBUTE, self.token):
            segments = attribute(findings.alignment, findings.diarization, waveform.offset_s)
        document = compose(
            self.input,
            self.models,
            findings,
            segments,
            waveform.duration_s,
            self.course.elapsed_s,
        )
        self.speed.learn(waveform.duration_s, time.perf_counter() - self._arrived)
        self.warnings = document.warnings
        return self._answer(document)

    @property
    def timings(self) -> dict[Stage, float]:
        """Seconds by stage."""
        return self.course.timings

    @property
    def is_poisoned(self) -> bool:
        """Whether the GPU is of no use to this process any more."""
        return self.course.is_poisoned

    @cached_property
    def models(self) -> Models:
        """The models; waits until they are loaded."""
        return self.loaded() if callable(self.loaded) else self.loaded

    def _listen(self, folder: Path) -> tuple[Waveform, Speech]:
        """Fetch and decode; find speech meanwhile where that can be, and afterwards elsewhere."""
        with Branches(self.token) as branches:
            arrival = Arrival(folder / FILE, branches.token)
            follows = self.input.clip is None and not callable(self.loaded)
            early = branches.start(lambda: self._follow(arrival)) if follows else None
            try:
                waveform = self._fetch(folder, arrival, branches.token)
            finally:
                arrival.end()
            with self.course.stage(Stage.SPEECH, branches.token):
                speech = early.result() if early else None
                if speech is None:
                    speech = self._find_speech([waveform.samples], branches.token)
            give_back()
        return waveform, speech

    def _follow(self, arrival: Arrival) -> Speech | None:
        """Find speech in what arrives; None where that has to wait until all is there."""
        try:
            return self._find_speech(arrival, arrival.token)
        except NotFollowed as exc:
            logger.debug("speech is found afterwards: %s", exc)
            return None
        except Exception:
            self.progress.fail(Stage.SPEECH)
            raise

    def _fetch(self, folder: Path, arrival: Arrival, token: CancelToken) -> Waveform:
        with self.course.stage(Stage.FETCH, token) as share:
            limits = DownloadLimits(self.settings.max_audio_bytes)
            recording = fetch(self.input, folder, limits, token, share, arrival.grow)
            self.audio_etag = recording.etag
        with self.course.stage(Stage.DECODE, token) as share:
            lengths = DecodeLimits(self._max_duration_s, self.input.clip)
            waveform = decode(recording, lengths, token, share)
            self.audio_s = waveform.duration_s
        self._arrived = time.perf_counter()
        _ = self.models  # how long a job takes is known when it is known what runs it
        if self.input.result_url is not None:
            check_result_url(
                self.input.result_url, waveform.duration_s, self.speed, recording.clock_skew_s
            )
        return waveform

    @property
    def _max_duration_s(self) -> float:
        """Without a result URL the transcript must fit into the job's output."""
        longest = self.settings.max_audio_seconds
        return longest if self.input.result_url else min(longest, self.settings.max_inline_seconds)

    def _hear(self, waveform: Waveform, speech: Speech) -> Findings:
        """Find what is said, when and by whom: who speaks while the text is still written."""
        spans, activity = speech.spans, speech.activity
        with Branches(self.token) as branches:
            text = Handover()
            diarization = branches.start(
                lambda: self._diarize(waveform, spans, activity, branches.token)
            )
            alignment = branches.start(
                lambda: self._align(waveform, text, len(spans), branches.token)
            )
            try:
                transcription = self._transcribe(waveform, spans, text, branches.token)
            finally:
                text.close()
            give_back()
            return Findings(
                transcription,
                alignment.result(),
                diarization.result(),
                self.course.warnings,
                self.audio_etag,
            )

    def _find_speech(self, parts: Iterable[Samples], token: CancelToken) -> Speech:
        models = self.models
        borrows = self.settings.speech_from_diarization and self.input.diarize
        is_shared = borrows or (models.shares_segmentation and self.input.diarize)
        finder = models.diarization if borrows else models.detector

        def find(batch: int) -> Speech:
            if not is_shared:
                return Speech(find_speech(parts, finder, batch, token), None)
            recorder = recorder_for(models.diarization)
            spans = find_speech(parts, finder, batch, token, recorder.add)
            return Speech(spans, recorder.activity() if spans else None)

        return self.course.in_batches(Stage.SPEECH, models.device.windows_batch_size, find)

    def _transcribe(
        self,
        waveform: Waveform,
        spans: tuple[SpeechSpan, ...],
        text: Handover,
        token: CancelToken,
    ) -> Transcription:
        models = self.models
        found: dict[int, TextSegment] = {}
        with self.course.stage(Stage.TRANSCRIBE, token) as share:
            return self.course.in_batches(
                Stage.TRANSCRIBE,
                models.device.batch_size,
                lambda batch: transcribe(
                    waveform,
                    spans,
                    self.input,
                    models.whisper,
                    batch,
                    token,
                    share,
                    text.put,
                    found,
                ),
            )

    def _align(
        self, waveform: Waveform, text: Handover, count: int, token: CancelToken
    ) -> Alignment:
        """Align segments as they come; all that have gathered meanwhile at once."""
        aligned: list[tuple[Transcription, Alignment]] = []
        aligner: Aligner | None = None
        done = 0
        for part in text:
            with self.course.stage(Stage.ALIGN, token) as share:
                aligner = aligner if aligned else self._aligner(part.language)
                step = _part_of(share, done / count, len(part.segments) / count)
                aligned.append((part, self._align_part(waveform, part, aligner, token, step)))
                done += len(part.segments)
        if not aligned:
            with self.course.stage(Stage.ALIGN, token):
                pass
        return in_order(aligned)

    def _align_part(
        self,
        waveform: Waveform,
        part: Transcription,
        aligner: Aligner | None,
        token: CancelToken,
        share: Callable[[float], None],
    ) -> Alignment:
        device, lanes = self.models.device.torch_device, self.models.device.lanes
        return self.course.or_degraded(
            Stage.ALIGN,
            lambda: self.course.in_batches(
                Stage.ALIGN,
                starting_batch_size(device),
                lambda batch: align(waveform, part, aligner, device, token, share, batch, lanes),
            ),
            lambda: interpolate(waveform, part, aligner.joiner if aligner else " "),
        )

    def _aligner(self, language: str | None) -> Aligner | None:
        """Return the language's aligner; weights that do not load are like weights not there."""
        try:
            aligner = self.models.aligner(language)
        except WorkerError as exc:
            logger.warning("%s", exc)
            aligner = None
        if aligner is None and self.input.strict:
            message = f"no aligner for {language!r}, and the job is strict"
            raise WorkerError(FailureCode.MODEL_UNAVAILABLE, message, Stage.ALIGN)
        return aligner

    def _diarize(
        self,
        waveform: Waveform,
        spans: tuple[SpeechSpan, ...],
        activity: Activity | None,
        token: CancelToken,
    ) -> Diarization:
        if not (self.input.diarize and spans):
            return Diarization()
        models, device = self.models, self.models.device
        with self.course.stage(Stage.DIARIZE, token) as share, device.on_side_stream():
            return self.course.or_degraded(
                Stage.DIARIZE,
                lambda: self.course.in_batches(
                    Stage.DIARIZE,
                    device.windows_batch_size,
                    lambda batch: diarize(
                        waveform, self.input, models.diarization, batch, token, share, activity
                    ),
                ),
                lambda: Diarization((), (WarningCode.DIARIZATION_FAILED,)),
            )

    def _answer(self, document: Transcript) -> dict[str, Any]:
        if self.input.result_url is None:
            self.progress.close()
            return document.model_dump(mode="json")
        encoded = EncodedTranscript.of(document)
        try:
            with self.course.stage(Stage.DELIVER, self.token):
                self.progress.close()
                deliver(encoded, self.input.result_url)
        except JobCancelled:
            raise
        except Exception as exc:  # whatever it is: the transcript is paid for
            logger.warning("deliver: %s: %s", type(exc).__name__, exc)
            return upload_failed(document, exc)
        summary = summary_of(document, encoded.stored, self.timings, self.course.elapsed_s)
        return summary.model_dump(mode="json", exclude_none=True)
