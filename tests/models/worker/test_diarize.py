"""Turns are those of stock pyannote on the same weights, at a part of the work."""

from __future__ import annotations

from contextlib import nullcontext
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
from worker.stages.diarize import diarize
from worker.types import Diarization, Waveform

INLINE = JobInput(audio_base64="QQ==")
Turns = list[tuple[float, float, str]]


def by_stock(pipeline: Any, samples: Any, **hints: int) -> Turns:
    """The turns of whisperx's own call."""
    found = pipeline(samples.astype(np.float32) / np.float32(32768), **hints)
    rows = zip(found["start"], found["end"], found["speaker"], strict=True)
    return sorted((float(start), float(end), str(who)) for start, end, who in rows)


def by_ours(pipeline: Any, samples: Any, **hints: int) -> Turns:
    """The turns of our stage."""
    return plain(stage(pipeline, samples, **hints))


def stage(pipeline: Any, samples: Any, **hints: int) -> Diarization:
    job = JobInput.model_validate({"audio_base64": "QQ=="} | hints)
    return diarize(Waveform(samples), job, pipeline, StageContext(batch_size=3))


def plain(diarization: Diarization) -> Turns:
    """Turns as tuples."""
    return [(turn.start, turn.end, turn.speaker) for turn in diarization.turns]


NOISE = np.random.default_rng(0).normal(0, 5000, 99_200).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(short_speech(), id="two speakers"),
        pytest.param(short_speech()[: 16_000 * 2], id="one speaker"),
        pytest.param(np.zeros(16_000 * 7, np.int16), id="silence"),
        pytest.param(NOISE, id="noise"),
        pytest.param(short_speech()[8000:8160], id="ten milliseconds"),
        pytest.param(short_speech()[: 16_000 * 5], id="exactly one window"),
    ],
)
def test_turns_of_short_recordings_are_stocks(models: Models, samples: Any) -> None:
    assert by_ours(models.diarization, samples) == by_stock(models.diarization, samples)


@pytest.mark.parametrize(
    ("hints", "speakers"),
    [
        ({"num_speakers": 1}, 1),
        ({"num_speakers": 2}, 2),
        ({"max_speakers": 1}, 1),
        ({"min_speakers": 2}, 2),
    ],
)
def test_turns_with_hints_are_stocks(models: Models, hints: dict[str, int], speakers: int) -> None:
    found = stage(models.diarization, short_speech(), **hints)
    assert plain(found) == by_stock(models.diarization, short_speech(), **hints)
    assert len({turn.speaker for turn in found.turns}) == speakers
    assert WarningCode.SPEAKER_HINTS_UNMET not in found.warnings


@pytest.mark.parametrize("hints", [{"min_speakers": 60}, {"num_speakers": 60}])
def test_hints_that_are_not_met_are_told(models: Models, hints: dict[str, int]) -> None:
    found = stage(models.diarization, short_speech(), **hints)
    assert found.turns
    assert WarningCode.SPEAKER_HINTS_UNMET in found.warnings


def test_turns_of_a_telephone_conversation_are_stocks(models: Models) -> None:
    samples = telephone_speech()
    expected = by_stock(models.diarization, samples)
    assert len(expected) > 5
    assert by_ours(models.diarization, samples) == expected


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
    for hints in ({}, {"num_speakers": 3}):
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


@pytest.mark.parametrize("calls", [None, 1, 4])
def test_progress_rises_until_the_end_or_a_cancellation(models: Models, calls: int | None) -> None:
    token, shares = CancelToken(), []

    def take(share: float) -> None:
        shares.append(share)
        if len(shares) == calls:
            token.cancel()

    with pytest.raises(JobCancelled) if calls else nullcontext():
        diarize(Waveform(short_speech()), INLINE, models.diarization, StageContext(token, take))
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert len(shares) == calls if calls else shares[-1] == 1.0
