"""The engine: every session to its end, never more jobs in flight than allowed, one post each."""

import itertools
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from edge_client.batch import engine as engine_
from edge_client.batch.engine import Engine, Relay, SessionRun
from edge_client.batch.progress import BatchProgress
from edge_client.batch.shutdown import Shutdown, ShutdownLevel
from edge_client.batch.types import PlannedAction, PlannedSession, Record, RunConfig
from edge_client.clock import Clock
from edge_client.errors import EdgeError, RateLimited, StorageRefused, Unauthorized, Unreachable
from edge_client.jobs import claim as claims
from edge_client.jobs.claim import Claim, Wanted
from edge_client.jobs.poll import PollInterval
from edge_client.services import runpod as limiter
from edge_client.services.edge import Edge
from edge_client.session import Session
from edge_client.settings import load
from tests.fakes.servers import RunpodServer, S3Server
from tests.unit.edge_client.batch.endpoint import Endpoint
from tests.unit.edge_client.samples import put_claim

SUBMIT = PlannedAction.SUBMIT
Listed = str | PlannedSession | Callable[[], object]
"""A session, by its name or planned; or what is done before the next one is listed."""


class Recorder(BatchProgress):
    """Remembers what it was to show; a session ends once."""

    def __init__(self) -> None:
        super().__init__(Clock())
        self.records: dict[str, Record] = {}
        self.has_submitted = threading.Event()

    def submitted(self, session: Session, claim: Claim) -> None:
        """Tell who waits for it."""
        super().submitted(session, claim)
        self.has_submitted.set()

    def ended(self, record: Record) -> None:
        """Remember."""
        super().ended(record)
        assert self.records.setdefault(record.session.rpartition("/")[2], record) is record

    def results(self) -> dict[str, str]:
        """Return how each session ended so far, by name."""
        return {name: record.result for name, record in self.records.items()}


class Bench:
    """An engine on the two loopback servers, with polls every few milliseconds."""

    def __init__(self, edge: Edge, s3: S3Server, endpoint: Endpoint) -> None:
        self.edge, self.s3, self.endpoint = edge, s3, endpoint
        self.shutdown = Shutdown()
        s3.now = Clock().now().replace(microsecond=0)

    def session(self, name: str) -> PlannedSession:
        """Put a recording into the bucket and plan it as the listing would."""
        session = self.endpoint.add(name)
        return PlannedSession(session, SUBMIT, "new", self.edge.bucket.head(session.audio_key))

    def run(self, *script: Listed, max_in_flight: int = 100) -> dict[str, str]:
        """Run a batch over sessions, doing what stands between them; return how each ended."""
        self.shown = Recorder()
        config = RunConfig(Wanted(), lambda _: PollInterval(0.01, 0.02), max_in_flight)
        Engine(self.edge, config, self.shown, self.shutdown).run(self._listing(script))
        return self.shown.results()

    def _listing(self, script: Iterable[Listed]) -> Generator[PlannedSession, None, None]:
        for each in script:
            if callable(each):
                each()
            else:
                yield self.session(each) if isinstance(each, str) else each

    def submitted(self) -> None:
        """Wait until the first session is submitted."""
        assert self.shown.has_submitted.wait(10)


@pytest.fixture
def bench(
    env_file: Path, s3: S3Server, runpod: RunpodServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    for name in ("RETRY_DELAY_SECONDS", "LOST_ANSWER_SECONDS"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(engine_, "PAUSE_S", 0.05)
    monkeypatch.setattr(limiter, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(limiter, "MAX_PAUSE_S", 0.02)
    endpoint = Endpoint(runpod, s3, monkeypatch)
    yield Bench(Edge(load(env_file)), s3, endpoint)
    endpoint.release.set()


def test_every_session_is_submitted_once_and_done(bench: Bench) -> None:
    names = [f"s-{number}" for number in range(20)]
    assert bench.run(*names, max_in_flight=3) == dict.fromkeys(names, "done")
    assert bench.endpoint.posts == dict.fromkeys(names, 1)
    assert bench.endpoint.most_in_flight <= 3
    assert not bench.shown.stats.is_listing
    record = bench.shown.records["s-3"]
    assert (record.gpu_s, record.segments, record.submissions) == (1.5, 1, ("done",))


def test_session_listed_twice_is_submitted_once_and_what_is_no_work_is_named(bench: Bench) -> None:
    twice = bench.session("slow-1")
    kinds = (PlannedAction.DONE, PlannedAction.NOT_MERGED, PlannedAction.FAILED_BEFORE)
    others = [PlannedSession(Session("u1", kind), kind, "because") for kind in kinds]
    ends = bench.run(twice, bench.submitted, twice, *others, bench.endpoint.release.set)
    assert ends == {"slow-1": "done", "not_merged": "not_merged", "failed_before": "failed_before"}
    assert bench.shown.stats.actions == {SUBMIT: 2} | dict.fromkeys(kinds, 1)
    assert bench.endpoint.posts == {"slow-1": 1}


def test_failures_are_named_and_recovered_where_another_job_can_help(bench: Bench) -> None:
    gone = bench.session("gone")
    del bench.s3.objects[gone.session.audio_key]
    bench.run(gone, "bad-1", "flaky-1", "oom-1", "s-1")
    ends = {name: (each.result, each.code) for name, each in bench.shown.records.items()}
    assert ends == {
        "gone": ("failed", "AUDIO_NOT_FOUND"),
        "bad-1": ("failed", "AUDIO_UNREADABLE"),
        "flaky-1": ("done", None),
        "oom-1": ("failed", "OUT_OF_MEMORY"),
        "s-1": ("done", None),
    }
    assert bench.endpoint.posts == {"bad-1": 1, "flaky-1": 2, "oom-1": 3, "s-1": 1}
    assert bench.shown.records["flaky-1"].submissions == ("INTERNAL", "done")
    assert bench.shown.records["bad-1"].submissions == ("AUDIO_UNREADABLE",)


def test_listing_is_not_drawn_further_ahead_than_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_, "DRAWN_AHEAD", 5)
    drawn: list[str] = []

    def draw() -> None:
        drawn.append("one")
        if len(drawn) == 6:
            bench.shutdown.request(ShutdownLevel.SUBMIT_NO_MORE)
            bench.endpoint.release.set()

    script: list[Listed] = [each for n in range(100) for each in (draw, f"slow-{n}")]
    bench.run(*script, max_in_flight=1)
    assert len(drawn) <= 8


def test_job_of_another_box_is_followed_not_submitted(bench: Bench) -> None:
    planned = bench.session("s-1")
    bench.run(planned)
    held = claims.read(bench.edge.bucket, planned.session)
    del bench.s3.objects[planned.session.result_key]
    followed = PlannedSession(planned.session, PlannedAction.FOLLOW, "", planned.audio, held)
    assert bench.run(followed) == {"s-1": "done"}
    # another box claims it first: the claim is there, and the plan does not know
    assert bench.run(planned) == {"s-1": "done"}
    assert bench.endpoint.posts == {"s-1": 1}


def test_session_that_another_box_claims_between_two_tries_is_followed(bench: Bench) -> None:
    planned, now = bench.session("s-1"), Clock().now()
    config = RunConfig(Wanted(), lambda _: PollInterval())
    run = SessionRun(bench.edge, planned, config, Relay(), Recorder())
    bench.endpoint.refuse = lambda method, path: 429 if path == "/run" else None
    with pytest.raises(RateLimited):
        run.step()
    put_claim(bench.s3, planned.session, submitted_at=now, expires_at=now + timedelta(hours=1))
    run.step()
    assert not run.is_mine
    assert run.claim == claims.current(bench.edge.bucket, planned.session)


@pytest.mark.parametrize(
    ("status", "error", "most"), [(401, Unauthorized, 20), (400, EdgeError, 30)]
)
def test_endpoint_that_refuses_everything_is_not_asked_a_hundred_times(
    bench: Bench, status: int, error: type[EdgeError], most: int
) -> None:
    bench.endpoint.refuse = lambda method, path: status if path == "/run" else None
    with pytest.raises(error):
        bench.run(*(f"s-{number}" for number in range(100)))
    assert len(bench.shown.records) < most


def test_listing_that_breaks_lets_the_jobs_in_flight_end(bench: Bench) -> None:
    def breaks() -> None:
        raise StorageRefused("no listing for you")

    with pytest.raises(StorageRefused):
        bench.run("s-1", bench.submitted, breaks)
    assert bench.shown.results() == {"s-1": "done"}
    assert bench.shown.stats.is_listing


@pytest.mark.parametrize(
    ("path", "status", "refused", "ended"),
    [
        ("/status", 503, range(1, 12), {"s-1": ("done",)}),
        ("/run", 502, range(1, 2), {"s-1": ("unanswered", "done")}),  # the queue did not take it
        ("/run", 429, range(3, 12), {"s-1": ("done",), "flaky-1": ("INTERNAL", "done")}),
        ("s3", 503, range(7, 20), {"s-1": ("done",), "s-2": ("done",)}),
    ],
)
def test_service_that_is_away_for_a_moment_costs_no_session_and_no_second_job(
    bench: Bench, path: str, status: int, refused: range, ended: dict[str, tuple[str, ...]]
) -> None:
    seen = itertools.count(1)

    def refuse(method: str, asked: str) -> int | None:
        return status if asked.startswith(path) and next(seen) in refused else None

    sessions = [bench.session(name) for name in ended]
    bench.endpoint.refuse = refuse
    bench.s3.refuse = lambda *_: (503, "SlowDown") if refuse("", "s3") else None
    bench.run(*sessions)
    assert {name: bench.shown.records[name].submissions for name in ended} == ended
    assert bench.endpoint.posts == {name: 2 if "flaky" in name else 1 for name in ended}


def test_unreachable_runpod_stops_the_batch_once_patience_is_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_, "PATIENCE_S", 0.1)
    monkeypatch.setenv("RUNPOD_ENDPOINT_BASE_URL", "http://127.0.0.1:9/v2")
    bench.edge = Edge(load(None), Clock())
    with pytest.raises(Unreachable):
        bench.run(*(f"s-{number}" for number in range(4)))
    assert set(bench.shown.results().values()) == {"failed"}


@pytest.mark.parametrize(
    ("name", "level", "end"),
    [
        ("slow-1", ShutdownLevel.SUBMIT_NO_MORE, "done"),
        ("oom-1", ShutdownLevel.SUBMIT_NO_MORE, "in_flight"),  # another job would have to follow
        ("slow-1", ShutdownLevel.LEAVE_SOON, "in_flight"),
        ("slow-1", ShutdownLevel.LEAVE_NOW, "in_flight"),
    ],
)
def test_interrupted_batch_submits_no_more_and_leaves_jobs_to_the_next_one(
    bench: Bench, name: str, level: ShutdownLevel, end: str
) -> None:
    go_on = bench.endpoint.release.set if end == "done" else int
    script = (bench.submitted, partial(bench.shutdown.request, level), go_on, "s-2")
    assert bench.run(name, *script) == {name: end}
    assert bench.endpoint.posts == {name: 1}
    assert bench.shown.records[name].job_id == "job-1"
    held = claims.current(bench.edge.bucket, Session("u1", name))
    assert held is not None
    assert held.ended is None


@pytest.mark.parametrize(
    ("signals", "level"),
    [
        ([signal.SIGINT], ShutdownLevel.SUBMIT_NO_MORE),
        ([signal.SIGINT] * 2, ShutdownLevel.LEAVE_NOW),
        ([signal.SIGTERM], ShutdownLevel.LEAVE_SOON),
        ([signal.SIGINT] * 2 + [signal.SIGTERM], ShutdownLevel.LEAVE_NOW),
    ],
)
def test_signals_say_how_soon_to_leave(signals: list[signal.Signals], level: ShutdownLevel) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    shutdown = Shutdown()
    with shutdown.on_signals():
        for number in signals:
            signal.raise_signal(number)
    assert shutdown.level is level
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
