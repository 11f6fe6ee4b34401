"""Attribution seen apart from the models that tell speakers apart.

Takes references and stock's transcripts of them; gives the detector's own activity to the true
speakers, puts the turns that follow on stock's words by both rules, and returns both as documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.corpus import Reference, read_recording
from bench.stock import Recipe, load_models
from worker.types import Alignment, Diarization, TimedSegment, TimedWord, Waveform

Documents = tuple[dict[str, Any], dict[str, Any]]


def attribute_to_true_speakers(
    folder: Path, references: Sequence[Reference], transcripts: Sequence[dict[str, Any]]
) -> list[Documents]:
    """Return the documents by our rule and by stock's; for a process of its own.

    Args:
        folder: Of models.
        references: With turns.
        transcripts: WhisperX's, aligned, of each.
    """
    pipeline = load_models(folder, Recipe(language="en")).diarizer
    pairs = zip(references, transcripts, strict=True)
    return [_attribute(reference, transcript, pipeline) for reference, transcript in pairs]


def _attribute(reference: Reference, transcript: dict[str, Any], pipeline: Any) -> Documents:
    from worker.cancel import CancelToken, StageContext
    from worker.engines.diarization.turns import speaker_turns
    from worker.stages.attribute import attribute, attribute_as_stock
    from worker.stages.diarize import find_activity

    waveform = Waveform(read_recording(reference.audio))
    activity = find_activity(waveform, pipeline, StageContext(CancelToken(), batch_size=32))
    labels = true_labels(reference, activity)
    turns = speaker_turns(activity, labels, activity.speakers_per_frame(), 0.0)
    alignment = Alignment(tuple(_sentence(segment) for segment in transcript["segments"]))
    length_s = waveform.duration_s
    ours, stock = (
        {"segments": [s.model_dump() for s in rule(alignment, Diarization(*turns), 0.0, length_s)]}
        for rule in (attribute, attribute_as_stock)
    )
    return ours, stock


def true_labels(reference: Reference, activity: Any) -> npt.NDArray[np.int64]:
    """Return who each local speaker is, by the frames that both are active in: `cluster`'s shape.

    Args:
        reference: With turns.
        activity: A `worker.engines.diarization.activity.Activity`.
    """
    from worker.engines.diarization.clustering import SILENT

    n_windows, n_frames = len(activity.index), activity.scores.shape[1]
    frames = activity.frames
    middles_s = np.array(
        [frames.middle_s(i) for i in range(frames.count(n_windows, activity.grid))]
    )
    people = sorted(reference.speakers)
    speaking = np.zeros((len(middles_s), len(people)), np.int64)
    for turn in reference.turns:
        is_inside = (middles_s >= turn.start_s) & (middles_s < turn.end_s)
        speaking[is_inside, people.index(turn.speaker)] = 1
    labels = np.full(activity.active_frames.shape, SILENT, np.int64)
    for window, first in enumerate(frames.first_of(np.arange(n_windows), activity.grid)):
        local = activity.masks([window])[0].astype(np.int64)
        shared = local.T @ speaking[first : first + n_frames]
        is_active = activity.active_frames[window] > 0
        labels[window, is_active] = shared.argmax(axis=1)[is_active]
    return labels


def _sentence(segment: dict[str, Any]) -> TimedSegment:
    words = [
        TimedWord(w["word"], w["start"], w["end"], w.get("score"))
        for w in segment["words"]
        if "start" in w
    ]
    text = " ".join(word.word for word in words)
    return TimedSegment(segment["start"], segment["end"], text, tuple(words))
