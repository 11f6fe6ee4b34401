"""Runtime: what a worker process keeps between jobs, its settings and its models."""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bucketscribe_contract import FailureCode, JobInput, Stage
from worker.cancel import CancelToken
from worker.engines.decoder.process import start_spare
from worker.errors import WorkerError
from worker.host.health import Check, checks
from worker.host.log import JobLog, quiet_libraries
from worker.host.progress import ProgressReporter, Sink, joining_threads, put_to_url
from worker.memory import MemoryGrowth, is_poisoned, tune_malloc
from worker.models.folder import ModelsFolder, find_models
from worker.pipeline import Job
from worker.settings import WorkerSettings
from worker.stages.deliver import checked_output
from worker.stages.fetch import local_recording, remove_stale_directories
from worker.stages.validate import Speed, validate
from worker.types import Recording
from worker.urls import UrlPolicy

if TYPE_CHECKING:
    from worker.models.load import Models


logger = logging.getLogger(__name__)
_SPEED_ON_CPU, _SPEED_ON_CUDA = 1.0, 0.1  # seconds a second of audio, before the first job


class Runtime:
    """Runs jobs one after the other on models that are loaded once.

    Heavy imports are done where the models are loaded, in a thread: a job that fails validation
    needs none of them, and the first job's recording is fetched meanwhile.
    """

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        tune_malloc()
        self.settings = settings or WorkerSettings()
        self._models: Models | None = None
        self._found: ModelsFolder | None = None
        self._log: JobLog | None = None
        self._loading = threading.Lock()
        self._speed = Speed(_SPEED_ON_CPU)
        self._growth = MemoryGrowth(self.settings.recycle_growth)
        self._must_recycle = False
        self._turn = threading.Lock()
        self._policy = UrlPolicy.of(self.settings)
        if self.settings.allow_loopback_urls:
            logger.warning("ALLOW_LOOPBACK_URLS is set: http and loopback URLs are taken")

    def load(self) -> Models:
        """Return the models; load them first, or wait for whoever loads them.

        Raises:
            WorkerError: ``MODEL_UNAVAILABLE``.
        """
        with self._loading:
            if self._models is None:
                self._models = self._load()
            return self._models

    def _load_for_job(self) -> Models:
        started = time.perf_counter()
        try:
            return self.load()
        finally:
            if self._log is not None:
                self._log.models_s = time.perf_counter() - started

    def _load(self) -> Models:
        from worker.models.load import load_models

        quiet_libraries()
        models = load_models(self.settings, self.find_models())
        if models.device.name == "cuda":
            self._speed.seconds_per_second = _SPEED_ON_CUDA
        return models

    def find_models(self) -> ModelsFolder:
        """Return the models folder; look for it until there is one, then never again.

        Raises:
            WorkerError: ``MODEL_UNAVAILABLE``.
        """
        if self._found is None:
            self._found = find_models(self.settings)
            for why in self._found.passed_over:
                logger.warning("not used: %s", why)
            logger.info("%s", self._found)
        return self._found

    def register_checks(self, register: Callable[[Check], object]) -> None:
        """Hand the SDK what it runs before the worker's first job."""
        for check in checks(self.settings, self.find_models, self.load):
            register(check)

    def load_early(self) -> None:
        """Load the models in a thread; if they do not load, each job tries again and fails.

        A missing models folder is reported by the health check. The first job's decoder is started.
        """
        volume = self.settings.models_volume
        if os.access(volume, os.W_OK):  # what CUDA compiles for a GPU outlives the worker there
            os.environ.setdefault("CUDA_CACHE_PATH", str(volume / "cuda-cache"))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump holds recordings and URLs
        start_spare()
        left = remove_stale_directories()
        if left:
            logger.info("removed %d directories that killed processes left", left)
        with suppress(WorkerError):
            self.find_models()
            threading.Thread(target=self._load_or_log, name="load", daemon=True).start()

    def _load_or_log(self) -> None:
        try:
            self.load().get_ready_for_more()
        except WorkerError as exc:
            logger.critical("%s", exc)

    def run(self, raw: Any, token: CancelToken, progress: ProgressReporter) -> dict[str, Any]:
        """Run one job to its output.

        Raises:
            WorkerError: What the contract has a code for.
        """
        progress.report(Stage.VALIDATE)
        job = validate(raw, self._policy, token)
        if job.progress_url is not None:
            sent_to = job.progress_url, job.result_headers
            progress.add(put_to_url(*sent_to, self._policy, token))
        with self._turn:
            self.find_models()  # without models nothing is worth fetching
            return self._run(job, token, progress)

    def run_local(
        self, path: Path, options: dict[str, Any], token: CancelToken, progress: ProgressReporter
    ) -> dict[str, Any]:
        """Transcribe a file of this machine; return the document. Raises as `run`.

        Args:
            path: The recording.
            options: Fields of `JobOptions`.
            token: As in `run`.
            progress: As in `run`.
        """
        progress.report(Stage.VALIDATE)
        job = validate({"audio_base64": ""} | options, self._policy, token)
        recording = local_recording(path)
        self.find_models()
        self.load_early()
        return self._run(job, token, progress, recording)

    def _run(
        self,
        job: JobInput,
        token: CancelToken,
        progress: ProgressReporter,
        recording: Recording | None = None,
    ) -> dict[str, Any]:
        loaded = self._models or self._load_for_job
        running = Job(job, loaded, self.settings, token, progress, self._speed, recording)
        try:
            output = running.run()
        except WorkerError as exc:
            unloadable = exc.code is FailureCode.MODEL_UNAVAILABLE and self._models is None
            self._must_recycle |= unloadable or exc.code is FailureCode.OUT_OF_MEMORY
            raise
        except RuntimeError as exc:
            self._must_recycle |= is_poisoned(exc)
            raise
        else:  # one that failed early would be a low measure for those that follow
            size = running.audio_s or 0.0, running.models.aligners_loaded
            self._must_recycle |= self._growth.is_too_much(*size)
            return output
        finally:
            self._must_recycle |= running.runner.is_poisoned
            start_spare()  # the next job's decoder gets ready while the worker is idle
            if self._log is not None:
                self._log.audio_s, self._log.stages = running.audio_s, running.runner.timings
                self._log.warnings = running.warnings or running.runner.warnings

    def finish(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return the output as the SDK may post it, asking for a fresh worker where one is needed.

        Raises:
            ValueError: The output is not strict JSON, or too large; then the job is not over.
        """
        checked = checked_output(output)
        if self._must_recycle:
            logger.warning("asking RunPod for a fresh worker")
            checked["refresh_worker"] = True
        if self._log is not None:
            self._log.close(checked)
            self._log = None
        return checked

    def begin(self, job_id: str | None, send: Callable[[dict[str, Any]], Any]) -> ProgressReporter:
        """Start the log of a job, which `finish` closes; return what reports its progress.

        Args:
            job_id: RunPod's.
            send: Takes its progress on RunPod; a local run has nobody to send to.
        """
        self._log = JobLog(job_id)
        on_runpod = "RUNPOD_WEBHOOK_POST_OUTPUT" in os.environ
        sinks: list[Sink] = [joining_threads(send)] if on_runpod else []
        return ProgressReporter(sinks, self.settings.progress_interval_seconds)
