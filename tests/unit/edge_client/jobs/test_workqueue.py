"""The queue: bounded, each key once, none at work twice, in the order of due times."""

import threading
from collections.abc import Callable

import pytest

from edge_client.jobs.workqueue import WorkQueue
from tests.unit.edge_client.samples import FakeClock, step


class Work:
    """Does what is told for each key; remembers who was worked on."""

    def __init__(self, capacity: int = 3) -> None:
        self.clock, self.done = FakeClock(), list[str]()
        self.actions: dict[str, Callable[[], float | None]] = {}
        self.queue = WorkQueue(self._work, self.clock, capacity)

    def _work(self, key: str) -> float | None:
        self.done.append(key)
        return self.actions.get(key, lambda: None)()

    def run(self, steps: int) -> list[str]:
        """Go so many steps in this thread; return whose they were."""
        self.done.clear()
        for _ in range(steps):
            step(self.queue)
        return self.done


@pytest.fixture
def work() -> Work:
    return Work()


def test_full_queue_takes_nothing_new_and_a_closed_one_counts_what_it_leaves(work: Work) -> None:
    work.actions["a"] = lambda: 5.0
    assert [work.queue.add(key) for key in "abacd"] == [True] * 4 + [False]
    assert work.run(3) == ["a", "b", "c"]
    assert [work.queue.add(key) for key in "bcd"] == [True, True, False]  # a waits, and counts
    assert work.queue.close() == 3
    assert not work.queue.add("x")
    assert work.run(2) == []


def test_key_added_while_at_work_comes_again_once_afterwards(work: Work) -> None:
    work.actions["a"] = lambda: None if work.done.count("a") > 1 else called_about()

    def called_about() -> None:
        assert work.queue.add("a")
        assert work.queue.add("a")

    work.queue.add("a")
    work.queue.add("b")
    assert work.run(4) == ["a", "b", "a"]


def test_keys_come_in_the_order_in_which_they_are_due_and_a_call_hurries_none(work: Work) -> None:
    work.actions |= {"a": lambda: 30.0, "b": lambda: 10.0}
    work.queue.add("a")
    work.queue.add("b")
    assert work.run(2) == ["a", "b"]
    work.queue.add("a")
    assert step(work.queue) == 10.0
    work.clock.sleep(30.0)
    work.queue.add("c")
    assert work.run(3) == ["b", "a", "c"]


def test_surprise_ends_its_key_alone(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    work.actions["a"] = lambda: 1 / 0
    work.queue.add("a")
    work.queue.add("b")
    assert work.run(3) == ["a", "b"]
    (record,) = caplog.records
    assert "a: unexpected" in record.message
    assert step(work.queue) is None


def test_threads_take_what_comes_and_none_is_at_work_twice() -> None:
    at_work, most, done = set[int](), 0, threading.Semaphore(0)
    lock, again = threading.Lock(), dict.fromkeys(range(20), 5)

    def work(key: int) -> float | None:
        nonlocal most
        with lock:
            assert key not in at_work
            at_work.add(key)
            most = max(most, len(at_work))
        again[key] -= 1
        with lock:
            at_work.remove(key)
        done.release()
        return 0.001 if again[key] else None

    queue = WorkQueue(work)
    queue.start(4)
    assert all(queue.add(key) for key in again)
    for _ in range(100):
        assert done.acquire(timeout=10)
    assert most <= 4
    assert set(again.values()) == {0}
    queue.close()
    assert queue.join(10) == 0


def test_joining_waits_for_the_key_at_work_and_no_longer() -> None:
    go_on, begun = threading.Event(), threading.Event()
    queue = WorkQueue(lambda _: begun.set() or go_on.wait(10) and None)
    queue.start(1)
    queue.add("a")
    assert begun.wait(10)
    queue.close()
    assert queue.join(0.01) == 1
    go_on.set()
    assert queue.join(10) == 0
