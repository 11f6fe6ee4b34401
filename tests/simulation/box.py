"""An edge box: the real batch, on a client of boto3 and a sender that never leave here."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

import requests
from botocore.exceptions import ClientError, EndpointConnectionError
from pydantic import SecretStr
from urllib3.exceptions import MaxRetryError, NewConnectionError

from edge_client.batch.engine import DRAWN_AHEAD, Engine
from edge_client.batch.limits import Shutdown
from edge_client.batch.plan import plan
from edge_client.batch.progress import BatchProgress
from edge_client.batch.types import Filter, PlannedSession, Record, RunConfig
from edge_client.clock import Clock
from edge_client.errors import EdgeError
from edge_client.jobs.claim import Wanted
from edge_client.jobs.poll import JobProgress, PollInterval
from edge_client.services.edge import Edge
from edge_client.services.runpod import Answer, RunpodApi
from edge_client.services.runpod import Kind as RequestKind
from edge_client.services.s3 import Connection
from edge_client.session import Session
from edge_client.settings import Settings
from tests.simulation.endpoint import Endpoint
from tests.simulation.world import START, Changed, Event, Kind, Store, World
from tests.unit.edge_client.samples import step

LATENCY_S = 0.05
BATCH_EVERY_S = 300.0
STEPS_AT_ONCE = 4
T = TypeVar("T")
SETTINGS = Settings.model_validate(
    {
        "COGNITO_S3_BUCKET": "recordings",
        "AWS_REGION": "eu-central-1",
        "RUNPOD_ENDPOINT_ID": "ep1",
        "RUNPOD_API_KEY": "rpa_key",
    }
)


class BoxCrash(BaseException):
    """Power is gone: nothing of the program runs any more."""


class _Progress(BatchProgress):
    """Hands on what is a surprise."""

    def __init__(self, box: "Box") -> None:
        super().__init__(box.edge.clock)
        self._box = box

    def ended(self, record: Record) -> None:
        super().ended(record)
        self._box.tell(f"{record.session} {record.result}: {record.reason[:90]}")
        if "please report it" in record.message:
            self._box.world.history.broken(record.message)

    def polled(self, session: Session, progress: JobProgress) -> None:
        """Count nothing: time is dear here."""

    def note(self, message: str) -> None:
        self._box.tell(message[:150])


def turn(engine: Engine, sessions: Iterator[PlannedSession]) -> float | None:
    """Do one step of a batch in this thread, and draw ahead, under the edge's own clock.

    Return the seconds until the next step is due, None if there is none.
    """
    while engine._is_listing and engine._waiting < DRAWN_AHEAD:
        planned = next(sessions, None)
        engine._is_listing = planned is not None
        if planned is not None:
            engine._listed(planned)
    engine._admit()
    return step(engine._queue)


class Box:
    """Runs batch after batch; a crash ends one, and another begins later."""

    def __init__(
        self,
        number: int,
        world: World,
        store: Store,
        endpoint: Endpoint,
        skew_s: float = 0.0,
        others: Callable[[], list["Box"]] = list,
        is_judge: bool = False,
    ) -> None:
        self.number, self.world, self._is_judge = number, world, is_judge
        self._endpoint, self._others = endpoint, others
        self.is_busy = False
        self.wake_s = 0.0
        self._engine: Engine | None = None
        self._planned: Iterator[PlannedSession] = iter(())
        offset = START + timedelta(seconds=skew_s)
        clock = Clock(
            now=lambda: offset + timedelta(seconds=world.now_s), monotonic=lambda: world.now_s
        )
        self.edge = Edge(SETTINGS, clock)
        client = cast(Any, Client(self, store))
        self.edge.connection = Connection(
            client, "recordings", cast(Any, None), False, SETTINGS.put_headers
        )
        self.edge.api = Api(self, endpoint)

    @property
    def is_working(self) -> bool:
        """Whether a batch is under way."""
        return self._engine is not None

    def tell(self, text: str) -> None:
        """Keep a line for people."""
        self.world.history.tell(self.world.now_s, f"box {self.number}: {text}")

    def turn(self) -> None:
        """Do what is due, and say when the next is; a crash takes it down for a while."""
        self.is_busy = True
        try:
            self._turn()
        except BoxCrash as exc:
            self.tell(f"crash {exc}")
            self._engine, self.wake_s = None, self.world.now_s + 30.0
        finally:
            self.is_busy = False

    def _turn(self) -> None:
        if self._engine is None:
            self._engine = self._begin()
        in_s: float | None = 0.0
        for _ in range(STEPS_AT_ONCE):
            if in_s != 0.0:
                break
            in_s = turn(self._engine, self._planned)
        if self._engine.is_over:
            self._engine, self.wake_s = None, self.world.now_s + BATCH_EVERY_S
        else:
            self.wake_s = self.world.now_s + (1.0 if in_s is None else in_s)

    def _begin(self) -> Engine:
        chosen = Filter(force=self._take(Kind.FORCE) is not None)
        self._planned = self._plan(chosen)
        config = RunConfig(Wanted(), lambda claim: PollInterval(10.0, 600.0), chosen=chosen)
        return Engine(self.edge, config, _Progress(self), Shutdown())

    def _plan(self, chosen: Filter) -> Iterator[PlannedSession]:
        """Yield the plan; a listing that fails ends there, as in the feeder."""
        try:
            for planned in plan(self.edge, chosen, closes=True):
                if chosen.force and planned.action.is_work:
                    self.world.history.forced(planned.session)
                yield planned
        except EdgeError as exc:
            self.tell(f"listing: {exc}")

    def call(self, service: str, name: str, act: Callable[[], T], is_put: bool = False) -> T:
        """Make a call, unless the schedule says otherwise: this is where things go wrong."""
        world = self.world
        if self._is_judge:
            return act()
        world.go_to(world.now_s + LATENCY_S)
        crash = self._take(Kind.CRASH)
        if crash is not None and not int(crash.amount) % 2:
            raise BoxCrash(f"before {name}")
        other = self._take(Kind.PREEMPT)
        if other is not None:
            self._let_others(name)
        if service == "s3" and world.during(Kind.S3_AWAY, self.number):
            raise EndpointConnectionError(endpoint_url="https://s3")
        lost = self._take(Kind.PUT_LOST) if is_put else None
        answer = act()
        if crash is not None:
            raise BoxCrash(f"after {name}")
        if lost is not None and lost.amount < 1:
            raise EndpointConnectionError(endpoint_url="https://s3")
        return act() if lost is not None else answer

    def _take(self, kind: Kind) -> Event | None:
        """Return the event of this box that comes with this call."""
        return self.world.take(kind, target=self.number)

    def _let_others(self, name: str) -> None:
        for other in self._others():
            if not other.is_busy:
                self.tell(f"box {other.number} goes first, before {name}")
                other.turn()


class Client:
    """What the client uses of boto3's S3 client."""

    def __init__(self, box: Box, store: Store) -> None:
        self._box, self._store = box, store

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        """HEAD."""
        return self._box.call("s3", f"HEAD {Key}", lambda: self._described(Key))

    def get_object(self, Bucket: str, Key: str, Range: str = "") -> dict[str, Any]:
        """GET."""

        def get() -> dict[str, Any]:
            there = self._described(Key)
            size = there["ContentLength"]
            body = io.BytesIO(self._store.objects[Key].body)
            return {**there, "Body": body, "ContentRange": f"bytes 0-9/{size}"}

        return self._box.call("s3", f"GET {Key}", get)

    def put_object(self, Bucket: str, Key: str, Body: bytes, **params: Any) -> dict[str, Any]:
        """PUT."""
        names = {"IfMatch": "If-Match", "IfNoneMatch": "If-None-Match"}
        headers = {names[name]: value for name, value in params.items() if name in names}

        def put() -> dict[str, Any]:
            if "If-Match" in headers and Key not in self._store.objects:
                raise _refused(404, "NoSuchKey")
            try:
                etag = self._store.put(Key, Body, headers)
            except Changed:
                raise _refused(412, "PreconditionFailed") from None
            if self._box.world.history.is_told:
                self._box.tell(f"stored {Key} {_short(Body)}")
            return {"ETag": etag}

        return self._box.call("s3", f"PUT {Key}", put, is_put=True)

    def list_objects_v2(self, Bucket: str, Prefix: str, StartAfter: str = "") -> dict[str, Any]:
        """LIST, in one page."""

        def page() -> dict[str, Any]:
            keys = sorted(k for k in self._store.objects if k.startswith(Prefix) and k > StartAfter)
            found = [(key, self._store.objects[key]) for key in keys]
            contents = [
                {"Key": k, "ETag": o.etag, "Size": o.size_bytes, "LastModified": o.modified_at}
                for k, o in found
            ]
            return {"Contents": contents, "IsTruncated": False}

        return self._box.call("s3", "LIST", page)

    def generate_presigned_url(self, method: str, params: Mapping[str, Any], expires_s: int) -> str:
        """Sign nothing."""
        at = self._box.edge.clock.now()
        return (
            f"https://s3/{params['Key']}?X-Amz-Date={at:%Y%m%dT%H%M%SZ}&X-Amz-Expires={expires_s}"
        )

    def _described(self, key: str) -> dict[str, Any]:
        there = self._store.objects.get(key)
        if there is None:
            raise _refused(404, "NoSuchKey")
        size, at = there.size_bytes, there.modified_at
        return {"ETag": there.etag, "ContentLength": size, "LastModified": at}


def _short(body: bytes) -> str:
    doc = json.loads(body)
    names = ("request_id", "job_id", "ended", "expires_at", "audio_etag")
    return str({name: str(doc.get(name))[:24] for name in names if doc.get(name)})


def _refused(status: int, code: str) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(cast(Any, answer), "call")


def _response(status: int, body: Any, method: str) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(method, status, {"Retry-After": "3"}, text)


class Api(RunpodApi):
    """The real API down to where a request is sent."""

    def __init__(self, box: Box, endpoint: Endpoint) -> None:
        super().__init__(SETTINGS.runpod_url, "ep1", SecretStr("rpa_key"), box.edge.clock)
        self._box, self._endpoint = box, endpoint

    def _send(
        self,
        kind: RequestKind,
        method: str,
        path: str,
        body: object = None,
        patience_s: float = float("inf"),
    ) -> Answer:
        act = partial(self._run, cast(Any, body)) if path == "/run" else partial(self._ask, path)
        return self._box.call("runpod", path, act)

    def _away(self, method: str) -> Answer | None:
        away = self._box.world.during(Kind.API_AWAY)
        if away is None:
            return None
        if not away.target % 2:
            raise requests.ConnectionError("reset by peer")
        return _response(524, "<html>a timeout occurred</html>", method)

    def _ask(self, path: str) -> Answer:
        _, what, *job_id = path.split("/")
        method = "POST" if what == "cancel" else "GET"
        away = self._away(method)
        if away is not None:
            return away
        if what == "health":
            return _response(200, self._endpoint.health(), method)
        look = self._endpoint.cancel if what == "cancel" else self._endpoint.status
        answer = look(job_id[0])
        return _response(404 if answer is None else 200, answer, method)

    def _arrives(self, body: dict[str, Any]) -> None:
        self._endpoint.take(body)

    def _run(self, body: dict[str, Any]) -> Answer:
        world = self._box.world
        refused = world.take(Kind.RUN_REFUSED)
        if refused is not None and refused.target == 0:
            cause = NewConnectionError(cast(Any, None), "no route")
            raise requests.ConnectionError(MaxRetryError(cast(Any, None), "/run", cause))
        if refused is not None:
            return _response(429 if refused.target == 1 else 400, {"error": "no"}, "POST")
        lost = world.take(Kind.RUN_LOST)
        if lost is not None:
            if lost.target >= 0:
                world.after(float(lost.target), partial(self._arrives, body))
            self._box.tell(f"the answer of /run is lost, {lost.target}")
            raise requests.ReadTimeout("no answer")
        return self._away("POST") or _response(200, self._endpoint.take(body), "POST")
