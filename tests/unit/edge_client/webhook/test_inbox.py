"""The inbox: bounded, each session once, none at work twice at the same time."""

import queue
import threading

from edge_client.session import Session
from edge_client.webhook.inbox import Inbox
from tests.unit.edge_client.samples import FakeClock

A, B, C = (Session("u", name) for name in "abc")


def test_sessions_come_in_order_and_only_once() -> None:
    inbox = Inbox(10, FakeClock().monotonic)
    assert [inbox.offer(session) for session in (A, B, A)] == [True, True, True]
    assert [inbox.take(), inbox.take()] == [A, B]
    assert inbox.close() == 0


def test_full_inbox_takes_nothing_new_but_what_it_has() -> None:
    inbox = Inbox(2)
    assert [inbox.offer(A), inbox.offer(B), inbox.offer(C), inbox.offer(A)] == [1, 1, 0, 1]
    assert inbox.take() is A
    assert not inbox.offer(C)  # A is at work and counts
    inbox.release(A)
    assert inbox.offer(C)


def test_session_called_about_while_at_work_comes_again_afterwards() -> None:
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
    assert inbox.take() is C  # A came again once, not for ever


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


def test_taker_of_a_deferred_session_waits() -> None:
    inbox = Inbox(10, FakeClock().monotonic)
    inbox.offer(A)
    inbox.take()
    inbox.release(A, again_in_s=30.0)
    taken: list[Session | None] = []
    thread = threading.Thread(target=lambda: taken.append(inbox.take()))
    thread.start()
    inbox.close()
    thread.join(5)
    assert taken == [None]


def test_taker_wakes_up_for_an_offer_and_for_the_end() -> None:
    inbox = Inbox(10)
    taken: queue.Queue[Session | None] = queue.Queue()

    def take_all() -> None:
        while taken.put(session := inbox.take()) or session is not None:
            pass

    thread = threading.Thread(target=take_all)
    thread.start()
    inbox.offer(A)
    assert taken.get(timeout=5) is A
    inbox.close()
    assert taken.get(timeout=5) is None
    thread.join(5)


def test_closed_inbox_counts_what_it_leaves_and_takes_nothing() -> None:
    inbox = Inbox(10)
    for session in (A, B):
        inbox.offer(session)
    inbox.take()
    assert inbox.close() == 1
    inbox.release(A, again_in_s=1.0)
    assert inbox.take() is None
    assert not inbox.offer(C)
