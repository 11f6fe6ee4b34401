"""Embeddings: a waveform and its `Activity` in, a row of each active speaker out.

The model runs once a window, with all its speakers' masks, and not at all where nobody speaks;
upstream (`SpeakerDiarization.get_embeddings`) runs it once a (window, speaker). All silent speakers
share the first row, what the model says of an empty mask, which no audio enters: finite, so that
clustering, which takes a minimum over all rows, never sees NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pyannote.audio import Model
from torch import Tensor

from worker.engines import one_ahead
from worker.engines.diarization.activity import Activity, Masks
from worker.engines.segmentation import embedding_of
from worker.types import SampleFile, Samples

Vectors = npt.NDArray[np.float32]
Windows = npt.NDArray[np.int64]
Embedder = Callable[[Tensor, Tensor], Tensor]
"""Embeds each window (n, 1, samples) under each of its masks (n, speakers, frames): (n, speakers,
dimension), on the windows' device."""


def embed(
    samples: Samples | SampleFile,
    activity: Activity,
    pipeline: Any,
    batch_size: int,
    before_batch: Callable[[float], None],
) -> Vectors:
    """Embed every active speaker of every window.

    Args:
        samples: The waveform, (n_samples,).
        activity: Who is active where.
        pipeline: A loaded `SpeakerDiarization`.
        batch_size: Windows at once.
        before_batch: Given the share of windows done, in [0, 1]; may raise to stop.

    Returns:
        (1 + n_active, dimension), finite; rows are those of `Activity.index`.
    """
    device = embedding_of(pipeline).device
    embedder = embedder_of(embedding_of(pipeline))
    least = least_clean_frames(activity, pipeline)

    def launch(windows: Windows) -> Tensor:
        masks = torch.from_numpy(chosen_masks(activity.masks(windows), least))
        return embedder(activity.grid.cut(samples, windows, device), masks.to(device))

    with torch.inference_mode():
        silent = _silent_row(activity, embedder, device)
        vectors = np.empty((len(activity.scores), len(silent)), np.float32)
        vectors[0] = silent
        batches = _batches(activity, batch_size, before_batch)
        for windows, found in one_ahead((batch, launch(batch)) for batch in batches):
            rows = activity.index[windows]
            vectors[rows[rows > 0]] = found.cpu().numpy()[rows > 0]
    before_batch(1.0)
    return vectors


def least_clean_frames(activity: Activity, pipeline: Any) -> int:
    """Tell how many frames without overlap are too few to leave the overlap out.

    As upstream: the frames of the shortest input that the model takes, rounded up; -1 where the
    pipeline leaves overlap in.
    """
    if not pipeline.embedding_exclude_overlap:
        return -1
    embedding = embedding_of(pipeline)
    n_frames = activity.scores.shape[1]
    n_samples = activity.grid.duration_s * embedding.sample_rate
    return int(math.ceil(n_frames * embedding.min_num_samples / n_samples))


def chosen_masks(masks: Masks, least: int) -> Vectors:
    """Choose for each speaker the frames in which nobody else speaks, if there are enough.

    Args:
        masks: (n, n_frames, n_speakers).
        least: More clean frames than this are enough; -1 leaves the masks as they are.

    Returns:
        (n, n_speakers, n_frames), 0 or 1.
    """
    if least >= 0:
        clean = masks & (masks.sum(axis=2, keepdims=True) < 2)
        masks = np.where(clean.sum(axis=1, keepdims=True) > least, clean, masks)
    return np.ascontiguousarray(masks.transpose(0, 2, 1), dtype=np.float32)


def embedder_of(embedding: Any) -> Embedder:
    """Return the cheapest way to embed that a pipeline's embedding model offers.

    Models of pyannote take many masks a window: their trunk sees none of them, and each is
    pooled by itself (`pyannote.audio.models.blocks.pooling.StatsPool`).

    Args:
        embedding: A diarization's.
    """
    model = getattr(embedding, "model_", None)
    if isinstance(model, Model):
        return partial(_all_masks, model)
    return partial(_row_by_row, embedding)


def _silent_row(activity: Activity, embedder: Embedder, device: torch.device) -> Vectors:
    """Return the model's answer to an empty mask, (dimension,).

    Its direction is needed: a model that has none (all zeros) gets one that is as far from
    everything.
    """
    n_frames = activity.scores.shape[1]
    nothing = torch.zeros(1, 1, activity.grid.size, device=device)
    mask = torch.zeros(1, 1, n_frames, device=device)
    answer: Vectors = embedder(nothing, mask)[0, 0].cpu().numpy()
    is_direction = np.isfinite(answer).all() and answer.any()
    return answer if is_direction else np.ones_like(answer)


def _batches(
    activity: Activity, batch_size: int, before_batch: Callable[[float], None]
) -> Iterator[Windows]:
    occupied = np.flatnonzero(activity.active_frames.any(axis=1))
    for first in range(0, len(occupied), batch_size):
        before_batch(first / len(occupied))
        yield occupied[first : first + batch_size]


def _all_masks(model: Model, windows: Tensor, masks: Tensor) -> Tensor:
    vectors: Tensor = model(windows, weights=masks)
    return vectors


def _row_by_row(embedding: Any, windows: Tensor, masks: Tensor) -> Tensor:
    """Embed with a model that takes one mask a window; only rows that have one are run."""
    n, speakers, _ = masks.shape
    flat = masks.flatten(0, 1)
    rows = torch.nonzero(flat.any(dim=1)).flatten()
    rows = rows if len(rows) else torch.zeros(1, dtype=torch.int64, device=masks.device)
    found: Tensor = torch.from_numpy(embedding(windows[rows // speakers], masks=flat[rows]))
    vectors = found.new_ones(n * speakers, found.shape[-1])
    vectors[rows.cpu()] = found
    return vectors.reshape(n, speakers, -1)
