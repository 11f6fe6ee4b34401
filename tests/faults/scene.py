"""Where a case plays: one session with a proxy of its own before S3 and another before the queue.

All scenes share one stack (`Ground`) and can play at the same time: what is ordered and counted
goes by the session's name.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from devstack import EventKind, Stack
from devstack.queue import QueueConfig
from devstack.stack import ENDPOINT_ID
from tests.faults.orders import END, FOLDER_VARIABLE, RUN, Entry, Folder
from tests.faults.proxy import Exchange, Proxy, Rule
from tests.processes import is_running, wait_until
from tests.recordings import SAMPLE_RATE_HZ, short_speech, write_recording

ROOT = Path(__file__).resolve().parents[2]
USER = "users/faults/audio/sessions"
EDGE_TIMEOUT_S = 200
QUICK_EDGE = {"RETRY_ATTEMPTS": "3", "RETRY_DELAY_SECONDS": "1", "LOST_ANSWER_SECONDS": "5"}
"""The edge's pauses, shortened: patience is tested, not how long it lasts."""
EDGE = ("edge_client",)
WORKERS = 3
WORKER_SILENCE_S = 8.0
PADDING_BYTES = 12_000_000
PAUSE_S = 40
SIGNATURE = re.compile(r"X-Amz-Signature(=|%3D)[0-9a-f]", re.IGNORECASE)
HANDLER = "tests/faults/faulty_handler.py"


@dataclass(frozen=True)
class Ground:
    """What all cases share.

    Attributes:
        back: Before the queue, on the workers' side.
        recordings: Name to file.
        printed: All that people could have read.
        signatures: Of every URL that a worker used.
    """

    stack: Stack
    folder: Folder
    back: Proxy
    recordings: dict[str, bytes]
    printed: list[str] = field(default_factory=list)
    signatures: set[str] = field(default_factory=set)

    def secrets_in_logs(self) -> list[str]:
        """Return what holds a signature, of all that people can read."""
        texts = {path.name: path.read_text(errors="replace") for path in self.stack.logs.iterdir()}
        texts["the edge client's output"] = "\n".join(self.printed)
        return [
            name
            for name, text in texts.items()
            if SIGNATURE.search(text) or any(value in text for value in self.signatures)
        ]

    def files_left(self) -> list[str]:
        """Return the jobs' folders that are still there."""
        home = self.stack.worker_home / "tmp"
        return sorted(path.name for path in home.glob("bucketscribe-*"))


@dataclass(frozen=True)
class EdgeSaid:
    """What a run of the edge client answered."""

    code: int
    facts: dict[str, Any]
    text: str


class Scene:
    """One session's part of the stack."""

    def __init__(self, ground: Ground, name: str, s3: Proxy, queue: Proxy) -> None:
        self.ground, self.name, self.s3, self.queue = ground, name, s3, queue
        self.env = {
            **os.environ,
            **ground.stack.env,
            "AWS_ENDPOINT_URL_S3": s3.url,
            "RUNPOD_ENDPOINT_BASE_URL": f"{queue.url}/v2",
            **QUICK_EDGE,
        }
        self.notes: list[str] = []
        self.prefix = f"{USER}/{name}"
        self._client = ground.stack.s3.client()

    def put(self, name: str, body: bytes) -> None:
        """Store an object of the session, past the proxy."""
        self._client.put_object(**self._at(name), Body=body)

    def delete(self, name: str) -> None:
        """Remove an object of the session, past the proxy."""
        self._client.delete_object(**self._at(name))

    def transcript(self) -> Any | None:
        """Return what S3 has as the session's transcript, None if nothing."""
        try:
            found = self._client.get_object(**self._at("transcription.json"))
        except self._client.exceptions.NoSuchKey:
            return None
        return json.loads(found["Body"].read())

    def etag(self, name: str) -> str:
        """Return the ETag of an object of the session."""
        return self._client.head_object(**self._at(name))["ETag"]

    def presign(self, name: str, expires_s: int, **put: str) -> str:
        """Sign a GET of an object of the session, or a PUT of a content type, past the proxy."""
        method = "put_object" if put else "get_object"
        params = {**self._at(name), **put}
        return self._client.generate_presigned_url(method, Params=params, ExpiresIn=expires_s)

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.ground.stack.s3.bucket, "Key": f"{self.prefix}/{name}"}

    def start_edge(self, *arguments: str, module: Sequence[str] = EDGE) -> Callable[[], EdgeSaid]:
        """Start the real edge client; returns what waits for its answer."""
        started = subprocess.Popen(
            [sys.executable, "-m", *module, *arguments],
            env=self.env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return lambda: self._answer(started)

    def start_submit(self, module: Sequence[str] = EDGE) -> Callable[[], EdgeSaid]:
        """Do what a user does; returns what waits for the answer."""
        timeout = str(EDGE_TIMEOUT_S - 20)
        arguments = ("submit", self.prefix, "--wait", "--json", "--timeout", timeout)
        return self.start_edge(*arguments, module=module)

    def submit(self, module: Sequence[str] = EDGE) -> EdgeSaid:
        """Do what a user does, to its end."""
        return self.start_submit(module)()

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

    def job_ids(self) -> list[str]:
        """Return RunPod's names of the session's jobs."""
        return [
            json.loads(e.answer.body)["id"]
            for e in self.queue.exchanges
            if e.path.endswith("/run") and e.answer and e.answer.status == 200
        ]

    def owns(self, exchange: Exchange) -> bool:
        """Whether an exchange is the session's; only the workers' proxy has others' too."""
        path = exchange.path
        return "/job-done/" not in path or any(job_id in path for job_id in self.job_ids())

    def history(self) -> str:
        """Tell what the queue saw of the session's jobs, with seconds since the first."""
        events = [e for e in self.ground.stack.queue_events() if e.job_id in self.job_ids()]
        told = [e for e in events if e.kind is not EventKind.PROGRESS]
        return ", ".join(f"{e.kind} {e.at - told[0].at:.1f} {e.worker_id or ''}" for e in told)

    def entries(self, what: str | None = None) -> list[Entry]:
        """Return what workers noted about the session."""
        return self.ground.folder.entries(self.name, what)

    def wait_for(self, what: str) -> Entry:
        """Return the first entry of a kind, once there is one."""
        return wait_until(lambda: self.entries(what), 90.0, what)[0]

    def wait_until_idle(self) -> None:
        """Wait until no handler runs for the session any more; killed ones do not."""
        wait_until(lambda: all(map(self._is_over, self.entries(RUN))), 30.0, "the handler's end")

    def _is_over(self, run: Entry) -> bool:
        ended = [e for e in self.entries(END) if e.pid == run.pid and e.at >= run.at]
        return bool(ended) or not is_running(run.pid)


@contextmanager
def scene(ground: Ground, name: str, rules: Sequence[Rule] = ()) -> Iterator[Scene]:
    """Set the stage; afterwards remember the signatures that were used."""
    upstream = ground.stack.queue.base_url.removesuffix("/v2")
    with Proxy(ground.stack.s3.url) as s3, Proxy(upstream) as queue:
        made = Scene(ground, name, s3, queue)
        for rule in rules:
            rule.scene = made
        for proxy in (s3, queue, ground.back):
            proxy.rules.extend(rules)
        yield made
        for exchange in s3.exchanges:
            query = parse_qs(urlsplit(exchange.target).query)
            ground.signatures.update(query.get("X-Amz-Signature", []))


@contextmanager
def common_ground() -> Iterator[Ground]:
    """Start everything once."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name, Proxy() as back:
        home = Path(name)
        orders = Folder(home / "orders")
        orders.path.mkdir()
        result_url = f"{back.url}/v2/{ENDPOINT_ID}/job-done/$RUNPOD_POD_ID/$ID?gpu=none"
        stack = Stack(
            workers=WORKERS,
            logs=home / "logs",
            worker_command=(sys.executable, HANDLER),
            worker_env={
                FOLDER_VARIABLE: str(orders.path),
                "RUNPOD_WEBHOOK_POST_OUTPUT": result_url,
                "PROGRESS_INTERVAL_SECONDS": "0.2",
                "CPU_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
            config=QueueConfig(worker_silence_s=WORKER_SILENCE_S),
            grace_s=20.0,
        )
        with stack:
            back.upstream = stack.queue.base_url.removesuffix("/v2")
            yield Ground(stack, orders, back, _recordings(home))


def _recordings(home: Path) -> dict[str, bytes]:
    """Return the recordings; the padded ones hold the short one's sound and megabytes of else.

    The long one is FLAC: a WAV is analysed while it arrives, in batches that depend on the network.
    """
    path, speech = home / "speech.wav", short_speech()
    pause = np.zeros(PAUSE_S * SAMPLE_RATE_HZ, np.int16)
    write_recording(path, np.concatenate([speech, pause, speech]), encoding="flac")
    long = path.read_bytes()
    write_recording(path, speech)
    short = path.read_bytes()
    padded = {"padded": _padded(short, 1), "padded otherwise": _padded(short, 2)}
    return {"short": short, "long": long, **padded}


def _padded(wav: bytes, seed: int) -> bytes:
    """Return a WAV file with a chunk that players skip."""
    chunk = struct.pack("<4sI", b"JUNK", PADDING_BYTES)
    chunk += np.random.default_rng(seed).bytes(PADDING_BYTES)
    size = struct.unpack_from("<I", wav, 4)[0]
    return wav[:4] + struct.pack("<I", size + len(chunk)) + wav[8:] + chunk
