"""The engine: every session to its end, never more jobs out than wanted, one post each."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge_client.batch import engine as engine_
from edge_client.batch.engine import Engine, Stopping, Terms, Wish
from edge_client.batch.types import Item, Need, Record
from edge_client.clock import Clock, utc_now
from edge_client.errors import EdgeError, StorageRefused, Unauthorized, Unreachable
from edge_client.jobs import claim as claims
from edge_client.jobs.claim import Claim, Wanted
from edge_client.jobs.poll import JobProgress, PollInterval
from edge_client.services import runpod as limiter
from edge_client.services.edge import Edge
from edge_client.session import Session
from edge_client.settings import load
from tests.unit.edge_client.batch.endpoint import Endpoint
from tests.unit.edge_client.samples import claim
from tests.unit.edge_client.servers import RunpodServer, S3Server


class Watcher:
    """A view that remembers."""

    def __init__(self) -> None:
        self.needs: list[Need] = []
        self.out: list[tuple[str, str | None]] = []
        self.records: dict[str, Record] = {}
        self.notes: list[str] = []
        self.is_whole = False
        self.at_submission = threading.Event()

    def listed(self, item: Item) -> None:
        """Remember."""
        self.needs.append(item.need)

    def listing_ended(self) -> None:
        """Remember."""
        self.is_whole = True

    def submitted(self, session: Session, claim: Claim) -> None:
        """Remember."""
        self.out.append((session.name, claim.job_id))
        self.at_submission.set()

    def show(self, session: Session, glimpse: JobProgress) -> None:
        """Forget."""

    def ended(self, record: Record) -> None:
        """Remember; a session ends once."""
        name = record.session.rpartition("/")[2]
        assert name not in self.records
        self.records[name] = record

    def note(self, message: str) -> None:
        """Remember."""
        self.notes.append(message)

    def results(self) -> dict[str, str]:
        """Return how each session ended, by name."""
        return {name: record.result for name, record in self.records.items()}


class Bench:
    """An engine on the two loopback servers, with looks every few milliseconds."""

    def __init__(self, env_file: Path, s3: S3Server, runpod: RunpodServer) -> None:
        self.edge = Edge(load(env_file), Clock())
        self.s3, self.endpoint, self.view = s3, Endpoint(runpod, s3), Watcher()
        self.stopping = Stopping()
        s3.now = utc_now().replace(microsecond=0)

    def item(self, name: str, need: Need = Need.SUBMIT) -> Item:
        """Put a recording into the bucket and return it as the listing would."""
        session = self.endpoint.add(name)
        held = claims.read(self.edge.bucket, session)
        return Item(session, need, "new", self.edge.bucket.head(session.audio_key), held)

    def run(self, items: Iterator[Item], max_in_flight: int = 100) -> dict[str, str]:
        """Run a batch over the items and return how each session ended."""
        terms = Terms(Wanted(), lambda _: PollInterval(first_s=0.01, longest_s=0.02), max_in_flight)
        Engine(self.edge, terms, self.view, self.stopping).run(items)
        return self.view.results()


@pytest.fixture
def bench(
    env_file: Path, s3: S3Server, runpod: RunpodServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    for name in ("RETRY_DELAY_SECONDS", "LOST_ANSWER_SECONDS"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(engine_, "PAUSE_S", 0.05)
    monkeypatch.setattr(limiter, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(limiter, "MAX_PAUSE_S", 0.02)
    answer = runpod.answer
    made = Bench(env_file, s3, runpod)
    yield made
    made.endpoint.release.set()
    runpod.answer = answer  # type: ignore[method-assign]


def test_every_session_is_submitted_once_and_done(bench: Bench) -> None:
    names = [f"s-{number}" for number in range(20)]
    results = bench.run(bench.item(name) for name in names)
    assert results == dict.fromkeys(names, "done")
    assert bench.endpoint.posts == dict.fromkeys(names, 1)
    assert bench.view.is_whole
    record = bench.view.records["s-3"]
    assert (record.gpu_s, record.segments, record.submissions) == (1.5, 1, ("done",))


def test_session_that_is_listed_twice_is_submitted_once(bench: Bench) -> None:
    item = bench.item("slow-1")

    def listing() -> Iterator[Item]:
        yield item
        assert bench.view.at_submission.wait(10)
        yield item
        yield Item(Session("u1", "none"), Need.DONE, "done")
        bench.endpoint.release.set()

    assert bench.run(listing()) == {"slow-1": "done"}
    assert [name for name, _ in bench.view.out] == ["slow-1"]


def test_what_fails_is_named_and_what_can_be_mended_is_mended(bench: Bench) -> None:
    items = [bench.item(name) for name in ("bad-1", "flaky-1", "oom-1", "s-1")]
    results = bench.run(iter(items))
    assert results == {"bad-1": "failed", "flaky-1": "done", "oom-1": "failed", "s-1": "done"}
    assert bench.endpoint.posts == {"bad-1": 1, "flaky-1": 2, "oom-1": 3, "s-1": 1}
    bad = bench.view.records["bad-1"]
    assert (bad.code, bad.message) == ("AUDIO_UNREADABLE", "it failed")
    assert bench.view.records["flaky-1"].submissions == ("INTERNAL", "done")


def test_no_more_jobs_are_out_than_wanted(bench: Bench) -> None:
    bench.run((bench.item(f"s-{number}") for number in range(12)), max_in_flight=3)
    assert bench.endpoint.most_out <= 3
    assert len(bench.view.records) == 12


def test_first_job_is_out_before_the_listing_ends(bench: Bench) -> None:
    def listing() -> Iterator[Item]:
        yield bench.item("s-1")
        assert bench.view.at_submission.wait(10)
        yield bench.item("s-2")

    assert set(bench.run(listing())) == {"s-1", "s-2"}


def test_listing_is_not_drawn_further_ahead_than_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_, "DRAWN_AHEAD", 5)
    drawn: list[int] = []

    def listing() -> Iterator[Item]:
        first = bench.item("slow-0")
        for number in range(100):
            drawn.append(number)
            if len(drawn) == 6:
                bench.stopping.ask(Wish.SUBMIT_NO_MORE)
                bench.endpoint.release.set()
            yield Item(Session("u1", f"slow-{number}"), first.need, "new", first.audio)

    bench.run(listing(), max_in_flight=1)
    assert len(drawn) <= 8


def test_sessions_that_need_nothing_are_counted_and_those_in_the_way_are_named(
    bench: Bench,
) -> None:
    kinds = [Need.DONE, Need.NOT_MERGED, Need.FAILED_BEFORE]
    results = bench.run(Item(Session("u1", need.value), need, "because") for need in kinds)
    assert results == {"not_merged": "not_merged", "failed_before": "failed_before"}
    assert bench.view.needs == kinds
    assert bench.endpoint.posts == {}


def test_job_of_another_box_is_followed_not_submitted(bench: Bench) -> None:
    mine = bench.item("s-1")
    bench.run(iter([mine]))
    there = claims.read(bench.edge.bucket, mine.session)
    assert there is not None
    del bench.s3.objects[mine.session.result_key]
    bench.view = Watcher()
    follow = Item(mine.session, Need.FOLLOW, "out", mine.audio, there)
    assert bench.run(iter([follow])) == {"s-1": "done"}
    assert bench.endpoint.posts == {"s-1": 1}


def test_session_that_another_box_claims_first_is_followed(bench: Bench) -> None:
    item = bench.item("s-1")
    bench.run(iter([item]))  # its claim is there now, and the item does not know
    bench.view = Watcher()
    assert bench.run(iter([item])) == {"s-1": "done"}
    assert bench.endpoint.posts == {"s-1": 1}


def test_expired_claim_is_replaced(bench: Bench) -> None:
    item = bench.item("s-1")
    old = claim(
        session=item.session.prefix,
        submitted_at=utc_now() - timedelta(days=2),
        expires_at=utc_now() - timedelta(days=1),
    )
    held = claims.store(bench.edge.bucket, item.session, old, None)
    again = Item(item.session, Need.SUBMIT, "its time was over", item.audio, held)
    assert bench.run(iter([again])) == {"s-1": "done"}


def test_recording_that_vanished_is_one_sessions_failure(bench: Bench) -> None:
    items = [bench.item("s-1"), bench.item("s-2")]
    del bench.s3.objects[items[0].session.audio_key]
    assert bench.run(iter(items)) == {"s-1": "failed", "s-2": "done"}
    assert bench.view.records["s-1"].code == "AUDIO_NOT_FOUND"


def test_refused_key_stops_the_batch(bench: Bench) -> None:
    bench.endpoint.refuse = lambda method, path: 401
    with pytest.raises(Unauthorized):
        bench.run(bench.item(f"s-{number}") for number in range(50))
    assert len(bench.view.records) < 20


def test_listing_that_breaks_lets_the_jobs_that_are_out_end(bench: Bench) -> None:
    def listing() -> Iterator[Item]:
        yield bench.item("s-1")
        assert bench.view.at_submission.wait(10)
        raise StorageRefused("no listing for you")

    with pytest.raises(StorageRefused):
        bench.run(listing())
    assert bench.view.results() == {"s-1": "done"}
    assert not bench.view.is_whole


def test_runpod_that_is_away_for_a_moment_is_asked_again(bench: Bench) -> None:
    seen: list[str] = []

    def refuse(method: str, path: str) -> int | None:
        seen.append(path)
        return 503 if path.startswith("/status") and len(seen) < 12 else None

    bench.endpoint.refuse = refuse
    assert bench.run(iter([bench.item("s-1")])) == {"s-1": "done"}
    assert bench.endpoint.posts == {"s-1": 1}


def test_s3_that_is_away_for_a_moment_costs_no_second_job(bench: Bench) -> None:
    items = [bench.item("s-1"), bench.item("s-2")]
    seen: list[str] = []

    def refuse(method: str, key: str) -> tuple[int, str] | None:
        seen.append(key)
        return (503, "SlowDown") if 6 < len(seen) < 20 else None

    bench.s3.refuse = refuse
    assert bench.run(iter(items)) == {"s-1": "done", "s-2": "done"}
    assert bench.endpoint.posts == {"s-1": 1, "s-2": 1}


def test_endpoint_that_refuses_everything_is_not_asked_a_hundred_times(bench: Bench) -> None:
    bench.endpoint.refuse = lambda method, path: 400 if path == "/run" else None
    with pytest.raises(EdgeError, match="RunPod answers 400"):
        bench.run(bench.item(f"s-{number}") for number in range(100))
    assert len(bench.view.records) < 30


def test_one_interrupt_submits_no_more_and_waits(bench: Bench) -> None:
    def listing() -> Iterator[Item]:
        yield bench.item("slow-1")
        assert bench.view.at_submission.wait(10)
        bench.stopping.ask(Wish.SUBMIT_NO_MORE)
        bench.endpoint.release.set()
        yield bench.item("s-2")

    assert bench.run(listing()) == {"slow-1": "done"}
    assert bench.endpoint.posts == {"slow-1": 1}


def test_job_that_fails_after_an_interrupt_is_left_to_the_next_batch(bench: Bench) -> None:
    def listing() -> Iterator[Item]:
        yield bench.item("oom-1")
        assert bench.view.at_submission.wait(10)
        bench.stopping.ask(Wish.SUBMIT_NO_MORE)

    assert bench.run(listing()) == {"oom-1": "out"}
    held = claims.read(bench.edge.bucket, Session("u1", "oom-1"))
    assert held is not None
    assert held.claim is not None
    assert held.claim.ended is None


@pytest.mark.parametrize("wish", [Wish.LEAVE_SOON, Wish.LEAVE_NOW])
def test_second_interrupt_leaves_and_says_what_is_out(bench: Bench, wish: Wish) -> None:
    def listing() -> Iterator[Item]:
        yield bench.item("slow-1")
        assert bench.view.at_submission.wait(10)
        bench.stopping.ask(wish)

    assert bench.run(listing()) == {"slow-1": "out"}
    assert bench.view.records["slow-1"].job_id == "job-1"


def test_lost_answer_is_searched_for_and_posted_again_when_nothing_is_out(bench: Bench) -> None:
    seen: list[str] = []

    def refuse(method: str, path: str) -> int | None:
        seen.append(path)
        return 502 if path == "/run" and seen.count("/run") == 1 else None

    bench.endpoint.refuse = refuse
    assert bench.run(iter([bench.item("s-1")])) == {"s-1": "done"}
    assert bench.endpoint.posts == {"s-1": 1}  # the first was never taken
    assert bench.view.records["s-1"].submissions == ("unanswered", "done")


def test_runpod_that_is_away_when_a_job_has_to_follow_another_costs_no_session(
    bench: Bench,
) -> None:
    seen: list[str] = []

    def refuse(method: str, path: str) -> int | None:
        seen.append(path)
        return 429 if path == "/run" and 1 < seen.count("/run") < 12 else None

    bench.endpoint.refuse = refuse
    items = [bench.item(name) for name in ("flaky-1", "s-1")]
    assert bench.run(iter(items)) == {"flaky-1": "done", "s-1": "done"}
    assert bench.view.records["flaky-1"].submissions == ("INTERNAL", "done")


def test_unreachable_runpod_stops_the_batch_once_patience_is_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_client.batch.engine.Troubles.patience_s", 0.1)
    monkeypatch.setenv("RUNPOD_ENDPOINT_BASE_URL", "http://127.0.0.1:9/v2")
    bench.edge = Edge(load(None), Clock())
    with pytest.raises(Unreachable):
        bench.run(bench.item(f"s-{number}") for number in range(4))
    assert {r.result for r in bench.view.records.values()} == {"failed"}
