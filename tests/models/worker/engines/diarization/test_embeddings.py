"""One forward a window, with the masks and the numbers that stock pyannote would use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pyannote.core import SlidingWindow, SlidingWindowFeature

from tests.fakes.diarization import (
    StandIn,
    activity_of,
    community,
    powerset_segmentation,
    resnet34,
    small_embedding,
)
from tests.recordings import short_speech
from worker.engines.diarization.embeddings import embed, embedder_of, least_clean_frames
from worker.engines.segmentation import WindowGrid, embedding_of
from worker.models.ge2e import GE2EEmbedding


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Community-1 with a cheap embedding."""
    folder = tmp_path_factory.mktemp("plda")
    return community(folder, powerset_segmentation(), small_embedding()).model


def spoken(n_windows: int, seed: int = 0) -> Any:
    """Draw activity of a 10 s powerset model, with silent windows and silent speakers."""
    rng = np.random.default_rng(seed)
    scores = np.repeat(rng.random((n_windows, 31, 3)) < 0.4, 19, axis=1).astype(np.float32)
    scores[1::3] = 0
    scores[:, :, 2] = 0
    scores[2, :, 0] = 0
    scores[2, :3, 0] = 1  # too short without its overlap
    scores[2, :3, 1] = 1
    return activity_of(scores, StandIn(WindowGrid(10.0, 1.0), is_powerset=True), 0.5)


def recording(n_windows: int) -> Any:
    """Take as much sound as so many windows need."""
    length = (9 + n_windows) * 16_000 - 5000
    return np.resize(short_speech(), length)


def by_pyannote(pipeline: Any, samples: Any, activity: Any) -> Any:
    """Embed with pyannote's own method."""
    masks = SlidingWindowFeature(
        activity.masks(np.arange(len(activity.index))).astype(np.float32),
        SlidingWindow(duration=10.0, step=1.0, start=0.0),
    )
    waveform = torch.from_numpy(samples.astype(np.float32) / np.float32(32768))[None]
    file = {"waveform": waveform, "sample_rate": 16_000}
    return pipeline.get_embeddings(file, masks, exclude_overlap=pipeline.embedding_exclude_overlap)


@pytest.mark.parametrize(("exclude_overlap", "batch_size"), [(True, 3), (False, 32)])
def test_vectors_are_stocks(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, exclude_overlap: bool, batch_size: int
) -> None:
    monkeypatch.setattr(pipeline, "embedding_exclude_overlap", exclude_overlap)
    samples, activity = recording(8), spoken(8)
    found = embed(samples, activity, pipeline, batch_size, float)[activity.index]
    np.testing.assert_allclose(found, by_pyannote(pipeline, samples, activity), atol=1e-6)


def test_each_spoken_window_goes_through_the_model_once(pipeline: Any) -> None:
    model, activity = embedding_of(pipeline).model_, spoken(9)
    embedding_of(pipeline).min_num_samples  # noqa: B018  # found once, by trying
    model.seen = 0
    embed(recording(9), activity, pipeline, 4, float)
    assert model.seen == 6 + 1  # the three in between are silent; one more learns what silence is


def ge2e() -> GE2EEmbedding:
    """The demo's architecture with random weights."""
    torch.manual_seed(0)
    return GE2EEmbedding().eval()


@pytest.mark.parametrize("build", [resnet34, ge2e])
def test_many_masks_and_windows_give_what_each_gives_alone(build: Any) -> None:
    model = build()
    sound = torch.from_numpy(recording(1).astype(np.float32) / 32768)
    windows = torch.stack([sound[:80_000], sound[7000:87_000]])[:, None]
    masks = torch.zeros(2, 3, 293)
    masks[:, 0] = masks[0, 1, 150:] = masks[1, 2, 20:270] = 1
    with torch.inference_mode():
        together = embedder_of(SimpleNamespace(model_=model))(windows, masks)
        alone = [
            torch.cat([model(window[None], weights=mask[None]) for mask in own])
            for window, own in zip(windows, masks, strict=True)
        ]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-6, rtol=1e-5)
    assert (together[0, 0] - together[1, 0]).abs().max() > 1e-4


def test_a_model_of_another_library_is_given_the_rows_that_have_a_mask() -> None:
    rows = []

    def embedding(windows: torch.Tensor, masks: torch.Tensor) -> Any:
        rows.append((len(windows), int(masks.any(dim=1).sum())))
        return np.asarray(masks.sum(dim=1, keepdim=True) + windows[:, 0, :1])

    windows = torch.arange(2.0)[:, None, None] * 100
    masks = torch.zeros(2, 3, 5)
    masks[0, 1, :2] = masks[1, 2, :4] = 1
    found = embedder_of(embedding)(windows, masks)
    assert found[..., 0].tolist() == [[1, 2, 1], [1, 1, 104]]
    assert rows == [(2, 2)]
    assert embedder_of(embedding)(windows[:1], torch.zeros(1, 1, 5)).shape == (1, 1, 1)


@pytest.mark.parametrize("bias", [0.0, float("nan")])
def test_silent_rows_have_a_direction_whatever_the_model_says(pipeline: Any, bias: float) -> None:
    head = embedding_of(pipeline).model_.head
    with torch.no_grad():
        before = head.bias.clone()
        head.bias.fill_(bias)
        try:
            found = embed(recording(4), spoken(4), pipeline, 4, float)[spoken(4).index]
        finally:
            head.bias.copy_(before)
    assert np.isfinite(found[1]).all()
    assert (np.linalg.norm(found[1], axis=1) > 0).all()


def test_too_few_clean_frames_are_counted_as_upstream_counts_them(pipeline: Any) -> None:
    embedding = SimpleNamespace(min_num_samples=1600, sample_rate=16_000)
    own = SimpleNamespace(embedding_exclude_overlap=True, _embedding=embedding)
    assert least_clean_frames(spoken(4), own) == 6  # ceil(589 / 100)


@pytest.mark.parametrize(
    "build",
    [resnet34, small_embedding, pytest.param(powerset_segmentation, marks=pytest.mark.soak)],
)
def test_nothing_is_left_on_the_cpu(build: Any) -> None:
    """On a device without data, a tensor that stays behind raises."""
    model, meta = build().to("meta"), torch.device("meta")
    windows = WindowGrid(10.0, 1.0).cut(recording(2), [0, 1], meta)
    with torch.inference_mode():
        if build is powerset_segmentation:
            assert model(windows).device == meta
        else:
            embedder = embedder_of(SimpleNamespace(model_=model))
            assert embedder(windows, torch.ones(2, 3, 589, device=meta)).device == meta
