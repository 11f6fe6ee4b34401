"""Diarize: who speaks when, with pyannote's models and our way through them.

Takes a `Waveform` and the job's hints; returns a `Diarization`: the turns that stock pyannote
gives (`worker.engines.diarization`). What it cannot do with the hints (more speakers than there are
embeddings) it does without them, and the warning ``SPEAKER_HINTS_UNMET`` says so.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
from pyannote.audio.pipelines.utils.diarization import set_num_speakers
from whisperx.diarize import DiarizationPipeline

from bucketscribe_contract import JobInput, Stage, WarningCode
from worker.cancel import StageContext
from worker.engines.diarization.activity import Activity, ActivityRecorder
from worker.engines.diarization.clustering import (
    MIN_ACTIVE_SHARE,
    WHOLE_S,
    SpeakerBounds,
    cluster,
)
from worker.engines.diarization.embeddings import embed
from worker.engines.diarization.turns import Labels, speaker_turns
from worker.engines.segmentation import (
    SegmentationStream,
    Segmenter,
    embedding_of,
    segmentation_of,
    windows_at_once,
)
from worker.memory import trim_heap
from worker.types import Diarization, SpeakerTurn, Waveform

Hints = dict[str, int]


def diarize(
    waveform: Waveform,
    job: JobInput,
    pipeline: DiarizationPipeline,
    ctx: StageContext,
    activity: Activity | None = None,
    *,
    is_stock: bool = False,
) -> Diarization:
    """Return the speaker turns, ordered by start.

    Args:
        waveform: The recording.
        job: Speaker hints.
        pipeline: Loaded once per process.
        ctx: Checked between batches of windows and during clustering; told the share of windows
            that are done. Fewer are embedded at once than are segmented.
        activity: Local activity, if speech detection used the same segmentation.
        is_stock: Learn speakers from no shorter pieces of speech than pyannote does, and from the
            whole recording at once, however long it is.
    """
    if activity is None:
        activity = find_activity(waveform, pipeline, ctx.part(0.0, 0.5))
        ctx = ctx.part(0.5, 0.5)
    model, hints = pipeline.model, _hints(job)
    speaking = activity.speakers_per_frame()
    turns: tuple[SpeakerTurn, ...] = ()
    exclusive = turns
    if speaking.any():
        batch_size = windows_at_once(embedding_of(model).device, ctx.batch_size)
        vectors = embed(waveform.samples, activity, model, batch_size, partial(_step, ctx))
        trim_heap()  # a process for the dendrogram may need as much
        check = partial(ctx.cancel.check, Stage.DIARIZE)
        network = None if is_stock else getattr(embedding_of(model), "model_", None)
        share = getattr(network, "min_active_share", MIN_ACTIVE_SHARE)
        label = partial(
            cluster,
            vectors,
            activity,
            pipeline=model,
            check=check,
            min_active_share=share,
            whole_s=math.inf if is_stock else WHOLE_S,
        )
        pause_s = float(model.segmentation.min_duration_off)
        find_turns = partial(_find_turns, activity, speaking, label, pause_s)
        try:
            turns, exclusive = find_turns(hints)
        except ValueError:
            if not hints:
                raise
            turns, exclusive = find_turns({})  # what pyannote cannot do with the hints
    met = _meets(hints, len({turn.speaker for turn in turns}))
    return Diarization(turns, exclusive, () if met else (WarningCode.SPEAKER_HINTS_UNMET,))


def find_activity(waveform: Waveform, pipeline: DiarizationPipeline, ctx: StageContext) -> Activity:
    """Run the pipeline's segmentation over a waveform; arguments as in `diarize`."""
    segmenter = Segmenter(segmentation_of(pipeline.model))
    recorder = recorder_for(pipeline)
    windows = SegmentationStream(segmenter, windows_at_once(segmenter.device, ctx.batch_size))
    total, done = segmenter.grid.count(len(waveform.samples)), 0
    for batch in windows.over(waveform.blocks()):
        _step(ctx, done / total)
        scores = batch()
        recorder.add(scores)
        done += len(scores)
    _step(ctx, 1.0)
    return recorder.activity()


def recorder_for(pipeline: DiarizationPipeline) -> ActivityRecorder:
    """Return what gathers scores of the pipeline's segmentation, whoever computes them."""
    segmenter = Segmenter(segmentation_of(pipeline.model))
    threshold = None if segmenter.is_powerset else float(pipeline.model.segmentation.threshold)
    return ActivityRecorder(segmenter, threshold)


def _step(ctx: StageContext, share: float) -> None:
    ctx.cancel.check(Stage.DIARIZE)
    ctx.progress(share)


def _hints(job: JobInput) -> Hints:
    names = {"num_speakers", "min_speakers", "max_speakers"}
    return job.model_dump(include=names, exclude_none=True)


def _find_turns(
    activity: Activity,
    speaking: npt.NDArray[np.uint8],
    label: Callable[[SpeakerBounds], Labels],
    min_pause_s: float,
    hints: Hints,
) -> tuple[tuple[SpeakerTurn, ...], tuple[SpeakerTurn, ...]]:
    """Tell speakers apart; ValueError where that cannot be done with the hints."""
    bounds = SpeakerBounds(*set_num_speakers(**hints))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's on odd embeddings; pyannote does so too
        labels = label(bounds)
    at_once = np.minimum(speaking, bounds.most).astype(np.uint8)
    return speaker_turns(activity, labels, at_once, min_pause_s)


def _meets(hints: Hints, found: int) -> bool:
    exact = hints.get("num_speakers", found)
    return exact == found and (
        hints.get("min_speakers", 0) <= found <= hints.get("max_speakers", found)
    )
