"""The inbox: bounded, each session once, none at work twice; its threads outlive errors."""

import queue
import threading
from collections.abc import Callable, Iterator
from unittest.mock import Mock

import pytest

from edge_client.errors import StorageRefused
from edge_client.session import Session
from edge_client.webhook.inbox import Inbox, Settlers
from tests.unit.edge_client.samples import FakeClock
from tests.unit.edge_client.webhook.conftest import Recorder

A, B, C = (Session("u", name) for name in "abc")


def test_full_inbox_takes_nothing_new_and_a_closed_one_counts_what_it_leaves() -> None:
    inbox = Inbox(3)
    takes = [inbox.offer(session) for session in (A, B, A, C, Session("u", "d"))]
    assert takes == [True] * 4 + [False]
    assert [inbox.take(), inbox.take()] == [A, B]
    assert not inbox.offer(Session("u", "d"))  # those at work count
    inbox.release(B)
    assert inbox.offer(Session("u", "d"))
    assert inbox.close() == 2
    inbox.release(A, again_in_s=1.0)
    assert inbox.take() is None
    assert not inbox.offer(B)


def test_session_called_about_while_at_work_comes_again_once_afterwards() -> None:
    inbox = Inbox(10)
    inbox.offer(A)
    inbox.take()
    assert inbox.offer(A)
    assert inbox.offer(B)
    assert inbox.take() is B  # not A: somebody is at it
    inbox.release(A)
    assert inbox.take() is A
    inbox.release(A)
    assert inbox.offer(C)
    assert inbox.take() is C


def test_deferred_session_waits_and_a_call_does_not_hurry_it() -> None:
    clock = FakeClock()
    inbox = Inbox(10, clock.monotonic)
    inbox.offer(A)
    inbox.take()
    inbox.offer(A)
    inbox.release(A, again_in_s=30.0)
    inbox.offer(A)
    inbox.offer(B)
    clock.sleep(29.0)
    assert inbox.take() is B
    clock.sleep(1.0)
    assert inbox.take() is A


def test_taker_wakes_up_for_an_offer_and_for_the_end_but_not_for_what_is_deferred() -> None:
    inbox = Inbox(10)
    taken: queue.Queue[Session | None] = queue.Queue()

    def take_all() -> None:
        while taken.put(session := inbox.take()) or session is not None:
            pass

    thread = threading.Thread(target=take_all)
    thread.start()
    inbox.offer(A)
    assert taken.get(timeout=5) is A
    inbox.release(A, again_in_s=3600.0)
    inbox.close()
    assert taken.get(timeout=5) is None
    thread.join(5)


Start = Callable[[Recorder], Inbox]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start one settler for a finisher; return its inbox."""
    started: list[tuple[Inbox, Settlers]] = []

    def start(recorder: Recorder) -> Inbox:
        inbox = Inbox(10)
        started.append((inbox, Settlers(inbox, recorder, 1)))
        started[-1][1].start()
        return inbox

    yield start
    for inbox, settlers in started:
        inbox.close()
        assert settlers.join(5) == 0


@pytest.mark.parametrize(
    ("error", "has_traceback"), [(StorageRefused("403"), False), (ZeroDivisionError, True)]
)
def test_session_that_cannot_be_finished_does_not_end_the_others(
    start: Start, error: object, has_traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(Mock(side_effect=error), lambda: 0.0)  # and B comes again, as it says
    inbox = start(recorder)
    inbox.offer(A)
    inbox.offer(B)
    recorder.wait_for(3)
    assert recorder.calls == [A, B, B]
    (record,) = caplog.records
    assert A.prefix in record.message
    assert bool(record.exc_info) is has_traceback


def test_joining_waits_for_the_session_at_work_and_no_longer() -> None:
    go_on = threading.Event()
    recorder, inbox = Recorder(lambda: go_on.wait(10) and None), Inbox(10)
    settlers = Settlers(inbox, recorder, 1)
    settlers.start()
    inbox.offer(A)
    assert recorder.begun.acquire(timeout=10)
    inbox.close()
    assert settlers.join(0.01) == 1
    go_on.set()
    assert settlers.join(10) == 0
