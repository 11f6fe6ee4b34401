"""Clustering: which local speakers are the same person.

Takes embeddings and activity; returns one global speaker a (window, speaker). The rules are
those of the loaded pipeline's own clustering object, and its own code, so that labels are
stock's; only two things that it calls are ours: the dendrogram, which is made in another process
(`worker.diarization.linkage`), and the choice of embeddings to learn from, which needs counts of
frames instead of all masks as float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.diarization.activity import Activity
from worker.diarization.embeddings import Vectors
from worker.diarization.linkage import link

SILENT = -2
"""The speaker of a row in which nobody speaks; pyannote's."""
MIN_ACTIVE_SHARE = 0.2
"""Of a window's frames: a speaker heard alone for less is assigned, but not learnt from."""


@dataclass(frozen=True)
class SpeakerBounds:
    """How many speakers there may be; pyannote's `set_num_speakers` makes them from hints."""

    exact: int | None
    least: float
    most: float


def cluster(
    vectors: Vectors,
    activity: Activity,
    bounds: SpeakerBounds,
    pipeline: Any,
    check: Callable[[], None] = lambda: None,
) -> npt.NDArray[np.int64]:
    """Tell the global speaker of every local one.

    Args:
        vectors: (n_windows, n_speakers, dimension).
        activity: Who is active where.
        bounds: From the job's hints.
        pipeline: A loaded `SpeakerDiarization`.
        check: Called every 0.1 s while the dendrogram is made; may raise to stop.

    Returns:
        (n_windows, n_speakers); `SILENT` for local speakers that are never active.

    Raises:
        ValueError: The bounds cannot be met with so few embeddings.
    """
    speakers, _, _ = _with_our_parts(pipeline.clustering, activity, check)(
        embeddings=vectors,
        segmentations=_WindowSums(activity),
        num_clusters=bounds.exact,
        min_clusters=bounds.least,
        max_clusters=bounds.most,
    )
    labels = np.asarray(speakers, np.int64).copy()
    labels[activity.active_frames == 0] = SILENT
    return labels


class _WindowSums:
    """Stands in for the masks where upstream only sums them over a window's frames."""

    def __init__(self, activity: Activity) -> None:
        self.data = activity.active_frames[:, None, :]


def _with_our_parts(clustering: Any, activity: Activity, check: Callable[[], None]) -> Any:
    """Return a copy of a clustering object that calls our parts in place of its own."""
    stock = type(clustering)
    ours: dict[str, Any] = {
        name: _calling(method, {"linkage": partial(_linkage, check=check)})
        for name in ("cluster", "__call__")
        if "linkage" in (method := getattr(stock, name, _no_method)).__code__.co_names
    }
    ours["filter_embeddings"] = staticmethod(partial(_to_learn_from, activity))
    changed = copy.copy(clustering)
    changed.__class__ = type(stock.__name__, (stock,), ours)
    return changed


def _no_method() -> None:
    """Stand for a method that a class has not."""


def _calling(method: Any, replaced: dict[str, Any]) -> FunctionType:
    """Return a method that sees other globals: nothing outside this copy changes."""
    return FunctionType(
        method.__code__,
        {**method.__globals__, **replaced},
        method.__name__,
        method.__defaults__,
        method.__closure__,
    )


def _linkage(
    vectors: Vectors, *, method: str, metric: str, check: Callable[[], None]
) -> npt.NDArray[np.float64]:
    return link(vectors, method, metric, check)


def _to_learn_from(
    activity: Activity, vectors: Vectors, **_: Any
) -> tuple[Vectors, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose as `BaseClustering.filter_embeddings` does: heard alone long enough, and valid."""
    n_frames = activity.scores.shape[1]
    is_long = activity.clean_frames >= MIN_ACTIVE_SHARE * n_frames
    is_valid = ~np.isnan(vectors).any(axis=2)
    windows, speakers = np.nonzero(is_long & is_valid)
    return vectors[windows, speakers], windows, speakers
