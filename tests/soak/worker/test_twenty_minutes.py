"""Long jobs end soon when they are cancelled, and give what they give as a whole."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from bench.corpus import SAMPLE_RATE_HZ
from bench.long import join, utterances
from bench.speed.inputs import Storage
from bucketscribe_contract import Stage
from tests.models.worker.engines.diarization.test_clustering import (
    ANY_NUMBER,
    Clusterer,
    clusterers,
    conversation,
)
from tests.recordings import write_recording
from tests.soak.conftest import Tell
from worker.cancel import CancelToken
from worker.engines.diarization.clustering import cluster
from worker.errors import JobCancelled
from worker.host.progress import ProgressReporter
from worker.runtime import Runtime
from worker.settings import WorkerSettings
from worker.types import Samples

pytestmark = pytest.mark.timeout(3600)
FREE_S = 10.0
__all__ = ["clusterers"]


@dataclass
class Long:
    """A worker, and recordings of 20 minutes and an hour in storage on loopback."""

    runtime: Runtime
    storage: Storage

    def run(self, name: str, token: CancelToken, progress: ProgressReporter, **fields: Any) -> Any:
        """Run a job on a recording."""
        return self.runtime.run({"audio_url": self.storage.url(name)} | fields, token, progress)

    def document(self, name: str) -> dict[str, Any]:
        """Return a recording's transcript, but for how long it took."""
        self.run(name, CancelToken(), quiet(), result_url=self.storage.url("result.json"))
        found: dict[str, Any] = json.loads((self.storage.folder / "result.json").read_bytes())
        return found | {"processing_time_seconds": None}


def quiet() -> ProgressReporter:
    """Report to nobody."""
    return ProgressReporter([], 1.0)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Long]:
    folder = tmp_path_factory.mktemp("long")
    samples = join(utterances(), 1.0).samples
    for minutes, kind in ((20, "wav"), (20, "flac"), (60, "wav")):
        part = samples[: minutes * 60 * SAMPLE_RATE_HZ]
        write_recording(folder / f"{minutes}.{kind}", part, encoding=kind)
    runtime = Runtime(WorkerSettings(allow_loopback_urls=True))
    runtime.load()
    with Storage(folder) as storage:
        yield Long(runtime, storage)


def others(before: set[psutil.Process]) -> list[list[str]]:
    """Return the commands of new children; a decoder waits for the next job."""
    new = set(psutil.Process().children(recursive=True)) - before
    commands = [child.cmdline() for child in new]
    return [command for command in commands if "worker.engines.decoder.child" not in command]


@pytest.mark.parametrize(
    ("stage", "share"),
    [
        *((stage, 0.3) for stage in list(Stage)[1:7]),
        (Stage.DIARIZE, 1.0),  # its clustering
        (Stage.ATTRIBUTE, 0.0),
        (Stage.DELIVER, 0.0),
    ],
)
def test_a_cancelled_worker_is_free_soon_and_leaves_nothing(
    long: Long,
    stage: Stage,
    share: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tell: Tell,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("worker.stages.diarize.WHOLE_S", 60.0)
    before = set(psutil.Process().children(recursive=True))
    token, progress = CancelToken(), quiet()
    report = progress.report

    def cancel_at(current: Stage, done: float = 0.0) -> None:
        report(current, done)
        if current is stage and done >= share:
            token.cancel()

    progress.report = cancel_at  # type: ignore[method-assign]
    name = "20.flac" if stage is Stage.DECODE else "20.wav"
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        result_url = f"http://127.0.0.1:{deaf.getsockname()[1]}/result.json"
        with pytest.raises(JobCancelled):
            long.run(name, token, progress, result_url=result_url)
    took_s = time.monotonic() - token.at
    tell(f"free after {took_s:.1f} s")
    assert took_s < FREE_S
    assert others(before) == []
    assert list(tmp_path.iterdir()) == []
    names = {thread.name.split("_")[0] for thread in threading.enumerate()}
    assert not names & {"task", "transcribe", "align"}
    short = long.run("20.wav", CancelToken(), quiet(), clip={"start_s": 0.0, "end_s": 5.0})
    assert short["segments"]


@pytest.mark.parametrize("name", ["centroid", "vbx"])
def test_clustering_of_four_hours_looks_often_whether_it_is_cancelled(
    clusterers: dict[str, Clusterer], name: str, tell: Tell
) -> None:
    activity, rows, _ = conversation(4 * 7200, 7)
    looks = [time.monotonic()]
    cluster(rows, activity, ANY_NUMBER, clusterers[name], lambda: looks.append(time.monotonic()))
    longest_s = max(later - earlier for earlier, later in pairwise([*looks, time.monotonic()]))
    tell(f"{looks[-1] - looks[0]:.1f} s, looks at least every {longest_s:.1f} s")
    assert longest_s < FREE_S
    left, before = len(looks) // 2, set(psutil.Process().children())

    def cancel_halfway() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise JobCancelled(Stage.DIARIZE)

    with pytest.raises(JobCancelled):
        cluster(rows, activity, ANY_NUMBER, clusterers[name], cancel_halfway)
    assert others(before) == []


@pytest.mark.parametrize("name", ["20.wav", "60.wav"])
def test_parts_of_any_size_give_the_same_words_and_times(
    long: Long, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read and heard in small parts while it arrives, or at once when it is there."""

    def at_once(file: Any, n_samples: int, offset: int = 0) -> Samples:
        file.seek(offset)
        return np.fromfile(file, "<i2", n_samples)

    def in_parts(part: int) -> dict[str, Any]:
        monkeypatch.setattr("worker.types._BLOCK_SAMPLES", part)
        monkeypatch.setattr("worker.stages.stream._MOST_SAMPLES", part)
        monkeypatch.setattr("worker.engines.diarization.turns.BLOCK_FRAMES", part)
        monkeypatch.setattr("worker.engines.diarization.chunks.SLICE", part)
        return long.document(name)

    streamed = in_parts(1001)
    assert len(streamed["segments"]) > 100
    monkeypatch.setattr("worker.pipeline.Job._find_speech_early", lambda *_: None)
    monkeypatch.setattr("worker.stages.decode.SampleFile", at_once)
    assert in_parts(1 << 40) == streamed
