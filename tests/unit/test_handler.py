"""The handler: nothing but a strict output or a scrubbed failure leaves it."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

import handler
from bucketscribe_contract import FailureCode, JobFailure, Stage
from worker.cancel import CancelToken
from worker.errors import JobCancelled, WorkerError
from worker.host.progress import ProgressReporter

SIGNED = "https://b.s3.amazonaws.com/k?X-Amz-Signature=5ec2e7"
Work = Callable[[Any, CancelToken, ProgressReporter], Any]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Work], None]:
    """Put other work in the place of the pipeline."""
    return lambda work: monkeypatch.setattr(handler.runtime, "run", work)


def call() -> dict[str, Any]:
    """Run one job to its end."""
    return asyncio.run(handler.handler({"id": "job-1", "input": {"audio_url": SIGNED}}))


def failure() -> JobFailure:
    """Run a job that must fail."""
    return JobFailure.model_validate_json(call()["error"])


def test_a_worker_error_becomes_the_contracts_failure(runs: Callable[[Work], None]) -> None:
    def work(*_: Any) -> Any:
        raise WorkerError(FailureCode.AUDIO_NOT_FOUND, f"nothing at {SIGNED}", Stage.FETCH)

    runs(work)
    found = failure()
    assert (found.code, found.stage, found.retryable) == ("AUDIO_NOT_FOUND", "fetch", False)
    assert "5ec2e7" not in found.message


def test_an_unknown_error_is_named_without_its_text(runs: Callable[[Work], None]) -> None:
    def work(_: Any, __: Any, progress: ProgressReporter) -> Any:
        progress.report(Stage.ALIGN)
        raise OSError(f"could not read {SIGNED}")

    runs(work)
    found = failure()
    assert (found.code, found.stage) == ("INTERNAL", "align")
    assert "OSError" in found.message
    assert "5ec2e7" not in json.dumps(call())


@pytest.mark.parametrize("value", [float("nan"), {1}, object()])
def test_what_the_sdk_could_not_post_is_a_failure(runs: Callable[[Work], None], value: Any) -> None:
    runs(lambda *_: {"value": value})
    assert failure().code == "INTERNAL"


def test_cancelling_sets_the_token_and_waits_for_the_models(runs: Callable[[Work], None]) -> None:
    started, ended = threading.Event(), threading.Event()

    def work(_: Any, token: CancelToken, __: Any) -> Any:
        started.set()
        while not token.is_cancelled:
            threading.Event().wait(0.01)
        ended.set()
        raise JobCancelled(Stage.TRANSCRIBE)

    runs(work)

    async def cancel_it() -> None:
        task = asyncio.create_task(handler.handler({"id": "job-1", "input": {}}))
        await asyncio.to_thread(started.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(cancel_it())


def test_progress_is_over_when_the_result_is_returned(
    runs: Callable[[Work], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived: list[Any] = []

    def like_runpod(_: Any, update: Any) -> None:
        thread = threading.Thread(target=_thread_target, args=(update,), daemon=True)
        thread.start()

    def _thread_target(update: Any) -> None:
        threading.Event().wait(0.2)
        arrived.append(update)

    monkeypatch.setenv("RUNPOD_WEBHOOK_POST_OUTPUT", "somewhere")
    monkeypatch.setattr(handler.runpod.serverless, "progress_update", like_runpod)

    def work(_: Any, __: Any, progress: ProgressReporter) -> Any:
        progress.report(Stage.FETCH, 0.5)
        return {"status": "ok"}

    runs(work)
    assert call() == {"status": "ok"}
    assert [update["stage"] for update in arrived] == ["fetch"]
