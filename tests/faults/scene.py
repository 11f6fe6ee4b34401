"""Where a case plays: one session with a proxy of its own before S3 and another before the queue.

All scenes share one stack (`Ground`) and can play at the same time: what is ordered and counted
goes by the session's name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from devstack import EventKind, Stack
from tests.faults.exchange import Exchange
from tests.faults.orders import END, RUN, Entry, Folder
from tests.faults.proxy import Proxy, Rule
from tests.processes import is_running

ROOT = Path(__file__).resolve().parents[2]
USER = "users/faults/audio/sessions"
EDGE_TIMEOUT_S = 200
QUICK_EDGE = {"RETRY_ATTEMPTS": "3", "RETRY_DELAY_SECONDS": "1", "LOST_ANSWER_SECONDS": "5"}
"""The edge's pauses, shortened: patience is tested, not how long it lasts."""


@dataclass(frozen=True)
class Ground:
    """What all cases share.

    Attributes:
        back: Before the queue, on the workers' side.
        recordings: Name to WAV file.
        printed: All that people could have read.
        signatures: Of every URL that a worker used.
    """

    stack: Stack
    folder: Folder
    back: Proxy
    recordings: dict[str, bytes]
    printed: list[str] = field(default_factory=list)
    signatures: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class EdgeSaid:
    """What a run of the edge client answered."""

    code: int
    facts: dict[str, Any]
    text: str

    @property
    def state(self) -> str:
        """How the session ended."""
        return str(self.facts.get("state", ""))

    @property
    def failure(self) -> str:
        """The failure's code, or the edge's own error's."""
        inside = self.facts.get("failure") or self.facts.get("error") or {}
        return str(inside.get("code", ""))


class Scene:
    """One session's part of the stack."""

    def __init__(self, ground: Ground, name: str, s3: Proxy, queue: Proxy) -> None:
        self.ground, self.name, self.s3, self.queue = ground, name, s3, queue
        self.env: dict[str, str] = dict(QUICK_EDGE)
        self.notes: list[str] = []

    @property
    def prefix(self) -> str:
        """The session's key prefix."""
        return f"{USER}/{self.name}"

    def put(self, key: str, body: bytes) -> None:
        """Store an object of the session, past the proxy."""
        s3 = self.ground.stack.s3
        s3.client().put_object(Bucket=s3.bucket, Key=f"{self.prefix}/{key}", Body=body)

    def delete(self, key: str) -> None:
        """Remove an object of the session, past the proxy."""
        s3 = self.ground.stack.s3
        s3.client().delete_object(Bucket=s3.bucket, Key=f"{self.prefix}/{key}")

    def transcript(self) -> Any | None:
        """Return what S3 has as the session's transcript, None if nothing."""
        s3 = self.ground.stack.s3
        client = s3.client()
        try:
            found = client.get_object(Bucket=s3.bucket, Key=f"{self.prefix}/transcription.json")
        except client.exceptions.NoSuchKey:
            return None
        return json.loads(found["Body"].read())

    def presign(self, key: str, expires_s: int, **put: str) -> str:
        """Sign a GET of an object of the session, or a PUT of a content type, past the proxy."""
        s3 = self.ground.stack.s3
        url: str = s3.client().generate_presigned_url(
            "put_object" if put else "get_object",
            Params={"Bucket": s3.bucket, "Key": f"{self.prefix}/{key}", **put},
            ExpiresIn=expires_s,
        )
        return url

    def start_edge(
        self, *arguments: str, module: tuple[str, ...] = ("edge_client",)
    ) -> Callable[[], EdgeSaid]:
        """Start the real edge client; returns what waits for its answer."""
        started = subprocess.Popen(
            [sys.executable, "-m", *module, *arguments],
            env={**os.environ, **self.ground.stack.env, **self._endpoints(), **self.env},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return lambda: self._answer(started)

    def edge(self, *arguments: str, module: tuple[str, ...] = ("edge_client",)) -> EdgeSaid:
        """Run the real edge client to its end."""
        return self.start_edge(*arguments, module=module)()

    def submit(self) -> EdgeSaid:
        """Do what a user does."""
        timeout = str(EDGE_TIMEOUT_S - 20)
        return self.edge("submit", self.prefix, "--wait", "--json", "--timeout", timeout)

    def job_ids(self) -> list[str]:
        """Return RunPod's names of the session's jobs."""
        return [
            json.loads(e.answer.body)["id"]
            for e in self.queue.exchanges
            if e.path.endswith("/run") and e.answer and e.answer.status == 200
        ]

    def history(self) -> str:
        """Tell what the queue saw of the session's jobs, with seconds since the first."""
        events = [e for e in self.ground.stack.queue_events() if e.job_id in self.job_ids()]
        told = [e for e in events if e.kind is not EventKind.PROGRESS]
        return ", ".join(f"{e.kind} {e.at - told[0].at:.1f} {e.worker_id or ''}" for e in told)

    def is_mine(self, exchange: Exchange) -> bool:
        """Whether an exchange between worker and queue is about one of the session's jobs."""
        return any(job_id in exchange.path for job_id in self.job_ids())

    def entries(self, what: str | None = None) -> list[Entry]:
        """Return what workers noted about the session."""
        return self.ground.folder.entries(self.name, what)

    def runs(self) -> int:
        """Return how often a handler ran for the session."""
        return len(self.entries(RUN))

    def wait_for(self, what: str, count: int = 1, timeout_s: float = 90.0) -> Entry:
        """Return the entry for which the case waits."""
        found: list[Entry] = self.until(
            lambda: self.entries(what)[count - 1 : count], what, timeout_s
        )
        return found[0]

    def until(self, look: Callable[[], Any], what: str, timeout_s: float = 90.0) -> Any:
        """Return what ``look`` finds, as soon as it finds something."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.05)
        raise AssertionError(f"{what} did not happen within {timeout_s:.0f} s")

    def wait_until_idle(self) -> None:
        """Wait until no handler runs for the session any more; killed ones do not."""
        self.until(lambda: all(map(self._is_over, self.entries(RUN))), "the handler's end", 30.0)

    def _is_over(self, run: Entry) -> bool:
        ended = [e for e in self.entries(END) if e.pid == run.pid and e.at >= run.at]
        return bool(ended) or not is_running(run.pid)

    def _endpoints(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self.s3.url,
            "RUNPOD_ENDPOINT_BASE_URL": f"{self.queue.url}/v2",
        }

    def _answer(self, started: subprocess.Popen[str]) -> EdgeSaid:
        try:
            out, err = started.communicate(timeout=EDGE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            started.kill()
            out, err = started.communicate()
            err += "\n(killed by the suite)"
        self.ground.printed.extend([out, err])
        lines = [line for line in out.splitlines() if line.startswith("{")]
        facts = json.loads(lines[-1]) if lines else {}
        return EdgeSaid(started.returncode, facts, (out + err).strip())


@contextmanager
def scene(
    ground: Ground,
    name: str,
    s3_rules: Callable[[Scene], Sequence[Rule]],
    queue_rules: Callable[[Scene], Sequence[Rule]],
) -> Iterator[Scene]:
    """Set the stage; afterwards remember the signatures that were used."""
    with ExitStack() as undo:
        s3 = undo.enter_context(Proxy(ground.stack.s3.url))
        queue = undo.enter_context(Proxy(ground.stack.queue.base_url.removesuffix("/v2")))
        made = Scene(ground, name, s3, queue)
        s3.rules.extend(s3_rules(made))
        queue.rules.extend(queue_rules(made))
        yield made
        for exchange in s3.exchanges:
            query = parse_qs(urlsplit(exchange.target).query)
            ground.signatures.update(query.get("X-Amz-Signature", []))
