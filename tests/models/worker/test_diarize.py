"""Turns are those of stock pyannote on the same weights, at a part of the work."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bucketscribe_contract import JobInput, WarningCode
from tests.fakes.diarization import community, powerset_segmentation, resnet34, small_embedding
from tests.recordings import short_speech, telephone_speech
from worker.cancel import CancelToken, StageContext
from worker.engines.diarization import clustering
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


def stage(pipeline: Any, samples: Any, **hints: int) -> Diarization:
    job = JobInput.model_validate({"audio_base64": "QQ=="} | hints)
    return diarize(Waveform(samples), job, pipeline, StageContext(batch_size=3))


def plain(diarization: Diarization) -> Turns:
    """Turns as tuples."""
    return [(turn.start, turn.end, turn.speaker) for turn in diarization.turns]


LONG = telephone_speech()
SHORT = LONG[16_000 * 5 : 16_000 * 15 + 3000]
NOISE = np.random.default_rng(0).normal(0, 5000, 99_200).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize(
    ("samples", "hints", "speakers"),
    [
        pytest.param(short_speech()[: 16_000 * 2], {}, 1, id="one speaker"),
        pytest.param(np.zeros(16_000 * 7, np.int16), {}, 0, id="silence"),
        pytest.param(NOISE, {}, 0, id="noise"),
        pytest.param(short_speech()[8000:8160], {}, 0, id="ten milliseconds"),
        pytest.param(short_speech()[: 16_000 * 5], {}, 2, id="exactly one window"),
        pytest.param(LONG, {}, 2, id="a telephone conversation"),
        (short_speech(), {}, 2),
        (short_speech(), {"num_speakers": 1}, 1),
        (short_speech(), {"num_speakers": 2}, 2),
        (short_speech(), {"max_speakers": 1}, 1),
        (short_speech(), {"min_speakers": 2}, 2),
    ],
)
def test_turns_are_stocks(
    models: Models, samples: Any, hints: dict[str, int], speakers: int
) -> None:
    found = stage(models.diarization, samples, **hints)
    assert plain(found) == by_stock(models.diarization, samples, **hints)
    assert len({turn.speaker for turn in found.turns}) == speakers
    assert WarningCode.SPEAKER_HINTS_UNMET not in found.warnings


@pytest.mark.parametrize("hints", [{"min_speakers": 60}, {"num_speakers": 60}])
def test_hints_that_are_not_met_are_told(models: Models, hints: dict[str, int]) -> None:
    found = stage(models.diarization, short_speech(), **hints)
    assert found.turns
    assert WarningCode.SPEAKER_HINTS_UNMET in found.warnings


@pytest.mark.parametrize(
    ("is_trained", "embedding", "samples", "hints"),
    [
        (True, resnet34, SHORT, {}),
        pytest.param(False, resnet34, SHORT, {}, marks=pytest.mark.soak),
        (True, small_embedding, LONG, {}),
        (True, small_embedding, LONG, {"num_speakers": 3}),
    ],
)
def test_turns_of_community_1s_architecture_are_stocks(
    models: Models, tmp_path: Path, is_trained: bool, embedding: Any, samples: Any, hints: Any
) -> None:
    """A 10 s powerset PyanNet, a WeSpeaker ResNet34 or less, and VBx."""
    like = segmentation_of(models.detector.vad_pipeline).model if is_trained else None
    pipeline = community(tmp_path, powerset_segmentation(like), embedding())
    expected = by_stock(pipeline, samples, **hints)
    assert expected
    assert plain(stage(pipeline, samples, **hints)) == expected


@pytest.mark.parametrize("is_stock", [False, True])
def test_only_stock_clusters_a_long_recording_at_once(
    models: Models, monkeypatch: pytest.MonkeyPatch, is_stock: bool
) -> None:
    seen = []
    in_chunks = clustering._in_chunks

    def spy(*arguments: Any) -> Any:
        seen.append(arguments[-1])
        return in_chunks(*arguments)

    monkeypatch.setattr(clustering, "_in_chunks", spy)
    monkeypatch.setattr("worker.stages.diarize.WHOLE_S", 5.0)
    context = StageContext(batch_size=3)
    found = diarize(Waveform(LONG), INLINE, models.diarization, context, is_stock=is_stock)
    assert len({turn.speaker for turn in found.turns}) == 2
    assert seen == ([] if is_stock else [11])


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
