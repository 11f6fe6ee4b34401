"""Diarize: who speaks when, with pyannote's models and our way through them.

Takes a `Waveform` and the job's hints; returns a `Diarization`: the turns that stock pyannote
gives (`worker.engines.diarization`). What it cannot do with the hints (more speakers than there are
embeddings) it does without them, and the warning ``SPEAKER_HINTS_UNMET`` says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pyannote.audio.pipelines.utils.diarization import set_num_speakers
from whisperx.diarize import DiarizationPipeline

from bucketscribe_contract import JobInput, Stage, WarningCode
from worker.cancel import CancelToken
from worker.engines.diarization.activity import Activity, ActivityRecorder
from worker.engines.diarization.clustering import SpeakerBounds, cluster
from worker.engines.diarization.embeddings import Vectors, embed
from worker.engines.diarization.turns import speaker_turns
from worker.engines.segmentation import (
    Segmenter,
    embedding_of,
    segmentation_of,
    windows_at_once,
)
from worker.memory import give_back
from worker.types import Diarization, Samples, SpeakerTurn, Waveform

Hints = dict[str, int]
Progress = Callable[[float], None]


def diarize(
    waveform: Waveform,
    job: JobInput,
    pipeline: DiarizationPipeline,
    batch_size: int,
    token: CancelToken,
    on_progress: Progress = lambda _: None,
    activity: Activity | None = None,
) -> Diarization:
    """Return the speaker turns, ordered by start.

    Args:
        waveform: The recording.
        job: Speaker hints.
        pipeline: Loaded once per process.
        batch_size: Windows that go through segmentation at once; fewer are embedded at once.
        token: Looked at between batches of windows.
        on_progress: Given the share of the work done, in [0, 1].
        activity: What speech detection's own segmentation found, where both use the same.
    """
    if activity is not None:
        return diarize_activity(waveform, activity, job, pipeline, batch_size, token, on_progress)
    activity = find_activity(
        waveform.samples, pipeline, batch_size, token, lambda share: on_progress(share / 2)
    )
    return diarize_activity(
        waveform,
        activity,
        job,
        pipeline,
        batch_size,
        token,
        lambda share: on_progress((1 + share) / 2),
    )


def find_activity(
    samples: Samples,
    pipeline: DiarizationPipeline,
    batch_size: int,
    token: CancelToken,
    on_progress: Progress = lambda _: None,
) -> Activity:
    """Run the pipeline's segmentation over a waveform; arguments as in `diarize`."""
    segmenter = Segmenter(segmentation_of(pipeline.model))
    recorder = recorder_for(pipeline, segmenter.grid.count(len(samples)))
    batch = windows_at_once(segmenter.device, batch_size)
    for scores in segmenter.run(samples, batch, _step(token, on_progress)):
        recorder.add(scores)
    return recorder.activity()


def recorder_for(pipeline: DiarizationPipeline, n_windows: int = 0) -> ActivityRecorder:
    """Return what gathers scores of the pipeline's segmentation, whoever computes them.

    Args:
        pipeline: Loaded once per process.
        n_windows: How many to expect, where that is known.
    """
    segmenter = Segmenter(segmentation_of(pipeline.model))
    threshold = None if segmenter.is_powerset else float(pipeline.model.segmentation.threshold)
    return ActivityRecorder(segmenter, threshold, n_windows)


def diarize_activity(
    waveform: Waveform,
    activity: Activity,
    job: JobInput,
    pipeline: DiarizationPipeline,
    batch_size: int,
    token: CancelToken,
    on_progress: Progress = lambda _: None,
) -> Diarization:
    """Return the speaker turns of a waveform whose local activity is known.

    Args:
        waveform: The recording.
        activity: From `find_activity`, or from a recorder that listened to speech detection.
        job: Speaker hints.
        pipeline: Loaded once per process.
        batch_size: As `diarize` has it.
        token: Looked at between batches, and while clustering goes on.
        on_progress: Given the share of windows embedded, in [0, 1].
    """
    speaking = activity.speakers_per_frame()
    hints = _hints(job)
    turns: tuple[SpeakerTurn, ...] = ()
    if speaking.any():
        vectors = embed(
            waveform.samples,
            activity,
            pipeline.model,
            windows_at_once(embedding_of(pipeline.model).device, batch_size),
            _step(token, on_progress),
        )
        give_back()  # a process for the dendrogram may need as much
        check = partial(token.check, Stage.DIARIZE)
        found = _Found(activity, speaking, vectors, pipeline.model, check)
        turns = found.turns_or_unhinted(hints)
    met = _meets(hints, len({turn.speaker for turn in turns}))
    return Diarization(turns, () if met else (WarningCode.SPEAKER_HINTS_UNMET,))


def _step(token: CancelToken, on_progress: Progress) -> Progress:
    def step(share: float) -> None:
        token.check(Stage.DIARIZE)
        on_progress(share)

    return step


def _hints(job: JobInput) -> Hints:
    named = {
        "num_speakers": job.num_speakers,
        "min_speakers": job.min_speakers,
        "max_speakers": job.max_speakers,
    }
    return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class _Found:
    """What is known of a recording before its speakers are told apart."""

    activity: Activity
    speaking: Any
    vectors: Vectors
    model: Any
    check: Callable[[], None]

    def turns_or_unhinted(self, hints: Hints) -> tuple[SpeakerTurn, ...]:
        """Tell the turns, without the hints if pyannote cannot do it with them."""
        try:
            return self._turns(hints)
        except ValueError:
            if not hints:
                raise
            return self._turns({})

    def _turns(self, hints: Hints) -> tuple[SpeakerTurn, ...]:
        bounds = SpeakerBounds(*set_num_speakers(**hints))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's on odd embeddings; pyannote does so too
            labels = cluster(self.vectors, self.activity, bounds, self.model, self.check)
        speaking = np.minimum(self.speaking, bounds.most).astype(np.uint8)
        pause_s = float(self.model.segmentation.min_duration_off)
        return speaker_turns(self.activity, labels, speaking, pause_s)


def _meets(hints: Hints, found: int) -> bool:
    exact = hints.get("num_speakers", found)
    return exact == found and (
        hints.get("min_speakers", 0) <= found <= hints.get("max_speakers", found)
    )
