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
from worker.cancel import StageContext
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
from worker.memory import trim_heap
from worker.types import Diarization, Samples, SpeakerTurn, Waveform

Hints = dict[str, int]


def diarize(
    waveform: Waveform,
    job: JobInput,
    pipeline: DiarizationPipeline,
    ctx: StageContext,
    activity: Activity | None = None,
) -> Diarization:
    """Return the speaker turns, ordered by start.

    Args:
        waveform: The recording.
        job: Speaker hints.
        pipeline: Loaded once per process.
        ctx: Checked between batches of windows; fewer are embedded at once than are segmented.
        activity: Local activity, if speech detection used the same segmentation.
    """
    if activity is not None:
        return diarize_activity(waveform, activity, job, pipeline, ctx)
    activity = find_activity(waveform.samples, pipeline, ctx.part(0.0, 0.5))
    return diarize_activity(waveform, activity, job, pipeline, ctx.part(0.5, 0.5))


def find_activity(samples: Samples, pipeline: DiarizationPipeline, ctx: StageContext) -> Activity:
    """Run the pipeline's segmentation over a waveform; arguments as in `diarize`."""
    segmenter = Segmenter(segmentation_of(pipeline.model))
    recorder = recorder_for(pipeline, segmenter.grid.count(len(samples)))
    batch = windows_at_once(segmenter.device, ctx.batch_size)
    for scores in segmenter.run(samples, batch, partial(_step, ctx)):
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
    ctx: StageContext,
) -> Diarization:
    """Return the speaker turns of a waveform whose local activity is known.

    Args:
        waveform: The recording.
        activity: From `find_activity`, or from a recorder that listened to speech detection.
        job: Speaker hints.
        pipeline: Loaded once per process.
        ctx: Checked between batches and during clustering; told the share of windows embedded.
    """
    speaking = activity.speakers_per_frame()
    hints = _hints(job)
    turns: tuple[SpeakerTurn, ...] = ()
    if speaking.any():
        vectors = embed(
            waveform.samples,
            activity,
            pipeline.model,
            windows_at_once(embedding_of(pipeline.model).device, ctx.batch_size),
            partial(_step, ctx),
        )
        trim_heap()  # a process for the dendrogram may need as much
        check = partial(ctx.cancel.check, Stage.DIARIZE)
        found = _Found(activity, speaking, vectors, pipeline.model, check)
        turns = found.turns_or_unhinted(hints)
    met = _meets(hints, len({turn.speaker for turn in turns}))
    return Diarization(turns, () if met else (WarningCode.SPEAKER_HINTS_UNMET,))


def _step(ctx: StageContext, share: float) -> None:
    ctx.cancel.check(Stage.DIARIZE)
    ctx.progress(share)


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
