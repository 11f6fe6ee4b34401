"""Speakers of a long recording: embeddings chunk by chunk in, mean vectors of speakers out.

A chunk is clustered by itself; the means of its clusters are merged with those of others, but never
two that windows tell apart. `vbx` iterates over slices. The process that `clustering` starts:
a header and `numpy.save` arrays in on stdin, `Speakers` out on stdout, both files. It imports scipy
and nothing of the worker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.linalg import block_diag
from scipy.special import logsumexp

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LEAST = 12
"""Embeddings of a speaker, pyannote's number; clusters of a chunk are of half as many at least."""
MOST_MEANS = 3000
"""Of all chunks together, each chunk's largest: three tables of their pairs take 36 MB each."""
LEAST_SHARE = 0.0075
"""Of all embeddings: smaller groups are no people; what is odd grows with the recording."""
LIKE_VOICES = 0.4
"""Of the threshold: clusters whose means are as close as that are one person
(docs/long-recordings.md)."""
LIKE_NO_OTHER = 0.6
"""The same where any other voice is much farther: noise or a microphone changes a voice."""
NEARER = 0.6
"""Of the distance to the next voice: this is much nearer."""
RARE_SHARE = 0.02
"""Of all embeddings: smaller groups are rare, as are those of one chunk alone."""
MET_SHARE = 0.1
"""Of the windows with the rarer of two clusters: in so many both are heard if they are two."""
FEW_SHARE = 0.02
"""Of the smaller of two groups: a cluster that a chunk split by mistake keeps no voice apart."""
SLICE = 4096


@dataclass(frozen=True)
class Speakers:
    """Speakers of a whole recording; the lengths of all vectors mean nothing.

    Attributes:
        means: (n, dimension), of the speakers.
        groups: (m, dimension), before small groups were left out and hints were heeded.
        clusters: (k, dimension), of all chunks.
        chunk: (k,), which chunk a cluster is of.
        speaker: (k,), the mean that it belongs to.
        found: How many speakers there were before they were merged to meet a hint.
    """

    means: Floats
    groups: Floats
    clusters: Floats
    chunk: Labels
    speaker: Labels
    found: int

    @property
    def per_chunk(self) -> float:
        """Mean number of clusters of a chunk that has any."""
        return len(self.chunk) / len(np.unique(self.chunk))


def find_speakers(
    chunks: Iterable[tuple[Floats, Labels]],
    n_chunks: int,
    threshold: float,
    least: int,
    most: float,
) -> Speakers:
    """Find the speakers of a recording.

    Args:
        chunks: Embeddings (n, dimension) and the windows that they are of (n,), from 0 in each
            chunk; with one embedding in all at least.
        n_chunks: Their number.
        threshold: Cosine distance of average linkage; parts of it count between means.
        least: So many speakers at least, unless the chunks have fewer clusters together.
        most: So many at most.
    """
    found = [chunk_people(*chunk, threshold, MOST_MEANS // n_chunks) for chunk in chunks]
    sums, counts, mets = zip(*found, strict=True)
    chunk = np.repeat(np.arange(len(found)), [len(count) for count in counts])
    clusters, sizes, met = np.concatenate(sums), np.concatenate(counts), block_diag(*mets)
    groups, group = merge_clusters(clusters, chunk, sizes, met, threshold, least)
    sizes = np.bincount(group, sizes)
    order = np.argsort(-sizes, kind="stable")
    large = np.count_nonzero(sizes >= max(LEAST, LEAST_SHARE * sizes.sum()))
    means = groups[order[: max(large, least, 1)]]
    people, person = merge(means, np.inf, most)
    speaker = person[nearest(groups, means)][group]
    return Speakers(people, groups, clusters, chunk, speaker, len(means))


def chunk_people(
    vectors: Floats, windows: Labels, threshold: float, most: int
) -> tuple[Floats, Labels, Labels]:
    """Cluster the embeddings of a chunk; small clusters join the nearest.

    Args:
        vectors: (n, dimension).
        windows: (n,), those that the embeddings are of.
        threshold: Cosine distance.
        most: So many clusters at most.

    Returns:
        Sums (m, dimension) and sizes (m,) of its clusters; (m, m), in how many windows two of them
        are heard, where these are so many that they are different people, else 0.
    """
    vectors = unit(vectors)
    cluster = np.zeros(len(vectors), np.int64)
    if len(vectors) > 1:
        dendrogram = linkage(vectors, method="average", metric="cosine")
        cluster = fcluster(dendrogram, threshold, criterion="distance") - 1
    sums, sizes = summed(vectors, cluster)
    order = np.argsort(-sizes, kind="stable")[:most]
    large = order[sizes[order] >= min(LEAST // 2, max(1, round(0.1 * len(vectors))))]
    cluster = nearest(sums, sums[large])[cluster] if len(large) else np.zeros_like(cluster)
    sums, sizes = summed(vectors, cluster)
    heard = np.zeros((windows.max(initial=0) + 1, len(sums)))
    heard[windows, cluster] = 1
    together, windows_of = heard.T @ heard, heard.sum(axis=0)
    is_apart = together > MET_SHARE * np.minimum.outer(windows_of, windows_of)
    return sums, sizes, np.where(is_apart, together, 0).astype(np.int32)


def merge_clusters(
    sums: Floats, chunk: Labels, sizes: Labels, met: Labels, threshold: float, least: int
) -> tuple[Floats, Labels]:
    """Merge the clusters of all chunks that are one voice.

    First the closest; then groups that are much nearer to each other than to any third. Of a rare
    group and a usual one, the rare one alone need be: the usual one may have others of its kind.

    Args:
        sums: (n, dimension).
        chunk: (n,), which one they are of.
        sizes: (n,).
        met: (n, n), as `chunk_people` tells.
        threshold: As above.
        least: So many groups at least.

    Returns:
        (m, dimension), the groups' sums; (n,), the group of each cluster.
    """
    groups, group = merge(sums, LIKE_VOICES * threshold, least, sizes, met)
    every = np.arange(len(groups))
    group_sizes = np.bincount(group, sizes)
    is_usual = group_sizes >= RARE_SHARE * group_sizes.sum()
    is_usual &= np.bincount(np.unique([group, chunk], axis=1)[0]) > 1
    met_groups = np.zeros((len(groups), len(groups)), met.dtype)
    np.add.at(met_groups, np.ix_(group, group), met)
    is_apart = are_apart(met_groups, group_sizes[:, None], group_sizes)
    distances = 1 - unit(groups) @ unit(groups).T
    distances[np.eye(len(groups), dtype=bool) | ~is_usual] = np.inf
    target = distances.argmin(axis=1)
    padded = np.pad(distances, [(0, 0), (0, 2)], constant_values=np.inf)
    first, second = np.partition(padded, (0, 1), axis=1)[:, :2].T
    joins = first <= np.minimum(LIKE_NO_OTHER * threshold, NEARER * second)
    joins &= ~is_apart[every, target]
    joins &= ~is_usual | (joins & (target[target] == every))[target]
    again = np.where(joins, np.where(is_usual, np.minimum(every, target), target), every)
    left, again = np.unique(again[again], return_inverse=True)
    if len(left) < least:
        return groups, group
    return summed(groups, again)[0], again[group]


def merge(
    sums: Floats,
    limit: float,
    least: float,
    sizes: Labels | None = None,
    met: Labels | None = None,
) -> tuple[Floats, Labels]:
    """Merge the closest two groups again and again.

    Args:
        sums: (n, dimension), of each group's vectors: the larger weighs more.
        limit: Cosine distance of the last two that are merged.
        least: Stop at so many groups.
        sizes: (n,), of the groups.
        met: (n, n), in how many windows two are heard that are different people: they are not
            merged while they, with what they have been merged with, `are_apart`.

    Returns:
        (m, dimension), the new groups' sums; (n,), the new group of each old one.
    """
    n = len(sums)
    sums, group, every = sums.copy(), np.arange(n), np.arange(n)
    sizes = np.ones(n, np.int64) if sizes is None else sizes.copy()
    met = np.zeros((n, n), np.int32) if met is None else met.copy()
    units = unit(sums).astype(np.float32)
    distances = units @ units.T
    np.subtract(1, distances, out=distances)
    distances[are_apart(met, sizes[:, None], sizes)] = np.inf
    np.fill_diagonal(distances, np.inf)
    closest = distances.argmin(axis=1)
    for _ in range(n - max(1, int(min(n, least)))):
        kept = int(distances[every, closest].argmin())
        gone = int(closest[kept])
        if not distances[kept, gone] <= limit or np.isinf(distances[kept, gone]):
            break
        sums[kept] += sums[gone]
        units[kept] = unit(sums[kept])
        group[group == gone] = kept
        sizes[kept] += sizes[gone]
        met[kept] += met[gone]
        met[:, kept] = met[kept]
        distances[:, gone] = distances[gone] = np.inf
        is_other = (group == every) & (every != kept)
        can_merge = is_other & ~are_apart(met[kept], sizes[kept], sizes)
        distances[kept] = np.where(can_merge, 1 - units @ units[kept], np.inf)
        distances[:, kept] = distances[kept]  # a pair's row that changed last knows of it
        stale = np.isin(closest, (kept, gone))
        closest[stale] = distances[stale].argmin(axis=1)
    left, group = np.unique(group, return_inverse=True)
    return sums[left], group


def are_apart(met: Labels, sizes: Labels, others: Labels) -> Flags:
    """Whether windows tell groups apart: so many as both of two are heard in, for their sizes."""
    return met > FEW_SHARE * np.minimum(sizes, others)


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
    """Find the mean that each vector, (…, dimension), is closest to in direction: (…)."""
    found: Labels = (vectors @ unit(means).T).argmax(axis=-1)
    return found


def main() -> None:
    """Read the header (chunks, threshold, least, most) and the chunks; write what was found."""
    n_chunks, threshold, least, most = np.load(sys.stdin.buffer)
    chunks = ((np.load(sys.stdin.buffer), np.load(sys.stdin.buffer)) for _ in range(int(n_chunks)))
    found = find_speakers(chunks, int(n_chunks), float(threshold), int(least), float(most))
    np.savez(sys.stdout.buffer, **asdict(found))


if __name__ == "__main__":
    main()
