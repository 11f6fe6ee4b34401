"""The engine: every session to its end, never more jobs in flight than allowed, one post each."""

import itertools
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_client.batch import engine as engine_
from edge_client.batch import limits as limits_
from edge_client.batch.engine import Engine
from edge_client.batch.limits import Shutdown, ShutdownLevel
from edge_client.batch.plan import plan
from edge_client.batch.types import Filter, PlannedAction, PlannedSession, RunConfig
from edge_client.clock import Clock
from edge_client.errors import EdgeError, EndpointFails, StorageRefused, Unauthorized, Unreachable
from edge_client.jobs import claim as claims
from edge_client.jobs import reconcile as reconcile_
from edge_client.jobs.claim import Claim, StoredClaim, Wanted
from edge_client.jobs.poll import PollInterval
from edge_client.services import runpod as limiter
from edge_client.services.edge import Edge
from edge_client.session import Session
from edge_client.settings import load
from tests.fakes.servers import RunpodServer, S3Server
from tests.simulation.box import turn
from tests.unit.edge_client.batch.endpoint import Endpoint
from tests.unit.edge_client.samples import FakeClock, Recorder, put_claim, transcript

SUBMIT = PlannedAction.SUBMIT
Listed = str | PlannedSession | Callable[[], object]
"""A session, by its name or planned; or what is done before the next one is listed."""


class Bench:
    """An engine on the two loopback servers, with polls every few milliseconds."""

    def __init__(self, edge: Edge, s3: S3Server, endpoint: Endpoint) -> None:
        self.edge, self.s3, self.endpoint = edge, s3, endpoint
        self.shutdown, self.config = Shutdown(), dict[str, Any]()
        s3.now = Clock().now().replace(microsecond=0)

    def session(self, name: str) -> PlannedSession:
        """Put a recording into the bucket and plan it as the listing would."""
        session = self.endpoint.add(name)
        return PlannedSession(session, SUBMIT, "new", self.edge.bucket.head(session.audio_key))

    def run(self, *script: Listed, max_in_flight: int = 100) -> dict[str, str]:
        """Run a batch over sessions, doing what stands between them; return how each ended."""
        self.shown = Recorder()
        config = RunConfig(
            Wanted(), lambda _: PollInterval(0.01, 0.02), max_in_flight, **self.config
        )
        self.engine = Engine(self.edge, config, self.shown, self.shutdown)
        self.engine.run(lambda: self._listing(script))
        return self.shown.results()

    def _listing(self, script: Iterable[Listed]) -> Generator[PlannedSession, None, None]:
        for each in script:
            if callable(each):
                each()
            else:
                yield self.session(each) if isinstance(each, str) else each

    @property
    def notes(self) -> list[str]:
        """What the last batch had to say."""
        return self.shown.notes

    def submitted(self) -> None:
        """Wait until the first session is submitted."""
        assert self.shown.has_submitted.wait(10)


@pytest.fixture
def bench(
    env_file: Path, s3: S3Server, runpod: RunpodServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    for name in ("RETRY_DELAY_SECONDS", "LOST_ANSWER_SECONDS"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(reconcile_, "PAUSE_S", 0.05)
    monkeypatch.setattr(engine_, "TURN_S", 0.01)
    monkeypatch.setattr(limits_, "PROBE_AFTER_S", 0.1)
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
    assert bench.shown.stats.actions == {SUBMIT: 1} | dict.fromkeys(kinds, 1)
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


def test_jobs_in_flight_do_not_wait_behind_what_may_not_be_submitted_yet(bench: Bench) -> None:
    planned = bench.session("s-1")
    bench.run(planned)
    held = claims.read(bench.edge.bucket, planned.session)
    assert held is not None
    assert held.claim is not None
    opened = StoredClaim(held.claim.model_copy(update={"ended": None}), held.etag)
    followed = PlannedSession(planned.session, PlannedAction.FOLLOW, "", planned.audio, opened)

    def seen_then_release() -> None:
        while "s-1" not in bench.shown.records:
            bench.shown.has_ended.wait(10)
        bench.endpoint.release.set()

    ends = bench.run("slow-1", "slow-2", followed, seen_then_release, max_in_flight=1)
    assert ends == {"slow-1": "done", "slow-2": "done", "s-1": "done"}


def test_session_that_another_box_claims_between_two_tries_is_followed(bench: Bench) -> None:
    now, planned = Clock().now(), bench.session("s-1")

    def refuse_and_claim(method: str, path: str) -> int | None:
        if path != "/run":
            return None
        etag = bench.s3.objects[planned.session.audio_key].etag
        bench.s3.put(planned.session.result_key, transcript(request_id="r1", audio_etag=etag))
        life = {"submitted_at": now, "expires_at": now + timedelta(hours=1)}
        put_claim(bench.s3, planned.session, job_id=None, **life)
        return 429

    bench.endpoint.refuse = refuse_and_claim
    assert bench.run(planned) == {"s-1": "done"}
    assert bench.endpoint.posts == {}


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
    monkeypatch.setattr(reconcile_, "PATIENCE_S", 0.1)
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
    assert held.ended == ("done" if end == "done" else None)


def next_batch(bench: Bench, count: int, most: int = 100) -> str:
    """Run the next batch over so many sessions, as their claims are; return why it stopped."""
    bench.shutdown = Shutdown()
    planned = list(plan(bench.edge, Filter(), closes=True))
    assert len(planned) == count
    try:
        bench.run(*planned, max_in_flight=most)
    except EndpointFails as exc:
        return str(exc)
    return ""


def ended(bench: Bench) -> Counter[str | None]:
    """Count how the claims of the bucket's sessions ended."""
    keys = [key for key in bench.s3.objects if key.endswith("job.json")]
    claims_ = [Claim.model_validate_json(bench.s3.objects[key].body) for key in keys]
    return Counter(claim.ended and claim.ended.partition(":")[0] for claim in claims_)


def test_poison_costs_three_jobs_a_session_in_five_batches_and_says_so(bench: Bench) -> None:
    """Sixty sessions, whose jobs all end INTERNAL."""
    for number in range(60):
        bench.endpoint.add(f"internal-{number}")
    paid, said = list[int](), list[str]()
    for _ in range(5):
        said.append(next_batch(bench, 60))
        paid.append(bench.endpoint.posts.total())
    assert max(bench.endpoint.posts.values()) <= 3
    assert paid[-1] < 60 * 3
    (line,) = [note for note in bench.notes if "in a row failed" in note][:1]
    assert line.startswith("10 jobs in a row failed, most with INTERNAL, the last: it failed")
    assert all("jobs in a row failed, most with INTERNAL" in text for text in said)
    more = [after - before for before, after in itertools.pairwise(paid)]
    assert max(more) <= 10  # those under way when the old ends are seen, and one probe


def test_wrong_model_fails_no_session_and_once_it_is_mended_all_are_done(bench: Bench) -> None:
    for number in range(30):
        bench.endpoint.add(f"model-{number}")
    for _ in range(2):
        assert "MODEL_UNAVAILABLE" in next_batch(bench, 30, most=12)
        assert set(bench.shown.results().values()) <= {"held", "in_flight"}
    assert set(ended(bench)) == {None}
    bench.endpoint.is_mended = True
    assert next_batch(bench, 30) == ""
    assert set(bench.shown.results().values()) == {"done"}
    assert ended(bench) == {"done": 30}


def test_batch_whose_last_jobs_all_failed_says_so_though_none_is_left_to_probe_with(
    bench: Bench,
) -> None:
    for number in range(12):
        bench.endpoint.add(f"model-{number}")
    assert "MODEL_UNAVAILABLE" in next_batch(bench, 12)


def test_endpoint_that_recovers_closes_the_breaker(bench: Bench) -> None:
    names = [f"model-{number}" for number in range(12)]

    def mend(method: str, path: str) -> None:
        bench.endpoint.is_mended |= any("in a row" in note for note in bench.notes)

    bench.endpoint.refuse = mend
    ends = Counter(bench.run(*names, max_in_flight=2).values())
    assert ends["done"] >= 1
    assert ends["held"] >= 10
    assert ends["failed"] == 0


def test_surprise_inside_one_session_ends_its_turn_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resolve = reconcile_.resolve_outcome

    def surprise(bucket: Any, session: Session, *more: Any) -> Any:
        return 1 / 0 if session.name == "s-2" else resolve(bucket, session, *more)

    monkeypatch.setattr(reconcile_, "resolve_outcome", surprise)
    assert bench.run("s-1", "s-2", "s-3") == {"s-1": "done", "s-2": "failed", "s-3": "done"}
    assert "ZeroDivisionError" in bench.shown.records["s-2"].message
    assert "s-2: unexpected" in caplog.text


@pytest.mark.parametrize(("limit_s", "posts"), [(35, 2), (16, 1), (5, 0), (None, 4)])
def test_batch_stops_before_its_gpu_seconds_are_exceeded(
    bench: Bench, limit_s: float | None, posts: int
) -> None:
    """A job of 2 s is expected to take some 15 s until it is known to take 1.5."""
    bench.config = {"max_gpu_s": limit_s}
    ends = bench.run(*(f"slow-{n}" for n in range(4)), bench.endpoint.release.set, max_in_flight=4)
    assert bench.endpoint.posts.total() >= posts
    assert len(ends) == bench.endpoint.posts.total()
    assert bench.shown.stats.gpu_s <= (limit_s or 6)
    assert any("GPU seconds are used" in note for note in bench.notes) is (len(ends) < 4)


def test_queue_holds_no_more_than_its_floor_while_no_job_is_begun(bench: Bench) -> None:
    bench.config = {"queue_floor": 3}
    most = list[int]()

    def look(method: str, path: str) -> None:
        most.append(bench.endpoint.posts.total() - len(bench.shown.records))
        if path.startswith("/status") and len(most) > 60:
            bench.endpoint.has_workers = True

    bench.endpoint.has_workers, bench.endpoint.refuse = False, look
    bench.run(*(f"s-{number}" for number in range(9)))
    assert max(most[:60]) == 3
    assert set(bench.shown.results().values()) == {"done"}


def test_bucket_is_listed_again_while_jobs_run_and_nothing_is_run_twice(bench: Bench) -> None:
    bench.config = {"relist_s": 0.05}
    listings = iter([["slow-1", "s-2"], ["slow-1", "s-2", "s-3"]])
    config = RunConfig(Wanted(), lambda _: PollInterval(0.01, 0.02), **bench.config)

    def listing() -> Generator[PlannedSession, None, None]:
        names = next(listings, [])
        yield from (bench.session(name) for name in names)
        if not names:
            bench.endpoint.release.set()

    shown = bench.shown = Recorder()
    Engine(bench.edge, config, shown, bench.shutdown).run(listing)
    assert shown.results() == {"slow-1": "done", "s-2": "done", "s-3": "done"}
    assert bench.endpoint.posts == {"slow-1": 1, "s-2": 1, "s-3": 1}


def test_one_thread_under_a_clock_of_its_own_does_the_same(bench: Bench) -> None:
    clock = FakeClock(Clock().now())
    bench.edge.clock, shown = clock, Recorder()
    config = RunConfig(Wanted(), lambda _: PollInterval())
    engine = Engine(bench.edge, config, shown, bench.shutdown)
    sessions = iter([bench.session(name) for name in ("s-1", "flaky-2", "bad-3")])
    while not engine.is_over:
        clock.sleep(turn(engine, sessions) or 0.0)
    assert shown.results() == {"s-1": "done", "flaky-2": "done", "bad-3": "failed"}


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
