"""The stages of a job, in order. Nothing else names them.

Takes a validated job input; returns the job's output. Raises `WorkerError`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from contract import (
    FailureCode,
    JobInput,
    JobSummary,
    Stage,
    Transcript,
    WarningCode,
)
from worker.align import Aligner, align, interpolate
from worker.attribute import attribute
from worker.cancel import CancelToken
from worker.decode import DecodeLimits, decode
from worker.deliver import deliver
from worker.diarize import diarize
from worker.document import Findings, compose
from worker.download import DownloadLimits
from worker.encode import EncodedTranscript
from worker.errors import JobCancelled, WorkerError
from worker.fetch import fetch
from worker.lifetimes import Speed, check_result_url
from worker.memory import is_poisoned, with_smaller_batches
from worker.models import Models
from worker.progress import ProgressReporter
from worker.rescue import upload_failed
from worker.scratch import job_directory
from worker.settings import WorkerSettings
from worker.speech import find_speech
from worker.transcribe import transcribe
from worker.values import Alignment, Diarization, Transcription, Waveform

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Job:
    """One job on its way through the stages; made for it, gone with it."""

    input: JobInput
    models: Models
    settings: WorkerSettings
    token: CancelToken
    progress: ProgressReporter
    speed: Speed
    timings: dict[Stage, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    warnings: tuple[str, ...] = ()
    is_poisoned: bool = False

    def run(self) -> dict[str, Any]:
        """Go through the stages and return the job's output."""
        with job_directory() as folder:
            waveform = self._listen(folder)
        working_since = time.perf_counter()
        transcription = self._transcribe(waveform)
        alignment = self._align(waveform, transcription)
        diarization = self._diarize(waveform, transcription)
        with self._stage(Stage.ATTRIBUTE):
            segments = attribute(alignment, diarization, waveform.offset_s)
        findings = Findings(transcription, alignment, diarization, self.warnings)
        document = compose(
            self.input, self.models, findings, segments, waveform.duration_s, self._elapsed_s
        )
        self.speed.learn(waveform.duration_s, time.perf_counter() - working_since)
        answer = self._answer(document)
        spent = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in self.timings.items())
        logger.info("%.1f s of audio, seconds spent: %s", waveform.duration_s, spent)
        return answer

    def _listen(self, folder: Path) -> Waveform:
        with self._stage(Stage.FETCH) as share:
            limits = DownloadLimits(self.settings.max_audio_bytes)
            recording = fetch(self.input, folder, limits, self.token, share)
        with self._stage(Stage.DECODE) as share:
            lengths = DecodeLimits(self._max_duration_s, self.input.clip)
            waveform = decode(recording, lengths, self.token, share)
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

    def _transcribe(self, waveform: Waveform) -> Transcription:
        models = self.models
        with self._stage(Stage.SPEECH):
            spans = self._in_batches(
                Stage.SPEECH,
                models.device.windows_batch_size,
                lambda batch: find_speech(waveform, models.detector, batch, self.token),
            )
        with self._stage(Stage.TRANSCRIBE) as share:
            return self._in_batches(
                Stage.TRANSCRIBE,
                models.device.batch_size,
                lambda batch: transcribe(
                    waveform, spans, self.input, models.whisper, batch, self.token, share
                ),
            )

    def _align(self, waveform: Waveform, transcription: Transcription) -> Alignment:
        device = self.models.device.torch_device
        with self._stage(Stage.ALIGN) as share:
            aligner = self._aligner(transcription)
            return self._or_degraded(
                Stage.ALIGN,
                lambda: self._in_batches(
                    Stage.ALIGN,
                    1,
                    lambda _: align(waveform, transcription, aligner, device, self.token, share),
                ),
                lambda: interpolate(waveform, transcription, aligner.joiner if aligner else " "),
            )

    def _aligner(self, transcription: Transcription) -> Aligner | None:
        """Return the language's aligner; weights that do not load are like weights not there."""
        try:
            aligner = self.models.aligner(transcription.language)
        except WorkerError as exc:
            logger.warning("%s", exc)
            aligner = None
        if aligner is None and transcription.segments and self.input.strict:
            message = f"no aligner for {transcription.language!r}, and the job is strict"
            raise WorkerError(FailureCode.MODEL_UNAVAILABLE, message, Stage.ALIGN)
        return aligner

    def _diarize(self, waveform: Waveform, transcription: Transcription) -> Diarization:
        if not (self.input.diarize and transcription.segments):
            return Diarization()
        models = self.models
        with self._stage(Stage.DIARIZE) as share:
            return self._or_degraded(
                Stage.DIARIZE,
                lambda: self._in_batches(
                    Stage.DIARIZE,
                    models.device.windows_batch_size,
                    lambda batch: diarize(
                        waveform, self.input, models.diarization, batch, self.token, share
                    ),
                ),
                lambda: Diarization((), (WarningCode.DIARIZATION_FAILED,)),
            )

    def _in_batches(self, stage: Stage, batch_size: int, run: Callable[[int], T]) -> T:
        """Run a stage in batches that fit into memory; a smaller one is a warning."""
        result, warnings = with_smaller_batches(stage, batch_size, run)
        self.warnings += warnings
        return result

    def _or_degraded(self, stage: Stage, run: Callable[[], T], degraded: Callable[[], T]) -> T:
        """Run a stage whose failure leaves the text worth delivering, unless the job is strict."""
        try:
            return run()
        except WorkerError:
            raise
        except Exception as exc:  # whatever it is: the text is paid for
            logger.warning("%s failed: %s: %s", stage, type(exc).__name__, exc)
            self.is_poisoned = self.is_poisoned or is_poisoned(exc)
            if self.input.strict:
                message = f"{type(exc).__name__} in {stage}, and the job is strict"
                raise WorkerError(FailureCode.INTERNAL, message, stage) from exc
            return degraded()

    def _answer(self, document: Transcript) -> dict[str, Any]:
        if self.input.result_url is None:
            self.progress.close()
            return document.model_dump(mode="json")
        encoded = EncodedTranscript.of(document)
        try:
            with self._stage(Stage.DELIVER):
                self.progress.close()
                deliver(encoded, self.input.result_url)
        except JobCancelled:
            raise
        except Exception as exc:  # whatever it is: the transcript is paid for
            logger.warning("deliver: %s: %s", type(exc).__name__, exc)
            return upload_failed(document, exc)
        summary = JobSummary(
            segments_count=len(document.segments),
            speakers_count=len(document.speakers),
            duration_seconds=document.duration_seconds,
            processing_time_seconds=self._elapsed_s,
            language=document.language,
            warnings=document.warnings,
            result=encoded.stored,
            timings=self.timings,
            request_id=self.input.request_id,
        )
        return summary.model_dump(mode="json", exclude_none=True)

    @property
    def _elapsed_s(self) -> float:
        return round(time.perf_counter() - self.started, 3)

    @contextmanager
    def _stage(self, stage: Stage) -> Iterator[Any]:
        """Time a stage; gives a function that takes the share of it that is done."""
        self.token.check(stage)
        self.progress.report(stage)
        started = time.perf_counter()
        try:
            yield lambda share: self.progress.report(stage, share)
        finally:
            self.timings[stage] = round(time.perf_counter() - started, 3)
