"""Report a job's progress every few seconds, and never after its result.

The SDK sends each update from a thread of its own, unordered, and RunPod takes one that arrives
after the result for a job that still runs (runpod-python #250). So updates are throttled, never
overlap, and `ProgressReporter.close` waits for the last one.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from bucketscribe_contract import PresignedUrl, Progress, ResultHeader, Stage
from worker.cancel import CancelToken, Deadline
from worker.errors import WorkerError
from worker.http import exchange
from worker.urls import UrlPolicy

logger = logging.getLogger(__name__)

Sink = Callable[[dict[str, Any]], None]

# Percent of a job's time that each stage is, fitted to the clock of an hour's job on a CPU. Stages
# of one line overlap and share the cores; all of a line are over when one of the next begins.
_LINES: tuple[dict[Stage, float], ...] = (
    {Stage.VALIDATE: 1.0},
    {Stage.FETCH: 1.0, Stage.DECODE: 1.0, Stage.SPEECH: 28.0},
    {Stage.TRANSCRIBE: 24.0, Stage.ALIGN: 4.0, Stage.DIARIZE: 39.0},
    {Stage.ATTRIBUTE: 1.0},
    {Stage.DELIVER: 1.0},
)
_PERCENT = {stage: percent for line in _LINES for stage, percent in line.items()}
_LINE = {stage: number for number, line in enumerate(_LINES) for stage in line}
_LAST_SEND_S = 5.0


class ProgressReporter:
    """Turns the stages' own shares into the job's percent, and tells the sinks.

    Several threads may report at once.

    Args:
        sinks: Called one after the other, in a thread of the reporter's own.
        interval_s: At least this long between two updates.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shares: dict[Stage, float] = {}
        self._failed: Stage | None = None
        self._lock = threading.Lock()
        self._sinks = list(sinks)
        self._interval_s = interval_s
        self._clock = clock
        self._next_at = clock()
        self._percent = 0.0
        self._sender: threading.Thread | None = None
        self._closed = False

    def add(self, sink: Sink) -> None:
        """Tell one more sink from now on, at once: a short job has ended when the interval has."""
        self._sinks.append(sink)
        self._next_at = self._clock()

    @property
    def stage(self) -> Stage:
        """The first stage that goes on; after a failure, the stage that failed first."""
        if self._failed is not None:
            return self._failed
        begun = [stage for stage in Stage if stage in self._shares]
        open_ones = [stage for stage in begun if self._shares[stage] < 1.0]
        return next(iter(open_ones or begun[-1:]), Stage.VALIDATE)

    def report(self, stage: Stage, share: float = 0.0) -> None:
        """Note that ``share`` (in [0, 1]) of the stage is done; sends it when it is time."""
        with self._lock:
            self._note(stage, min(max(share, 0.0), 1.0))
            if self._closed or not self._sinks or self._clock() < self._next_at:
                return
            if self._sender is not None and self._sender.is_alive():
                return
            self._next_at = self._clock() + self._interval_s
            self._sender = threading.Thread(target=self._send, args=(self._update(),), daemon=True)
            self._sender.start()

    def fail(self, stage: Stage) -> None:
        """Note that the stage failed, unless another did before; it is `stage` from now on."""
        with self._lock:
            self._failed = self._failed or stage

    def _note(self, stage: Stage, share: float) -> None:
        for earlier in _PERCENT:
            if _LINE[earlier] < _LINE[stage]:
                self._shares[earlier] = 1.0
        self._shares[stage] = max(share, self._shares.get(stage, 0.0))
        done = sum(_PERCENT[stage] * share for stage, share in self._shares.items())
        self._percent = max(self._percent, min(done, 100.0))

    def _update(self) -> dict[str, Any]:
        percent = round(self._percent, 1)
        progress = Progress(stage=self.stage, percent=percent, updated_at=datetime.now(UTC))
        return progress.model_dump(mode="json")

    def close(self) -> None:
        """Send nothing more, and wait until what was sent has arrived."""
        with self._lock:
            self._closed = True
            last = self._sender
        if last is not None:
            last.join(_LAST_SEND_S)

    def _send(self, update: dict[str, Any]) -> None:
        for sink in self._sinks:
            sink(update)


def put_to_url(
    url: PresignedUrl,
    result_headers: Mapping[ResultHeader, str],
    policy: UrlPolicy,
    cancel: CancelToken,
) -> Sink:
    """Return a sink that PUTs each update; a refusal is logged, the job goes on."""
    headers = {name: value for name, value in result_headers.items() if name[:3] != "If-"}

    def put(update: dict[str, Any]) -> None:
        deadline = Deadline(_LAST_SEND_S, cancel, Stage.VALIDATE)
        sent = json.dumps(update).encode(), {"Content-Type": "application/json"} | headers
        try:
            with exchange("PUT", url, policy, deadline, *sent) as response:
                if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                    logger.warning("progress: S3 answered %d", response.status)
        except WorkerError as exc:
            logger.warning("progress: %s", exc)

    return put


def joining_threads(send: Sink) -> Sink:
    """Return a sink that waits for the threads that ``send`` starts and gives no handle to."""

    def send_and_wait(update: dict[str, Any]) -> None:
        before = set(threading.enumerate())
        send(update)
        for thread in set(threading.enumerate()) - before:
            if thread.name.endswith("(_thread_target)"):  # runpod's rp_progress.py
                thread.join(_LAST_SEND_S)

    return send_and_wait
