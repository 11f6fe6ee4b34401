"""Whole jobs of ten minutes to a day: memory, time, people and progress.

How well the people are told apart is measured by `bench.long`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.corpus import SAMPLE_RATE_HZ, SPEECH_DIR, load_folder, write_recording
from bench.long import join, utterances
from bench.speed.inputs import Storage
from bench.speed.measure import memory_peak
from bench.speed.sides import Worker, run_process
from edge_client.jobs.poll import Estimate
from tests.soak.conftest import Tell
from worker.cancel import CancelToken
from worker.engines.whisper import DecodedChunk, DecodingOptions, Whisper
from worker.host.progress import ProgressReporter

pytestmark = pytest.mark.timeout(5 * 3600)
MODELS = Path(__file__).parents[3] / "models"
HOURS = (1 / 6, 1.0, 4.0)
WORDS_PER_S = 2.5


@dataclass(frozen=True)
class Prepared(Whisper):
    """A Whisper that hears prepared text, as fast as people talk, at once."""

    text: tuple[str, ...] = ()

    def decode(
        self, chunks: Sequence[npt.NDArray[np.float32]], options: DecodingOptions
    ) -> list[DecodedChunk]:
        """Return as many words as a chunk's seconds hold."""
        options.check()
        counts = [round(WORDS_PER_S * len(chunk) / SAMPLE_RATE_HZ) for chunk in chunks]
        texts = [" " + " ".join(self.text[:count]) for count in counts]
        return [DecodedChunk(text, (0,), avg_logprob=-0.2, no_speech_prob=0.0) for text in texts]


def run_job(
    models: Path, audio_url: str, result_url: str, text: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Run one job in this process; return its seconds, memory and percentages by the second.

    With a text, it is what every chunk says.
    """
    worker = Worker(models)
    worker.run(audio_url, result_url, clip_s=20.0)
    if text:
        loaded = worker.runtime.load()
        whisper = loaded.whisper
        loaded.whisper = Prepared(whisper.model, whisper.runs, whisper.core, whisper.name, text)
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


def run_jobs(
    folder: Path, all_hours: Sequence[float], tell: Tell, text: tuple[str, ...] = ()
) -> dict[float, dict[str, Any]]:
    """Run a job on the first hours, each in a process of its own, of voices that come and go."""
    recording, found = join(utterances(), max(all_hours)), {}
    with Storage(folder) as storage:
        for hours in all_hours:
            write_recording(
                folder / "audio.wav", recording.samples[: round(hours * 3600 * SAMPLE_RATE_HZ)]
            )
            urls = storage.url("audio.wav"), storage.url("result.json")
            one = run_process(run_job, MODELS.resolve(), *urls, text)
            document = json.loads((folder / "result.json").read_bytes())
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
            assert one["people"][0] == one["people"][1]
            assert one["gap_s"] < 60
    return found


def test_four_hours_need_little_more_memory_than_ten_minutes(tmp_path: Path, tell: Tell) -> None:
    shortest, hour, longest = run_jobs(tmp_path, HOURS, tell).values()
    assert longest["peak"] - shortest["peak"] < 500e6
    assert longest["wall_s"] / hour["wall_s"] < 4.2
    assert all(one["estimate"] < 0.25 for one in (hour, longest))


def test_twelve_hours_need_2500_mb_and_as_much_longer_as_they_are(
    tmp_path: Path, tell: Tell
) -> None:
    check_a_day(run_jobs(tmp_path, (1.0, 12.0), tell))


def test_a_day_needs_2500_mb_and_as_much_longer_as_it_is(tmp_path: Path, tell: Tell) -> None:
    """The text is prepared; all else is real."""
    said = (utterance.text for one in load_folder(SPEECH_DIR) for utterance in one.utterances)
    words = tuple(" ".join(said).split())
    check_a_day(run_jobs(tmp_path, (1.0, 24.0), tell, words))


def check_a_day(found: dict[float, dict[str, Any]]) -> None:
    """Compare an hour with many."""
    (_, hour), (hours, day) = found.items()
    assert day["peak"] < 2.5e9
    assert day["wall_s"] / hour["wall_s"] < 1.05 * hours
