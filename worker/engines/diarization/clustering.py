"""Clustering: embeddings and activity in, one global speaker a (window, speaker) out.

For up to `WHOLE_S` of windows, the rules and the code are those of the loaded pipeline's own
clustering object, so that labels are stock's; the dendrogram, made in a process of its own, and the
choice of embeddings to learn from are ours. Longer recordings are clustered by `chunks`, with the
same parameters. Raises ValueError where hints cannot be met.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FunctionType
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from pyannote.audio.pipelines.clustering import AgglomerativeClustering, VBxClustering
from scipy.cluster import hierarchy
from scipy.optimize import linear_sum_assignment

from worker.engines.diarization import chunks
from worker.engines.diarization.activity import Activity
from worker.engines.diarization.embeddings import Vectors

logger = logging.getLogger(__name__)

SILENT = -2
"""The speaker of a row in which nobody speaks; pyannote's."""
MIN_ACTIVE_SHARE = 0.2
"""Of a window's frames: a speaker heard alone for less is assigned, but not learnt from."""
INLINE_VECTORS = 1000
"""scipy's linkage holds Python's lock: for so many vectors 0.08 s, for 4,000 1 s, for twice as many
five times that. Above this number a process makes the dendrogram, which takes 0.5 s to start."""
POLL_S = 0.1
WHOLE_S = 600.0
"""Longer recordings are clustered in chunks of at most half of this."""

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Check = Callable[[], None]


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
    check: Check = lambda: None,
    min_active_share: float = MIN_ACTIVE_SHARE,
    whole_s: float = WHOLE_S,
) -> Labels:
    """Tell the global speaker of every local one.

    Args:
        vectors: (1 + n_active, dimension), the rows of `Activity.index`.
        activity: Who is active where.
        bounds: From the job's hints.
        pipeline: A loaded `SpeakerDiarization`.
        check: Called every 0.1 s or so; may raise to stop.
        min_active_share: In place of pyannote's.
        whole_s: In place of `WHOLE_S`; windows, in seconds.

    Returns:
        (n_windows, n_speakers); `SILENT` for local speakers that are never active.

    Raises:
        ValueError: The bounds cannot be met with so few embeddings.
    """
    stock = pipeline.clustering
    length_s = len(activity.index) * activity.grid.step_s
    is_ours = (
        isinstance(stock, AgglomerativeClustering | VBxClustering) and stock.metric == "cosine"
    )
    if length_s > whole_s and is_ours:
        n_chunks = math.ceil(2 * length_s / whole_s)
        labels = _in_chunks(vectors, activity, bounds, stock, check, min_active_share, n_chunks)
    else:
        speakers, _, _ = _with_our_parts(stock, activity, min_active_share, check)(
            embeddings=vectors[activity.index],
            segmentations=_WindowSums(activity),
            num_clusters=bounds.exact,
            min_clusters=bounds.least,
            max_clusters=bounds.most,
        )
        labels = np.asarray(speakers, np.int64).copy()
    labels[activity.active_frames == 0] = SILENT
    return labels


def _in_chunks(
    vectors: Vectors,
    activity: Activity,
    bounds: SpeakerBounds,
    stock: Any,
    check: Check,
    min_active_share: float,
    n_chunks: int,
) -> Labels:
    index = activity.index
    is_valid = np.isfinite(vectors.sum(axis=1)) & vectors.any(axis=1)
    is_learnt = (activity.clean_frames >= min_active_share * activity.scores.shape[1]) & is_valid[
        index
    ]
    n_learnt = int(is_learnt.sum())
    _, least, most = stock.set_num_clusters(n_learnt, bounds.exact, bounds.least, bounds.most)
    if n_learnt < 2 or most < 2:
        return np.zeros(index.shape, np.int64)
    parts = _equal_parts(len(index), n_chunks)
    speakers = _find_speakers(
        vectors,
        [(index[p], is_learnt[p]) for p in parts],
        _chunk_threshold(stock),
        least,
        most,
        check,
    )
    if len(speakers.means) < least:
        raise ValueError(f"{len(speakers.means)} groups of embeddings are no {least} speakers")
    means, is_constrained = speakers.means, stock.constrained_assignment
    is_vbx = isinstance(stock, VBxClustering)
    if is_vbx:
        found = _by_vbx(vectors, index[is_learnt], speakers.groups, stock, check)
        if least <= len(found) <= most:
            means = found
        else:  # as upstream, where VBx does not heed a hint
            is_constrained = False
    logger.info(
        "%d chunks of %.1f people each, %d people in all",
        n_chunks,
        speakers.per_chunk,
        len(means),
    )
    if speakers.per_chunk > 2 * speakers.found:
        logger.warning("the clustering's threshold is too low for this speaker embedding")
    if is_constrained:
        return _assign_apart(vectors, activity, chunks.unit(means), check)
    if is_vbx:
        return _nearest(vectors, index, means, check)
    labels = np.empty(index.shape, np.int64)
    for number, part in enumerate(parts):
        here = speakers.chunk == number
        here = here if here.any() else np.ones_like(here)
        nearest = _nearest(vectors, index[part], speakers.clusters[here], check)
        labels[part] = speakers.speaker[here][nearest]
    return labels


def _nearest(vectors: Vectors, index: Labels, means: Floats, check: Check) -> Labels:
    """Find the nearest mean of each local speaker: (n_windows, n_speakers)."""
    found = [chunks.nearest(vectors[index[p]], means) for p in chunks.slices(len(index), check)]
    return np.concatenate(found)


def _equal_parts(n: int, n_parts: int) -> list[slice]:
    edges = np.linspace(0, n, n_parts + 1).round().astype(int).tolist()
    return [slice(*edge) for edge in pairwise(edges)]


def _chunk_threshold(stock: Any) -> float:
    """Return the cosine distance for average linkage that fits the pipeline's own threshold.

    A Euclidean distance t of unit vectors is a cosine distance of t²/2, and two clusters' vectors
    are about twice as far apart as their centroids: 0.5 and 0.25 did best with GE2E, 0.65 and 0.425
    with CAM++. VBx starts from centroid linkage.
    """
    method = getattr(stock, "method", "centroid")
    is_euclidean = method in ("centroid", "median", "ward")
    return float(stock.threshold**2 if is_euclidean else stock.threshold)


def _find_speakers(
    vectors: Vectors,
    parts: list[tuple[Labels, npt.NDArray[np.bool_]]],
    threshold: float,
    least: int,
    most: float,
    check: Check,
) -> chunks.Speakers:
    """Have a process find the speakers; parts are an index and what of it is learnt from."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as answer:
        np.save(given, np.array([len(parts), threshold, least, most]))
        for index, is_learnt in parts:
            check()
            np.save(given, vectors[index[is_learnt]])
            np.save(given, np.nonzero(is_learnt)[0])
        given.seek(0)
        _run("chunks.py", given, answer, check)
        answer.seek(0)
        with np.load(answer) as found:
            return chunks.Speakers(**found)


def _by_vbx(
    vectors: Vectors, learnt: Labels, groups: Floats, stock: Any, check: Check
) -> npt.NDArray[np.float64]:
    """Return the means of the speakers that VBx keeps of some groups."""
    start = np.empty(len(learnt), np.int64)
    features = np.empty((len(learnt), len(stock.plda.phi)), np.float32)
    for part in chunks.slices(len(learnt), check):
        start[part] = chunks.nearest(vectors[learnt[part]], groups)
        features[part] = stock.plda(vectors[learnt[part]])
    _, start = np.unique(start, return_inverse=True)
    weights, offsets, priors = chunks.vbx(
        features, start, stock.plda.phi, stock.Fa, stock.Fb, check
    )
    kept = priors > 1e-7
    sums, total = np.zeros((kept.sum(), vectors.shape[1])), np.zeros(kept.sum())
    for part in chunks.slices(len(learnt), check):
        table, _ = chunks.responsibilities(features[part].astype(np.float64), weights, offsets)
        sums += table[:, kept].T @ vectors[learnt[part]]
        total += table[:, kept].sum(axis=0)
    return sums / total[:, None]


def _assign_apart(vectors: Vectors, activity: Activity, means: Floats, check: Check) -> Labels:
    """Assign as `constrained_argmax` does, without its int8: two of one window are never one."""
    labels = np.full(activity.index.shape, SILENT)
    for part in chunks.slices(len(labels), check):
        cosines = chunks.unit(vectors[activity.index[part]]) @ means.T
        cosines[activity.active_frames[part] == 0] = -2
        for window, cosine in zip(labels[part], cosines, strict=True):
            local, speakers = linear_sum_assignment(cosine, maximize=True)
            window[local] = speakers
    return labels


def link(
    vectors: Floats, method: str, metric: str, check: Check = lambda: None
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
        _run("linkage_process.py", given, answer, check)
        answer.seek(0)
        dendrogram: npt.NDArray[np.float64] = np.load(answer)
    return dendrogram


class _WindowSums:
    """Stands in for the masks where upstream only sums them over a window's frames."""

    def __init__(self, activity: Activity) -> None:
        self.data = activity.active_frames[:, None, :]


def _with_our_parts(clustering: Any, activity: Activity, share: float, check: Check) -> Any:
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


def _run(program: str, given: IO[bytes], answer: IO[bytes], check: Check) -> None:
    """Run a file beside this one on files: no pipe can fill up while nobody reads."""
    command = [sys.executable, "-P", str(Path(__file__).with_name(program))]
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
            f"clustering speaker embeddings ended early ({code}), most likely for lack of memory; "
            "send parts with clip"
        )
