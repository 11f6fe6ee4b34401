"""Clustering: embeddings and activity in, one global speaker a (window, speaker) out.

The rules, and the code, are those of the loaded pipeline's own clustering object, so that labels
are stock's. Two things that it calls are ours: the dendrogram, made in a process of its own so that
nothing else stands still, and the choice of embeddings to learn from, which needs counts of frames
in place of all masks as float64. Raises ValueError where hints cannot be met.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from scipy.cluster import hierarchy

from worker.engines.diarization.activity import Activity
from worker.engines.diarization.embeddings import Vectors

SILENT = -2
"""The speaker of a row in which nobody speaks; pyannote's."""
MIN_ACTIVE_SHARE = 0.2
"""Of a window's frames: a speaker heard alone for less is assigned, but not learnt from."""
INLINE_VECTORS = 1000
"""scipy's linkage holds Python's lock: for so many vectors 0.08 s, for 4,000 1 s, for twice as many
five times that. Above this number a process makes the dendrogram, which takes 0.5 s to start."""
POLL_S = 0.1

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


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
    min_active_share: float = MIN_ACTIVE_SHARE,
) -> npt.NDArray[np.int64]:
    """Tell the global speaker of every local one.

    Args:
        vectors: (n_windows, n_speakers, dimension).
        activity: Who is active where.
        bounds: From the job's hints.
        pipeline: A loaded `SpeakerDiarization`.
        check: Called every 0.1 s while the dendrogram is made; may raise to stop.
        min_active_share: In place of pyannote's.

    Returns:
        (n_windows, n_speakers); `SILENT` for local speakers that are never active.

    Raises:
        ValueError: The bounds cannot be met with so few embeddings.
    """
    speakers, _, _ = _with_our_parts(pipeline.clustering, activity, min_active_share, check)(
        embeddings=vectors,
        segmentations=_WindowSums(activity),
        num_clusters=bounds.exact,
        min_clusters=bounds.least,
        max_clusters=bounds.most,
    )
    labels = np.asarray(speakers, np.int64).copy()
    labels[activity.active_frames == 0] = SILENT
    return labels


def link(
    vectors: Floats, method: str, metric: str, check: Callable[[], None] = lambda: None
) -> npt.NDArray[np.float64]:
    """Link vectors as scipy does, with the same bits, and without holding up other threads.

    Args:
        vectors: (n, dimension), n ≥ 2.
        method: scipy's.
        metric: scipy's.
        check: Called every 0.1 s; may raise to stop.

    Returns:
        (n - 1, 4): scipy's dendrogram.

    Raises:
        ChildProcessError: The process ended early, most likely for lack of memory.
    """
    if len(vectors) <= INLINE_VECTORS:
        return np.asarray(hierarchy.linkage(vectors, method=method, metric=metric))
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as answer:
        np.save(given, np.array([method, metric]))
        np.save(given, np.ascontiguousarray(vectors))
        given.seek(0)
        _run(given, answer, len(vectors), check)
        answer.seek(0)
        dendrogram: npt.NDArray[np.float64] = np.load(answer)
    return dendrogram


class _WindowSums:
    """Stands in for the masks where upstream only sums them over a window's frames."""

    def __init__(self, activity: Activity) -> None:
        self.data = activity.active_frames[:, None, :]


def _with_our_parts(
    clustering: Any, activity: Activity, share: float, check: Callable[[], None]
) -> Any:
    """Return a copy of a clustering object that calls our parts in place of its own."""
    # upstream: pyannote.audio 4.0.7, no issue known; can go when linkage leaves Python's lock alone
    # and filter_embeddings takes counts of frames
    stock = type(clustering)
    linkage = {"linkage": partial(link, check=check)}
    methods = {name: getattr(stock, name, None) for name in ("cluster", "__call__")}
    ours: dict[str, Any] = {
        name: _calling(method, linkage)
        for name, method in methods.items()
        if method is not None and "linkage" in method.__code__.co_names
    }
    ours["filter_embeddings"] = staticmethod(partial(_to_learn_from, activity, share))
    changed = copy.copy(clustering)
    changed.__class__ = type(stock.__name__, (stock,), ours)
    return changed


def _calling(method: FunctionType, replaced: dict[str, Any]) -> FunctionType:
    """Return a method that sees other globals: nothing outside this copy changes."""
    return FunctionType(
        method.__code__,
        {**method.__globals__, **replaced},
        method.__name__,
        method.__defaults__,
        method.__closure__,
    )


def _to_learn_from(
    activity: Activity, share: float, vectors: Vectors, **_: Any
) -> tuple[Vectors, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose as `BaseClustering.filter_embeddings` does: heard alone long enough, and valid."""
    n_frames = activity.scores.shape[1]
    is_long = activity.clean_frames >= share * n_frames
    is_valid = ~np.isnan(vectors).any(axis=2)
    windows, speakers = np.nonzero(is_long & is_valid)
    return vectors[windows, speakers], windows, speakers


def _run(given: IO[bytes], answer: IO[bytes], n: int, check: Callable[[], None]) -> None:
    """Run the process on files: no pipe can fill up while nobody reads."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("linkage_process.py"))]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # linkage uses no more
    with subprocess.Popen(  # noqa: S603  # our own file
        command,
        stdin=given,
        stdout=answer,
        stderr=subprocess.DEVNULL,
        env=os.environ | one_thread,
    ) as process:
        try:
            while (code := process.poll()) is None:
                check()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
        except BaseException:
            process.kill()
            raise
    if code != 0:
        raise ChildProcessError(
            f"clustering {n} speaker embeddings ended early ({code}): it needs "
            f"{8 * n * n / 1e9:.1f} GB of memory; send parts with clip"
        )
