"""Whole jobs of ten minutes to four hours: memory, time, people and progress.

How well the people are told apart is measured by `bench.long`.
"""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.corpus import SAMPLE_RATE_HZ, write_recording
from bench.long import Recording, join, utterances
from bench.speed.inputs import Storage
from bench.speed.measure import memory_peak
from bench.speed.sides import Worker, run_process
from edge_client.jobs.poll import Estimate
from tests.soak.conftest import Tell
from worker.cancel import CancelToken
from worker.host.progress import ProgressReporter

pytestmark = pytest.mark.timeout(7200)
MODELS = Path(__file__).parents[3] / "models"
HOURS = (1 / 6, 1.0, 4.0)


def run_job(models: Path, audio_url: str, result_url: str) -> dict[str, Any]:
    """Run one job in this process; return its seconds, memory and percentages by the second."""
    worker = Worker(models)
    worker.run(audio_url, result_url, clip_s=20.0)
    seen: list[tuple[float, float]] = []
    started = time.perf_counter()
    progress = ProgressReporter(
        [lambda update: seen.append((time.perf_counter() - started, update["percent"]))], 1.0
    )
    job = {"audio_url": audio_url, "result_url": result_url}
    with memory_peak() as memory:
        output = worker.runtime.run(job, CancelToken(), progress)
    return memory | {
        "wall_s": time.perf_counter() - started,
        "seen": seen,
        "timings": output["timings"],
    }


def worst_estimate(seen: list[tuple[float, float]], wall_s: float) -> float:
    """Return how far the edge's estimate of the whole is off after a tenth of the job."""
    estimate = Estimate()
    errors = [
        abs(now_s + left_s - wall_s) / wall_s
        for now_s, percent in seen
        if (left_s := estimate.left_s(now_s, percent)) is not None and now_s > wall_s / 10
    ]
    return max(errors)


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Seven voices that leave and come back."""
    return join(utterances(), max(HOURS))


def test_four_hours_need_little_more_memory_than_ten_minutes(
    recording: Recording, tmp_path: Path, tell: Tell
) -> None:
    found = {}
    with Storage(tmp_path) as storage:
        for hours in HOURS:
            write_recording(
                tmp_path / "audio.wav", recording.samples[: round(hours * 3600 * SAMPLE_RATE_HZ)]
            )
            urls = storage.url("audio.wav"), storage.url("result.json")
            one = run_process(run_job, MODELS.resolve(), *urls)
            document = json.loads((tmp_path / "result.json").read_bytes())
            true = {turn.speaker for turn in recording.until(hours * 3600)}
            one["people"] = len(document["speakers"]), len(true)
            gaps = [later - earlier for (earlier, _), (later, _) in pairwise(one["seen"])]
            one["gap_s"], one["estimate"] = max(gaps), worst_estimate(one["seen"], one["wall_s"])
            found[hours] = one
            tell(
                f"{hours:.2f} h: {one['wall_s']:.0f} s, {one['before'] / 1e6:.0f} MB + "
                f"{one['added'] / 1e6:.0f} MB, people {one['people']}, longest "
                f"silence {one['gap_s']:.0f} s, estimate off by {one['estimate']:.0%}; "
                f"{len(json.dumps(document)) / 1e6:.1f} MB; {one['timings']}"
            )
            assert np.all(np.diff([percent for _, percent in one["seen"]]) >= 0)
    shortest, hour, longest = found.values()
    assert longest["peak"] - shortest["peak"] < 500e6
    assert longest["wall_s"] / hour["wall_s"] < 4.2
    assert all(one["people"][0] == one["people"][1] for one in found.values())
    assert all(one["gap_s"] < 60 for one in found.values())
    assert all(one["estimate"] < 0.25 for one in (hour, longest))
