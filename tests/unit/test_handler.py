"""The handler: nothing but a strict output or a scrubbed failure leaves it."""

import asyncio
import json
import threading
import time
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


NOTHING = WorkerError(FailureCode.AUDIO_NOT_FOUND, f"nothing at {SIGNED}", Stage.FETCH)


@pytest.mark.parametrize(
    ("error", "code", "stage", "said"),
    [
        (NOTHING, "AUDIO_NOT_FOUND", "fetch", "nothing at https://b.s3.amazonaws.com/k?***"),
        (OSError(f"could not read {SIGNED}"), "INTERNAL", "align", "OSError in the worker"),
    ],
)
def test_an_error_becomes_the_contracts_failure_and_an_unknown_one_is_named_alone(
    runs: Callable[[Work], None], error: Exception, code: str, stage: str, said: str
) -> None:
    def work(_: Any, __: Any, progress: ProgressReporter) -> Any:
        progress.report(Stage.ALIGN)
        raise error

    runs(work)
    answer = call()
    failure = JobFailure.model_validate_json(answer["error"])
    assert (failure.code, failure.stage) == (code, stage)
    assert failure.message.startswith(said)
    assert "5ec2e7" not in json.dumps(answer)


@pytest.mark.parametrize("value", [float("nan"), {1}, object()])
def test_what_the_sdk_could_not_post_is_a_failure(runs: Callable[[Work], None], value: Any) -> None:
    runs(lambda *_: {"value": value})
    assert JobFailure.model_validate_json(call()["error"]).code == "INTERNAL"


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
        def _thread_target() -> None:
            time.sleep(0.2)
            arrived.append(update)

        threading.Thread(target=_thread_target, daemon=True).start()

    monkeypatch.setenv("RUNPOD_WEBHOOK_POST_OUTPUT", "somewhere")
    monkeypatch.setattr(handler.runpod.serverless, "progress_update", like_runpod)

    def work(_: Any, __: Any, progress: ProgressReporter) -> Any:
        progress.report(Stage.FETCH, 0.5)
        return {"status": "ok"}

    runs(work)
    assert call() == {"status": "ok"}
    assert [update["stage"] for update in arrived] == ["fetch"]
