"""How far a job is, told at most every few seconds, and never after its result.

The SDK sends each progress update from a thread of its own, unordered, and RunPod takes one
that arrives after the result for a job that still runs (runpod-python #250). So updates are
throttled, never overlap, and `ProgressReporter.close` waits for the last one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from contract import PresignedUrl, Progress, Stage
from worker.errors import WorkerError
from worker.storage import exchange

logger = logging.getLogger(__name__)

Sink = Callable[[dict[str, Any]], None]

# Share of a job that is done when each stage begins, in percent, from timings of real jobs.
_BEGINS = {
    Stage.VALIDATE: 0.0,
    Stage.FETCH: 1.0,
    Stage.DECODE: 5.0,
    Stage.SPEECH: 7.0,
    Stage.TRANSCRIBE: 17.0,
    Stage.ALIGN: 50.0,
    Stage.DIARIZE: 60.0,
    Stage.ATTRIBUTE: 97.0,
    Stage.DELIVER: 98.0,
}
_ENDS = dict(zip(_BEGINS, [*list(_BEGINS.values())[1:], 100.0], strict=True))
_LAST_SEND_S = 5.0


class ProgressReporter:
    """Turns a stage's own share into the job's percent, and tells the sinks.

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
        self.stage = Stage.VALIDATE
        self._sinks = list(sinks)
        self._interval_s = interval_s
        self._clock = clock
        self._next_at = clock()
        self._percent = 0.0
        self._sender: threading.Thread | None = None
        self._closed = False

    def add(self, sink: Sink) -> None:
        """Tell one more sink from now on."""
        self._sinks.append(sink)

    def report(self, stage: Stage, share: float = 0.0) -> None:
        """Note that ``share`` (in [0, 1]) of the stage is done; sends it when it is time."""
        self.stage = stage
        begin, end = _BEGINS[stage], _ENDS[stage]
        self._percent = max(self._percent, begin + (end - begin) * min(max(share, 0.0), 1.0))
        if self._closed or not self._sinks or self._clock() < self._next_at:
            return
        if self._sender is not None and self._sender.is_alive():
            return
        self._next_at = self._clock() + self._interval_s
        progress = Progress(
            stage=stage, percent=round(self._percent, 1), updated_at=datetime.now(UTC)
        )
        update = progress.model_dump(mode="json")
        self._sender = threading.Thread(target=self._send, args=(update,), daemon=True)
        self._sender.start()

    def close(self) -> None:
        """Send nothing more, and wait until what was sent has arrived."""
        self._closed = True
        if self._sender is not None:
            self._sender.join(_LAST_SEND_S)

    def _send(self, update: dict[str, Any]) -> None:
        for sink in self._sinks:
            sink(update)


def into_url(url: PresignedUrl) -> Sink:
    """Return a sink that PUTs each update; a refusal is logged, the job goes on."""

    def put(update: dict[str, Any]) -> None:
        try:
            with exchange("PUT", url, Stage.VALIDATE, json=update) as response:
                if not response.ok:
                    logger.warning("progress: S3 answered %d", response.status_code)
        except WorkerError as exc:
            logger.warning("progress: %s", exc)

    return put


def awaiting_threads(send: Sink) -> Sink:
    """Return a sink that waits for the threads that ``send`` starts and gives no handle to."""

    def send_and_wait(update: dict[str, Any]) -> None:
        before = set(threading.enumerate())
        send(update)
        for thread in set(threading.enumerate()) - before:
            if thread.name.endswith("(_thread_target)"):  # runpod's rp_progress.py
                thread.join(_LAST_SEND_S)

    return send_and_wait
