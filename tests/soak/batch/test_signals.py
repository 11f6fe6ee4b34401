"""Ctrl-C and SIGTERM on a batch at work: what is out is seen through or left, never lost."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.soak.batch.ground import Ground, sessions

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
IN_FLIGHT = 2
SLOW_S = 12
ALL = sessions(5, f"--slow-{SLOW_S}")


def started(place: Ground) -> subprocess.Popen[bytes]:
    """Start a batch over slow sessions and return it once its first jobs are out."""
    place.record(ALL)
    with (place.home / "batch.log").open("wb") as output:
        batch = place.start(output, "batch", "--max-in-flight", str(IN_FLIGHT))
    until = time.monotonic() + 60
    while (place.home / "batch.log").read_text().count(" submitted: ") < IN_FLIGHT:
        assert batch.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    return batch


def said(place: Ground) -> str:
    return (place.home / "batch.log").read_text()


def test_one_interrupt_sees_through_what_is_out_and_the_next_batch_does_the_rest(
    place: Ground,
) -> None:
    batch = started(place)
    batch.send_signal(signal.SIGINT)
    assert batch.wait(90) == 130
    assert len(place.submissions()) == IN_FLIGHT
    assert "Not complete: 2 succeeded, 0 failed" in said(place)
    assert "the same command resumes" in said(place)
    assert place.client("batch").returncode == 0
    place.check_each_once(ALL)


@pytest.mark.parametrize("signals", [[signal.SIGINT] * 2, [signal.SIGTERM]])
def test_batch_that_leaves_does_so_at_once_and_the_next_one_follows_its_jobs(
    place: Ground, signals: list[signal.Signals]
) -> None:
    batch = started(place)
    left_at = time.monotonic()
    for number in signals:
        batch.send_signal(number)
        time.sleep(0.2)
    assert batch.wait(30) == 130
    assert time.monotonic() - left_at < SLOW_S - 4
    assert "out: 2 (the same command follows them)" in said(place)
    again = place.client("batch")
    assert again.returncode == 0, again.stderr[-2000:]
    place.check_each_once(ALL)
