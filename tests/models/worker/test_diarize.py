"""Turns are those of stock pyannote on the same weights, at a part of the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bucketscribe_contract import JobInput, WarningCode
from tests.fakes.diarization import (
    community,
    powerset_segmentation,
    resnet34,
    small_embedding,
)
from tests.recordings import short_speech, telephone_speech
from worker.cancel import CancelToken, StageContext
from worker.engines.segmentation import Segmenter, same_segmentation, segmentation_of
from worker.errors import JobCancelled
from worker.models.load import Models
from worker.stages.diarize import diarize, recorder_for
from worker.stages.speech import find_speech
from worker.types import Diarization, Waveform

INLINE = JobInput(audio_base64="QQ==")
Turns = list[tuple[float, float, str]]


def by_stock(pipeline: Any, samples: Any, **hints: int) -> Turns:
    """The turns of whisperx's own call."""
    found = pipeline(samples.astype(np.float32) / np.float32(32768), **hints)
    rows = zip(found["start"], found["end"], found["speaker"], strict=True)
    return sorted((float(start), float(end), str(who)) for start, end, who in rows)


def by_ours(pipeline: Any, samples: Any, batch_size: int = 32, **hints: int) -> Turns:
    """The turns of our stage."""
    return plain(stage(pipeline, samples, batch_size, **hints))


def stage(pipeline: Any, samples: Any, batch_size: int = 32, **hints: int) -> Diarization:
    """Run the stage."""
    job = JobInput.model_validate({"audio_base64": "QQ=="} | hints)
    return diarize(Waveform(samples), job, pipeline, StageContext(batch_size=batch_size))


def plain(diarization: Diarization) -> Turns:
    """Turns as tuples."""
    return [(turn.start, turn.end, turn.speaker) for turn in diarization.turns]


def noise(seconds: float) -> Any:
    """Make loud noise."""
    draw = np.random.default_rng(0).normal(0, 5000, round(seconds * 16_000))
    return draw.clip(-32768, 32767).astype(np.int16)


SHORT = {
    "speech": lambda: short_speech(),
    "one speaker": lambda: short_speech()[: 16_000 * 2],
    "silence": lambda: np.zeros(16_000 * 7, np.int16),
    "noise": lambda: noise(6.2),
    "a second": lambda: short_speech()[:16_000],
    "ten milliseconds": lambda: short_speech()[8000:8160],
    "exactly one window": lambda: short_speech()[: 16_000 * 5],
}


@pytest.mark.parametrize("what", SHORT)
def test_turns_of_short_recordings_are_stocks(models: Models, what: str) -> None:
    samples = SHORT[what]()
    assert by_ours(models.diarization, samples) == by_stock(models.diarization, samples)


@pytest.mark.parametrize(
    "hints",
    [{"num_speakers": 1}, {"num_speakers": 2}, {"max_speakers": 1}, {"min_speakers": 2}],
)
def test_turns_with_hints_are_stocks(models: Models, hints: dict[str, int]) -> None:
    samples = short_speech()
    expected = by_stock(models.diarization, samples, **hints)
    assert by_ours(models.diarization, samples, **hints) == expected


@pytest.mark.parametrize(
    ("hints", "speakers", "met"),
    [
        ({"num_speakers": 1}, 1, True),
        ({"max_speakers": 1}, 1, True),
        ({"num_speakers": 2}, 2, True),
        ({"min_speakers": 60}, None, False),
        ({"num_speakers": 60}, None, False),
    ],
)
def test_hints_are_met_or_told(
    models: Models, hints: dict[str, int], speakers: int | None, met: bool
) -> None:
    found = stage(models.diarization, short_speech(), **hints)
    assert found.turns
    assert speakers in (None, len({turn.speaker for turn in found.turns}))
    assert (WarningCode.SPEAKER_HINTS_UNMET not in found.warnings) is met


def test_turns_of_a_telephone_conversation_are_stocks(models: Models) -> None:
    samples = telephone_speech()
    expected = by_stock(models.diarization, samples)
    assert len(expected) > 5
    for batch_size in (3, 32):
        assert by_ours(models.diarization, samples, batch_size) == expected
    alone = by_stock(models.diarization, samples, max_speakers=1)
    assert by_ours(models.diarization, samples, max_speakers=1) == alone


@pytest.mark.parametrize("weights", ["trained", pytest.param("random", marks=pytest.mark.soak)])
def test_turns_of_community_1s_architecture_are_stocks(
    models: Models, tmp_path: Path, weights: str
) -> None:
    """A 10 s powerset PyanNet, a WeSpeaker ResNet34 and VBx; the ResNet's weights are random."""
    like = segmentation_of(models.detector.vad_pipeline).model
    trained = powerset_segmentation(like) if weights == "trained" else powerset_segmentation()
    pipeline = community(tmp_path, trained, resnet34())
    samples = telephone_speech()[16_000 * 5 : 16_000 * 15 + 3000]
    expected = by_stock(pipeline, samples)
    assert expected
    assert by_ours(pipeline, samples) == expected


def test_turns_of_vbx_on_a_longer_recording_are_stocks(models: Models, tmp_path: Path) -> None:
    like = segmentation_of(models.detector.vad_pipeline).model
    pipeline = community(tmp_path, powerset_segmentation(like), small_embedding())
    samples = telephone_speech()
    for hints in ({}, {"num_speakers": 3}, {"max_speakers": 2}):
        expected = by_stock(pipeline, samples, **hints)
        assert by_ours(pipeline, samples, **hints) == expected


def test_hints_that_cannot_be_met_cost_no_second_pass(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    score = Segmenter.score

    def spy(self: Segmenter, samples: Any, windows: Any) -> Any:
        seen.append(len(windows))
        return score(self, samples, windows)

    monkeypatch.setattr(Segmenter, "score", spy)
    monkeypatch.setattr(models.diarization.model.clustering, "set_num_clusters", _refuse_hints)
    found = stage(models.diarization, short_speech(), num_speakers=40)
    assert found.turns
    assert found.warnings == (WarningCode.SPEAKER_HINTS_UNMET,)
    assert sum(seen) == 2


def _refuse_hints(n: int, num_clusters: Any, min_clusters: Any, max_clusters: Any) -> Any:
    if num_clusters is not None:
        raise ValueError("too few embeddings")
    return num_clusters, min_clusters, min(n, max_clusters)


def test_what_speech_detection_heard_is_not_computed_again(models: Models) -> None:
    detector, pipeline = models.detector, models.diarization
    assert same_segmentation(
        segmentation_of(detector.vad_pipeline), segmentation_of(pipeline.model)
    )
    waveform, ctx = Waveform(short_speech()), StageContext(batch_size=32)
    recorder = recorder_for(pipeline)
    find_speech([waveform.samples], detector, ctx, recorder.add)
    shared = diarize(waveform, INLINE, pipeline, ctx, recorder.activity())
    assert shared == diarize(waveform, INLINE, pipeline, ctx)
    assert shared.turns


def test_other_weights_are_told_apart(models: Models) -> None:
    import copy

    import torch
    from pyannote.audio import Inference

    ours = segmentation_of(models.detector.vad_pipeline)
    changed = copy.deepcopy(ours.model)
    same = Inference(changed, duration=5.0, step=0.5)
    assert same_segmentation(ours, same)
    assert not same_segmentation(ours, Inference(changed, duration=5.0, step=1.0))
    with torch.no_grad():
        changed.classifier.bias[1] += 1e-6
    assert not same_segmentation(ours, same)


def test_progress_rises_from_nothing_to_all(models: Models) -> None:
    shares: list[float] = []
    ctx = StageContext(progress=shares.append)
    diarize(Waveform(short_speech()), INLINE, models.diarization, ctx)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(set(shares)) >= 4


@pytest.mark.parametrize("calls", [1, 2, 4, 5])
def test_a_cancelled_job_stops_before_its_next_batch(models: Models, calls: int) -> None:
    token, shares = CancelToken(), []

    def cancel_later(share: float) -> None:
        shares.append(share)
        if len(shares) == calls:
            token.cancel()

    with pytest.raises(JobCancelled):
        diarize(
            Waveform(short_speech()), INLINE, models.diarization, StageContext(token, cancel_later)
        )
    assert len(shares) == calls
