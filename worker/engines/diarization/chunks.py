"""Speakers of a long recording: embeddings chunk by chunk in, a mean vector a speaker out.

A chunk is clustered by itself; the means of its clusters are merged with those of other chunks,
but two of one chunk only if they are very close. `vbx` iterates over slices. The process that
`clustering` starts: a header and `numpy.save` arrays in on stdin, `Speakers` out on stdout, both
files. It imports scipy and nothing of the worker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.special import logsumexp

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LEAST_OF_CHUNK = 12
"""Embeddings: a chunk's smaller clusters are no people of their own; pyannote's number."""
MOST_MEANS = 3000
"""Of all chunks together, each chunk's largest clusters: their distances take 36 MB."""
LEAST_SHARE = 0.005
"""Of all embeddings: smaller groups are no people; what is odd grows with the recording."""
LIKE_VOICES = 0.65
"""Of the threshold: means of two chunks as close as that are one person's
(docs/long-recordings.md)."""
SAME_VOICE = 0.4
"""Of the threshold: groups as close as that are one person, whatever a chunk said."""
SLICE = 4096


@dataclass(frozen=True)
class Speakers:
    """Speakers of a whole recording.

    Attributes:
        means: (n, dimension), of the speakers; the length of a row means nothing.
        groups: (m, dimension), before small groups were left out and hints were heeded.
        per_chunk: Mean number of people of a chunk.
        found: How many speakers there were before they were merged to meet a hint.
    """

    means: Floats
    groups: Floats
    per_chunk: float
    found: int


def find_speakers(
    chunks: Iterable[Floats], n_chunks: int, threshold: float, least: int, most: float
) -> Speakers:
    """Find the speakers of a recording.

    Args:
        chunks: (n, dimension) each, with one embedding in all at least.
        n_chunks: Their number.
        threshold: Cosine distance of average linkage; parts of it count between means.
        least: So many speakers at least, unless the chunks have fewer clusters together.
        most: So many at most.
    """
    found = [chunk_people(unit(chunk), threshold, MOST_MEANS // n_chunks) for chunk in chunks]
    sums = np.concatenate([people for people, _ in found])
    sizes = np.concatenate([counts for _, counts in found])
    chunk = np.repeat(np.arange(len(found)), [len(counts) for _, counts in found])
    per_chunk = len(sums) / len(np.unique(chunk))
    sums, group = merge(sums, chunk[:, None] == chunk, LIKE_VOICES * threshold, least)
    sums, again = merge(sums, None, SAME_VOICE * threshold, least)
    sizes = np.bincount(again[group], sizes)
    order = np.argsort(-sizes, kind="stable")
    large = np.count_nonzero(sizes >= max(LEAST_OF_CHUNK, LEAST_SHARE * sizes.sum()))
    means = sums[order[: max(large, least, 1)]]
    people, _ = merge(means, None, np.inf, most)
    return Speakers(people, sums, per_chunk, len(means))


def chunk_people(vectors: Floats, threshold: float, most: int) -> tuple[Floats, Labels]:
    """Cluster the embeddings of a chunk; small clusters join the nearest.

    Args:
        vectors: (n, dimension), unit length.
        threshold: Cosine distance.
        most: So many clusters at most.

    Returns:
        Sums (m, dimension) and sizes (m,) of its clusters.
    """
    if len(vectors) < 2:
        return vectors, np.ones(len(vectors), np.int64)
    dendrogram = linkage(vectors, method="average", metric="cosine")
    cluster = fcluster(dendrogram, threshold, criterion="distance") - 1
    sums, sizes = summed(vectors, cluster)
    order = np.argsort(-sizes, kind="stable")[:most]
    large = order[sizes[order] >= min(LEAST_OF_CHUNK, max(1, round(0.1 * len(vectors))))]
    if not len(large):
        return vectors.sum(axis=0, keepdims=True), np.array([len(vectors)])
    return summed(vectors, nearest(sums, sums[large])[cluster])


def merge(sums: Floats, apart: Flags | None, limit: float, least: float) -> tuple[Floats, Labels]:
    """Merge the closest two groups again and again.

    Args:
        sums: (n, dimension), of each group's vectors: the larger weighs more.
        apart: (n, n), groups that are not to be merged, nor what they have been merged with.
        limit: Cosine distance of the last two that are merged.
        least: Stop at so many groups.

    Returns:
        (m, dimension), the new groups' sums; (n,), the new group of each old one.
    """
    n = len(sums)
    sums, group, every = sums.copy(), np.arange(n), np.arange(n)
    apart = np.zeros((n, n), np.bool_) if apart is None else apart.copy()
    np.fill_diagonal(apart, val=True)
    units = unit(sums).astype(np.float32)
    distances = units @ units.T
    np.subtract(1, distances, out=distances)
    distances[apart] = np.inf
    closest = distances.argmin(axis=1)
    for _ in range(n - max(1, int(min(n, least)))):
        kept = int(distances[every, closest].argmin())
        gone = int(closest[kept])
        if not distances[kept, gone] <= limit or np.isinf(distances[kept, gone]):
            break
        sums[kept] += sums[gone]
        units[kept] = unit(sums[kept])
        group[group == gone] = kept
        apart[kept] |= apart[gone]
        apart[:, kept] |= apart[kept]
        apart[:, gone] = apart[gone] = True
        distances[:, gone] = distances[gone] = np.inf
        distances[kept] = np.where(apart[kept], np.inf, 1 - units @ units[kept])
        distances[:, kept] = distances[kept]  # a pair's row that changed last knows of it
        stale = np.isin(closest, (kept, gone))
        closest[stale] = distances[stale].argmin(axis=1)
    left, group = np.unique(group, return_inverse=True)
    return sums[left], group


def vbx(
    features: Floats,
    start: Labels,
    phi: Floats,
    fa: float,
    fb: float,
    check: Callable[[], None],
    iterations: int = 20,
) -> tuple[Floats, Floats, Floats]:
    """Iterate as pyannote's `cluster_vbx` does, but keep no (n, n_speakers) table.

    An iteration needs sums over its table alone, and a row of the table is softmax(x · weights +
    offsets). What is constant in a row is left out: it changes neither.

    Args:
        features: (n, n_dimensions), of the PLDA's space.
        start: (n,), a speaker of each from 0.
        phi: (n_dimensions,), the PLDA's variances between speakers.
        fa: pyannote's ``Fa``.
        fb: pyannote's ``Fb``.
        check: Called at each slice; may raise to stop.
        iterations: At most.

    Returns:
        Weights (n_dimensions, n_speakers), offsets (n_speakers,) and priors (n_speakers,).
    """
    n_speakers = int(start.max()) + 1
    low = 1 / (np.exp(7.0) + n_speakers - 1)  # upstream smooths the start: softmax of 7 and zeros
    sums, moments = np.bincount(start), np.zeros((n_speakers, features.shape[1]))
    for part in slices(len(features), check):
        moments += summed(features[part], start[part], n_speakers)[0]
    moments = (1 - n_speakers * low) * moments + low * moments.sum(axis=0)
    sums = (1 - n_speakers * low) * sums + low * len(features)
    priors = np.full(n_speakers, 1 / n_speakers)
    bound = -np.inf
    for _ in range(iterations):
        inverse = 1 / (1 + fa / fb * sums[:, None] * phi)
        alpha = fa / fb * inverse * moments * np.sqrt(phi)
        weights = fa * (alpha * np.sqrt(phi)).T
        offsets = np.log(priors + 1e-8) - 0.5 * fa * (inverse + alpha**2) @ phi
        sums, moments, likelihood = np.zeros_like(sums), np.zeros_like(moments), 0.0
        for part in slices(len(features), check):
            rows = features[part].astype(np.float64)
            table, likelihoods = responsibilities(rows, weights, offsets)
            sums += table.sum(axis=0)
            moments += table.T @ rows
            likelihood += likelihoods.sum()
        priors = sums / sums.sum()
        before, bound = (
            bound,
            likelihood + fb / 2 * np.sum(np.log(inverse) - inverse - alpha**2 + 1),
        )
        if bound - before < 1e-4:
            break
    return weights, offsets, priors


def responsibilities(rows: Floats, weights: Floats, offsets: Floats) -> tuple[Floats, Floats]:
    """Tell how far each speaker answers for each row: (n, n_speakers); and likelihoods (n,)."""
    logits = rows @ weights + offsets
    likelihoods = logsumexp(logits, axis=1)
    return np.exp(logits - likelihoods[:, None]), likelihoods


def slices(n: int, check: Callable[[], None]) -> Iterable[slice]:
    """Cut n rows into slices; check before each."""
    for first in range(0, n, SLICE):
        check()
        yield slice(first, first + SLICE)


def summed(vectors: Floats, labels: Labels, n_labels: int = 0) -> tuple[Floats, Labels]:
    """Return the sums (m, dimension), float64, and sizes (m,) of labels 0 to m - 1."""
    sizes = np.bincount(labels, minlength=n_labels)
    sums = np.zeros((len(sizes), vectors.shape[1]))
    np.add.at(sums, labels, vectors.astype(np.float64))
    return sums, sizes


def unit(vectors: Floats) -> Floats:
    """Bring vectors, (…, dimension), to length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = vectors / np.where(lengths > 0, lengths, 1)
    return scaled


def nearest(vectors: Floats, means: Floats) -> Labels:
    """Find the mean that each vector is closest to in direction: (n,)."""
    found: Labels = (vectors @ unit(means).T).argmax(axis=1)
    return found


def main() -> None:
    """Read the header (chunks, threshold, least, most) and the chunks; write what was found."""
    n_chunks, threshold, least, most = np.load(sys.stdin.buffer)
    chunks = (np.load(sys.stdin.buffer) for _ in range(int(n_chunks)))
    found = find_speakers(chunks, int(n_chunks), float(threshold), int(least), float(most))
    np.save(sys.stdout.buffer, found.means)
    np.save(sys.stdout.buffer, found.groups)
    np.save(sys.stdout.buffer, np.array([found.per_chunk, found.found]))


if __name__ == "__main__":
    main()
