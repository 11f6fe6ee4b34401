"""Diarize: who speaks when, with pyannote through whisperx's pipeline.

Takes a `Waveform` and the job's hints; returns a `Diarization`. What pyannote cannot do with
the hints (more speakers than it has embeddings) it does without them, and the warning
``SPEAKER_HINTS_UNMET`` says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from whisperx.diarize import DiarizationPipeline

from contract import JobInput, Stage, WarningCode
from worker.cancel import CancelToken
from worker.values import Diarization, SpeakerTurn, Waveform

Hints = dict[str, int]


def diarize(
    waveform: Waveform,
    job: JobInput,
    pipeline: DiarizationPipeline,
    batch_size: int,
    token: CancelToken,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Diarization:
    """Return the speaker turns, ordered by start.

    Args:
        waveform: The recording.
        job: Speaker hints.
        pipeline: Loaded once per process.
        batch_size: Windows that go through segmentation and embedding at once.
        token: Looked at between batches of windows.
        on_progress: Given the share of windows done, in [0, 1].
    """

    def step(percent: float) -> None:
        token.check(Stage.DIARIZE)
        on_progress(percent / 100)

    hints = _hints(job)
    token.check(Stage.DIARIZE)
    pipeline.model.segmentation_batch_size = batch_size
    pipeline.model.embedding_batch_size = batch_size
    turns = _turns_or_unhinted(waveform, pipeline, hints, step)
    met = _meets(hints, len({turn.speaker for turn in turns}))
    return Diarization(turns, () if met else (WarningCode.SPEAKER_HINTS_UNMET,))


def _hints(job: JobInput) -> Hints:
    named = {
        "num_speakers": job.num_speakers,
        "min_speakers": job.min_speakers,
        "max_speakers": job.max_speakers,
    }
    return {name: value for name, value in named.items() if value is not None}


def _turns_or_unhinted(
    waveform: Waveform,
    pipeline: DiarizationPipeline,
    hints: Hints,
    step: Callable[[float], None],
) -> tuple[SpeakerTurn, ...]:
    try:
        return _turns(waveform.float32, pipeline, hints, step)
    except ValueError:
        if not hints:
            raise
        return _turns(waveform.float32, pipeline, {}, step)


def _turns(
    samples: np.ndarray[tuple[int], np.dtype[np.float32]],
    pipeline: DiarizationPipeline,
    hints: Hints,
    step: Callable[[float], None],
) -> tuple[SpeakerTurn, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyannote's hints on count and TF32: ours are codes
        found = pipeline(samples, progress_callback=step, **hints)
    rows = zip(found["start"], found["end"], found["speaker"], strict=True)
    turns = [SpeakerTurn(float(start), float(end), str(who)) for start, end, who in rows]
    return tuple(sorted(turns, key=lambda turn: (turn.start, turn.end, turn.speaker)))


def _meets(hints: Hints, found: int) -> bool:
    exact = hints.get("num_speakers", found)
    return exact == found and (
        hints.get("min_speakers", 0) <= found <= hints.get("max_speakers", found)
    )
