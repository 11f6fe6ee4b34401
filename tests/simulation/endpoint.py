"""RunPod's queue and its workers, as they are: docs/adr/0005 and the issue have the sources."""

import base64
import gzip
import hashlib
import json
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from bucketscribe_contract import FailureCode, JobFailure, Stage
from edge_client.jobs.retry_policy import HELD_CODES
from edge_client.session import DEFAULT, Session
from tests.simulation.world import Changed, Event, Fate, Kind, Store, World

RETENTION_S = 1800.0
WORKERS = 2
CODES = {
    Fate.INTERNAL: FailureCode.INTERNAL,
    Fate.OUT_OF_MEMORY: FailureCode.OUT_OF_MEMORY,
    Fate.TRUNCATED: FailureCode.AUDIO_TRUNCATED,
    Fate.UNREADABLE: FailureCode.AUDIO_UNREADABLE,
    Fate.NO_MODEL: FailureCode.MODEL_UNAVAILABLE,
}
FATES = (*Fate, *3 * (Fate.SUSPENDED, Fate.PUT_FAILS))


@dataclass
class Job:
    """A submission that RunPod took."""

    id: str
    session: Session
    request_id: str
    headers: dict[str, str]
    timeout_s: float
    state: str = "IN_QUEUE"
    answer: dict[str, Any] = field(default_factory=dict)
    dispatches: int = 0
    is_cancelled: bool = False
    history: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state not in ("IN_QUEUE", "IN_PROGRESS")

    def view(self) -> dict[str, Any]:
        """What /status says now."""
        return {"id": self.id, "status": self.state, **self.answer}


@dataclass(eq=False)
class Run:
    """A worker with a job in its hands."""

    job: Job
    fate: Fate
    run_s: float
    began_s: float
    body: bytes = b""
    is_over: bool = False


class Endpoint:
    """Takes jobs, hands them to workers, answers for them."""

    def __init__(self, world: World, store: Store, seed: int) -> None:
        self._world, self._store, self._seed = world, store, seed
        self.jobs: dict[str, Job] = {}
        self._queue: deque[Job] = deque()
        self._runs: list[Run] = []

    def take(self, body: dict[str, Any]) -> dict[str, Any]:
        """POST /run."""
        wanted, policy = body["input"], body["policy"]
        session = DEFAULT.parse(wanted["audio_url"].split("/", 3)[3].rpartition("/")[0])
        number = f"job-{len(self.jobs) + 1}"
        job = Job(
            number,
            session,
            wanted["request_id"],
            wanted.get("result_headers", {}),
            policy["executionTimeout"] / 1000,
        )
        others = [j for j in self.jobs.values() if j.session == session]
        living = [j.request_id for j in others if not j.is_final]
        cancelled = {j.request_id for j in others if j.is_cancelled}
        self._world.history.tell(self._world.now_s, f"{number} taken: {session.name} {living}")
        self._world.history.taken(job.request_id, living, cancelled)
        self.jobs[number] = job
        self._queue.append(job)
        self._set(job, "IN_QUEUE")
        self._world.after(policy["ttl"] / 1000, lambda: self._expire(job))
        self._world.after(0.5, self._pump)
        return job.view()

    def status(self, job_id: str) -> dict[str, Any] | None:
        """GET /status; None is a 404."""
        world, job = self._world, self.jobs.get(job_id)
        if job is None or job.state == "GONE" or world.during(Kind.MISSING):
            return None
        stale, seen = world.during(Kind.STALE), job.view()
        if stale is not None:
            past = [view for at, view in job.history if at <= world.now_s - stale.amount]
            seen = past[-1] if past else job.history[0][1]
        if world.during(Kind.SWAPPED) is not None and seen["status"] == "COMPLETED":
            others = [
                each
                for each in self.jobs.values()
                if each.session != job.session and each.state == "COMPLETED"
            ]
            others.sort(key=lambda each: "upload_failed" in str(each.answer))
            seen = {**seen, **others[-1].answer} if others else seen
        return seen

    def cancel(self, job_id: str) -> dict[str, Any] | None:
        """POST /cancel."""
        job = self.jobs.get(job_id)
        if job is None or job.state == "GONE":
            return None
        job.is_cancelled = True
        if not job.is_final:
            self._end(job, "CANCELLED", {})
        return job.view()

    def health(self) -> dict[str, Any]:
        """GET /health."""
        states = [job.state for job in self.jobs.values()]
        running = len(self._busy())
        counts = {"inQueue": states.count("IN_QUEUE"), "inProgress": states.count("IN_PROGRESS")}
        return {"jobs": counts, "workers": {"running": running, "idle": WORKERS - running}}

    def _busy(self) -> list[Run]:
        """Return the workers that RunPod counts."""
        return [run for run in self._runs if not run.is_over]

    def _pump(self) -> None:
        away = self._world.during(Kind.NO_WORKER)
        if away is not None:
            self._world.at(away.at_s + away.amount, self._pump)
            return
        while self._queue and len(self._busy()) < WORKERS:
            self._dispatch(self._queue.popleft())

    def _dispatch(self, job: Job) -> None:
        job.dispatches += 1
        self._set(job, "IN_PROGRESS")
        event = self._world.take(Kind.FATE)
        self._begin(job, event)
        if self._world.take(Kind.DUPLICATE) is not None:
            self._begin(job, None)

    def _begin(self, job: Job, event: Event | None) -> None:
        rng = random.Random(f"{self._seed} {job.id} {len(self._runs)}")  # noqa: S311 - no secret
        fate = Fate.SUCCESS if event is None else FATES[event.target % len(FATES)]
        size = self._store.objects[job.session.audio_key].size_bytes
        run_s = 5 + rng.uniform(0.5, 1.5) * size / 2000 * 0.2
        run = Run(job, fate, run_s + (event.amount if event else 0.0), self._world.now_s)
        self._runs.append(run)
        self._world.history.tell(self._world.now_s, f"{job.id} begun: {fate}")
        self._world.history.happened[f"fate {fate}"] += 1
        self._world.after(2.0, lambda: self._fetch(run))
        self._world.after(job.timeout_s, lambda: self._over(run))

    def _fetch(self, run: Run) -> None:
        """The worker reads the recording, as it is now."""
        there = self._store.objects[run.job.session.audio_key]
        doc = {
            "segments": [{"start": 0.0, "end": 1.0, "text": there.body.decode()}],
            "request_id": run.job.request_id,
            "audio_etag": there.etag,
            "processing_time_seconds": run.run_s,
        }
        run.body = json.dumps(doc).encode()
        if run.fate is Fate.HANGS:
            return
        if run.fate is Fate.SUSPENDED:
            self._world.after(20.0, lambda: self._lost(run))
        self._world.after(run.run_s, lambda: self._finish(run))

    def _finish(self, run: Run) -> None:
        """The worker is done: PUT, then answer; a suspended one comes late."""
        if run.is_over and run.fate is not Fate.SUSPENDED:
            return
        if run.fate is Fate.CRASH:
            self._lost(run)
            return
        if run.fate in CODES:
            failure = JobFailure.of(CODES[run.fate], "it failed", Stage.TRANSCRIBE)
            self._answer(run, "FAILED", {"error": failure.model_dump_json()})
            return
        if run.fate in (Fate.PUT_FAILS, Fate.PUT_DAMAGED):
            self._answer(run, "COMPLETED", {"output": self._rescue(run, "STORAGE_UNAVAILABLE")})
            return
        try:
            etag = self._store.put(run.job.session.result_key, run.body, run.job.headers)
        except Changed:
            self._world.history.happened["worker 412"] += 1
            self._answer(run, "COMPLETED", {"output": self._rescue(run, "RESULT_EXISTS")})
            return
        self._world.history.tell(self._world.now_s, f"{run.job.id} stored {etag[:7]}")
        if run.fate is Fate.PUT_UNSURE:  # its answer is lost; the second try is 412
            self._answer(run, "COMPLETED", {"output": self._rescue(run, "RESULT_EXISTS")})
        else:
            output = None if run.fate is Fate.NO_OUTPUT else self._summary(run)
            self._answer(run, "COMPLETED", {"output": output})

    def _summary(self, run: Run) -> dict[str, Any]:
        return {
            "status": "ok",
            **{"segments_count": 1, "speakers_count": 0, "duration_seconds": 1.0},
            **{"processing_time_seconds": run.run_s, "timings": {}},
            "result": _described(run.body),
            "request_id": run.job.request_id,
            "audio_etag": json.loads(run.body)["audio_etag"],
        }

    def _rescue(self, run: Run, code: str) -> dict[str, Any]:
        failure = JobFailure.of(FailureCode(code), "S3 did not take it", Stage.DELIVER)
        packed = gzip.compress(run.body, 1)[: 20 if run.fate is Fate.PUT_DAMAGED else None]
        return {
            "status": "upload_failed",
            "failure": failure.model_dump(mode="json"),
            "transcript_gzip_base64": base64.b64encode(packed).decode(),
            "result": _described(run.body),
            "sent_sha256": _described(run.body)["sha256"],
            "request_id": run.job.request_id,
        }

    def _answer(self, run: Run, state: str, answer: dict[str, Any]) -> None:
        """Take a worker's answer, unless it is late."""
        if run.is_over:
            return
        run.is_over = True
        if not run.job.is_final:
            run_ms = int(1000 * (self._world.now_s - run.began_s))
            self._end(run.job, state, {**answer, "executionTime": run_ms})
        self._pump()

    def _lost(self, run: Run) -> None:
        """RunPod misses a worker: its job is dispatched once more."""
        if run.is_over:
            return
        run.is_over, job = True, run.job
        if any(each.job is job for each in self._busy()) or job.is_final:
            pass
        elif job.dispatches > 1:
            self._end(job, "FAILED", {"error": "job timed out after 1 retries"})
        else:
            self._queue.appendleft(job)
            self._set(job, "IN_QUEUE")
        self._world.after(1.0, self._pump)

    def _over(self, run: Run) -> None:
        """A run reaches its executionTimeout."""
        if not run.is_over:
            self._answer(run, "FAILED", {"error": "executionTimeout exceeded"})

    def _expire(self, job: Job) -> None:
        """A job reaches its ttl."""
        if not job.is_final:
            has_run = {"executionTime": 1000} if job.state == "IN_PROGRESS" else {}
            self._end(job, "TIMED_OUT", has_run)

    def _end(self, job: Job, state: str, answer: dict[str, Any]) -> None:
        job.answer = answer
        for run in self._busy():
            if run.job is job:
                run.is_over = True
        if job in self._queue:
            self._queue.remove(job)
        if any(code in str(answer.get("error")) for code in HELD_CODES):
            self._world.history.is_free(job.request_id)
        self._set(job, state)
        self._world.after(RETENTION_S, lambda: self._set(job, "GONE"))
        self._world.after(1.0, self._pump)

    def _set(self, job: Job, state: str) -> None:
        job.state = state
        job.history.append((self._world.now_s, job.view()))
        self._world.history.tell(self._world.now_s, f"{job.id} {state} {str(job.answer)[:80]}")
        self._world.history.job(job.request_id, state)


def _described(body: bytes) -> dict[str, Any]:
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
