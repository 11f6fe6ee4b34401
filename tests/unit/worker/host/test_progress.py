"""Progress: throttled, rising, and silent once the result is on its way."""

import threading
import time
from typing import Any

import pytest

from bucketscribe_contract import Progress, Stage
from tests.fakes.worker import LOOPBACK, Answer, LoopbackS3
from worker.cancel import CancelToken
from worker.host.progress import ProgressReporter, joining_threads, put_to_url

Updates = list[dict[str, Any]]


def wait_for(sent: Updates, count: int) -> None:
    """Let the reporter's thread deliver."""
    deadline = time.monotonic() + 5
    while len(sent) < count and time.monotonic() < deadline:
        time.sleep(0.005)


def test_updates_keep_their_distance() -> None:
    now, sent = [100.0], Updates()
    reporter = ProgressReporter([sent.append], interval_s=3.0, clock=lambda: now[0])
    for step in range(100):
        now[0] = 100 + step * 0.1
        reporter.report(Stage.TRANSCRIBE, step / 100)
        wait_for(sent, int(step * 0.1 / 3.0) + 1)
    assert len(sent) == 4


def test_what_is_added_later_is_told_though_the_interval_has_not_passed() -> None:
    sent, file = Updates(), Updates()
    reporter = ProgressReporter([sent.append], interval_s=3.0, clock=lambda: 100.0)
    reporter.report(Stage.VALIDATE)
    wait_for(sent, 1)
    reporter.add(file.append)
    while not file:
        reporter.report(Stage.FETCH)
    assert [update["stage"] for update in file] == ["fetch"]


def test_percent_never_falls_and_has_the_contracts_shape() -> None:
    sent = Updates()
    reporter = ProgressReporter([sent.append], interval_s=0.0)
    for number, (stage, share) in enumerate(
        [(Stage.FETCH, 0.5), (Stage.DIARIZE, 0.9), (Stage.ALIGN, 0.1), (Stage.DELIVER, 2.0)], 1
    ):
        reporter.report(stage, share)
        wait_for(sent, number)
    updates = [Progress.model_validate(update) for update in sent]
    percents = [update.percent for update in updates]
    assert percents == sorted(percents)
    assert percents[-1] == 100.0
    assert updates[0].stage is Stage.FETCH


def test_overlapping_stages_add_up_and_the_first_that_goes_on_is_named() -> None:
    reporter = ProgressReporter([], interval_s=0.0)
    reporter.report(Stage.TRANSCRIBE)
    reporter.report(Stage.DIARIZE)
    reporter.report(Stage.TRANSCRIBE, 0.5)
    begun = reporter._percent
    reporter.report(Stage.DIARIZE, 0.5)
    assert reporter.stage is Stage.TRANSCRIBE
    reporter.report(Stage.TRANSCRIBE, 1.0)
    assert reporter.stage is Stage.DIARIZE
    both = reporter._percent
    reporter.report(Stage.TRANSCRIBE, 0.1)
    assert reporter._percent == both
    assert (begun, both) == (pytest.approx(43), pytest.approx(74.5))
    reporter.report(Stage.ATTRIBUTE)
    assert reporter.stage is Stage.ATTRIBUTE
    assert reporter._percent == pytest.approx(98)


def test_the_stage_that_failed_first_stays_named() -> None:
    reporter = ProgressReporter([], interval_s=0.0)
    reporter.report(Stage.TRANSCRIBE)
    reporter.fail(Stage.ALIGN)
    reporter.fail(Stage.TRANSCRIBE)
    reporter.report(Stage.DIARIZE)
    assert reporter.stage is Stage.ALIGN


def test_nothing_is_sent_after_close_and_close_waits() -> None:
    release, sent = threading.Event(), Updates()

    def slow(update: dict[str, Any]) -> None:
        release.wait(5)
        sent.append(update)

    reporter = ProgressReporter([slow], interval_s=0.0)
    reporter.report(Stage.FETCH)
    threading.Timer(0.2, release.set).start()
    reporter.close()
    assert len(sent) == 1
    reporter.report(Stage.DELIVER)
    reporter.close()
    assert len(sent) == 1


def test_the_sdks_threads_are_waited_for() -> None:
    from runpod.serverless.modules import rp_progress

    assert rp_progress._thread_target.__name__ == "_thread_target"
    done = threading.Event()

    def _thread_target() -> None:
        time.sleep(0.2)
        done.set()

    def like_runpod(_: dict[str, Any]) -> None:
        threading.Thread(target=_thread_target, daemon=True).start()

    joining_threads(like_runpod)({})
    assert done.is_set()


@pytest.mark.parametrize("status", [200, 403])
def test_the_progress_file_is_put_and_a_refusal_does_not_stop_the_job(
    s3: LoopbackS3, status: int
) -> None:
    s3.answers = [Answer(status)]
    headers: dict[Any, str] = {"x-amz-acl": "private", "If-Match": "e"}
    put_to_url(s3.url(), headers, LOOPBACK, CancelToken())(
        {"stage": "fetch", "percent": 1.0, "updated_at": "2026-01-01T00:00:00Z"}
    )
    method, _, headers, body = s3.requests[0]
    assert method == "PUT"
    assert headers["Content-Type"] == "application/json"
    assert (headers["x-amz-acl"], "If-Match" in headers) == ("private", False)
    assert Progress.model_validate_json(body).percent == 1.0
