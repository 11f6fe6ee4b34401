"""The stack that all cases share, its recordings, and what must be true when all is over."""

from __future__ import annotations

import re
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from devstack import Stack
from devstack.queue import QueueConfig
from devstack.stack import ENDPOINT_ID
from tests.faults.orders import FOLDER_VARIABLE, Folder
from tests.faults.proxy import Proxy
from tests.faults.scene import Ground
from tests.recordings import SAMPLE_RATE_HZ, short_speech, write_recording

WORKERS = 3
WORKER_SILENCE_S = 8.0
PADDING_BYTES = 12_000_000
PAUSE_S = 40
_SIGNATURE = re.compile(r"X-Amz-Signature(=|%3D)[0-9a-f]", re.IGNORECASE)
_HANDLER = "tests/faults/faulty_handler.py"


@contextmanager
def common_ground() -> Iterator[Ground]:
    """Start everything once."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name, Proxy("") as back:
        home = Path(name)
        orders = Folder(home / "orders")
        orders.path.mkdir()
        result_url = f"{back.url}/v2/{ENDPOINT_ID}/job-done/$RUNPOD_POD_ID/$ID?gpu=none"
        stack = Stack(
            workers=WORKERS,
            logs=home / "logs",
            worker_command=(sys.executable, _HANDLER),
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
    """Return the recordings; the padded ones hold the short one's sound and megabytes of else."""
    speech = short_speech()
    pause = np.zeros(PAUSE_S * SAMPLE_RATE_HZ, np.int16)
    write_recording(home / "short.wav", speech)
    write_recording(home / "long.wav", np.concatenate([speech, pause, speech]))
    short = (home / "short.wav").read_bytes()
    return {
        "short": short,
        "long": (home / "long.wav").read_bytes(),
        "padded": _padded(short, 1),
        "padded otherwise": _padded(short, 2),
    }


def _padded(wav: bytes, seed: int) -> bytes:
    """Return a WAV file with a chunk that players skip."""
    chunk = struct.pack("<4sI", b"JUNK", PADDING_BYTES)
    chunk += np.random.default_rng(seed).bytes(PADDING_BYTES)
    size = struct.unpack_from("<I", wav, 4)[0]
    return wav[:4] + struct.pack("<I", size + len(chunk)) + wav[8:] + chunk


def secrets_in_logs(ground: Ground) -> list[str]:
    """Return what holds a signature, of all that people can read."""
    logs = {str(p.name): p.read_text(errors="replace") for p in ground.stack.logs.iterdir()}
    texts = {**logs, "the edge client's output": "\n".join(ground.printed)}
    return [
        name
        for name, text in texts.items()
        if _SIGNATURE.search(text) or any(value in text for value in ground.signatures)
    ]


def files_left(ground: Ground) -> list[str]:
    """Return the jobs' folders that are still there."""
    return sorted(path.name for path in (ground.stack.worker_home / "tmp").glob("bucketscribe-*"))
