"""The numbers of RunPod's queue, each of which a test may shrink.

Sources: docs.runpod.io (serverless: endpoints, job states, webhooks) and the SDK's source.
"""

from dataclasses import dataclass

MB = 1_000_000


@dataclass(frozen=True)
class RateRule:
    """The most requests of one kind in a window, and at one moment."""

    per_window: int
    at_once: int


@dataclass(frozen=True)
class QueueRules:
    """Limits and intervals of the queue; the defaults are RunPod's where RunPod has one.

    Attributes:
        max_run_bytes: Largest body of ``/run``.
        max_runsync_bytes: Largest body of ``/runsync``.
        max_result_bytes: Largest result a worker may post (the SDK warns above 20 MB).
        retention_s: How long the result of a ``/run`` job is kept after it ended.
        sync_retention_s: The same for ``/runsync``.
        worker_silence_s: A worker that did not ping for so long has lost its jobs.
        take_poll_s: How long ``job-take`` and ``job-stop`` are held open. The SDK gives up
            after 90 s, and a worker told to stop waits for the open one to end.
        sync_wait_s: How long ``/runsync`` and ``/status-sync`` are held open.
        webhook_retries: Further tries after a webhook's first answer was not 200.
        webhook_interval_s: Time between two such tries.
        webhook_timeout_s: Patience with one webhook request.
        rate_window_s: The window of the rates.
        run_rate: Of ``/run``; beyond it clients get 429, as with the others.
        status_rate: Of ``/status``.
        cancel_rate: Of ``/cancel``.
        purge_rate: Of ``/purge-queue``; RunPod names no limit at one moment.
    """

    max_run_bytes: int = 10 * MB
    max_runsync_bytes: int = 20 * MB
    max_result_bytes: int = 20 * MB
    retention_s: float = 1800.0
    sync_retention_s: float = 60.0
    worker_silence_s: float = 10.0
    take_poll_s: float = 5.0
    sync_wait_s: float = 90.0
    webhook_retries: int = 2
    webhook_interval_s: float = 10.0
    webhook_timeout_s: float = 5.0
    rate_window_s: float = 10.0
    run_rate: RateRule = RateRule(1000, 200)
    status_rate: RateRule = RateRule(2000, 400)
    cancel_rate: RateRule = RateRule(100, 20)
    purge_rate: RateRule = RateRule(2, 2)
