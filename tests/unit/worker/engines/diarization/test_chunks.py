"""Who is who in a long recording, from embeddings drawn around known voices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from worker.engines.diarization.chunks import (
    FEW_SHARE,
    Speakers,
    chunk_people,
    find_speakers,
    merge,
    merge_clusters,
    unit,
)

Vectors = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]
DIMENSION = 64
NEAR, FAR = 0.25, np.inf


def directions(n: int, seed: int = 0) -> Vectors:
    """Draw unit vectors that are at right angles: (n, dimension)."""
    square = np.random.default_rng(seed).normal(size=(DIMENSION, DIMENSION))
    return np.linalg.qr(square)[0][:n].astype(np.float32)


def heard(voices: Vectors, n: int, seed: int, spread: float = 0.35) -> Vectors:
    """Draw n embeddings of voices: of each voice as many."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, DIMENSION)) / np.sqrt(DIMENSION)
    return unit(voices[np.arange(n) % len(voices)] + spread * noise).astype(np.float32)


def find(chunks: list[Vectors], least: int = 1, most: float = FAR, at_once: int = 2) -> Speakers:
    """Find speakers where so many embeddings in a row are of one window."""
    each = ((vectors, np.arange(len(vectors)) // at_once) for vectors in chunks)
    return find_speakers(each, len(chunks), NEAR, least, most)


def clusters_of(vectors: Vectors, most: int = 100) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Cluster a chunk with an embedding a window: sums and sizes."""
    sums, sizes, met = chunk_people(vectors, np.arange(len(vectors)), NEAR, most)
    assert not met[~np.eye(len(sums), dtype=bool)].any()
    return sums, sizes


def closest(means: npt.NDArray[np.floating], voices: Vectors) -> list[float]:
    """How close each voice is to its nearest mean, as a cosine."""
    return (voices @ unit(means).T).max(axis=1).tolist()  # type: ignore[no-any-return]


def test_who_leaves_and_comes_back_is_one_person() -> None:
    voices = directions(5)
    casts = [[0, 1, 2], [0, 3], [0, 4, 3], [4, 0], [1, 2, 0]]
    found = find([heard(voices[cast], 240, i) for i, cast in enumerate(casts)])
    assert len(found.means) == found.found == 5
    assert min(closest(found.means, voices)) > 0.99
    assert found.per_chunk == pytest.approx(13 / 5)


def test_a_voice_that_drifts_stays_one() -> None:
    voices, ways = directions(6).reshape(2, 3, DIMENSION)
    drifting = [unit(voices + 0.9 * i / 11 * ways) for i in range(12)]
    assert float(drifting[0][0] @ drifting[-1][0]) < 1 - NEAR
    found = find([heard(each, 150, i, 0.2) for i, each in enumerate(drifting)])
    assert len(found.means) == 3


def test_two_who_are_told_apart_are_not_merged_however_alike() -> None:
    one, way = directions(2)
    alike = unit(np.stack([one, one + 0.6 * way])).astype(np.float32)
    assert float(alike[0] @ alike[1]) > 1 - NEAR
    sums = np.concatenate([alike * 50, alike * 50])
    chunk = np.array([0, 0, 1, 1])
    sizes = np.full(4, 50)
    people, group = merge(sums, NEAR, 1, sizes, 20 * (chunk[:, None] == chunk))
    assert len(people) == 2
    assert group.tolist() == [0, 1, 0, 1]
    assert len(merge(sums, NEAR, 1)[0]) == 1


@pytest.mark.parametrize("has_third", [False, True])
@pytest.mark.parametrize(("changed_in", "n"), [([3], 80), ([3, 4], 10), ([3, 4], 80)])
def test_a_voice_that_noise_changes_for_a_while_stays_one_if_no_third_is_as_near(
    changed_in: list[int], n: int, *, has_third: bool
) -> None:
    one, way, other_way = directions(3)
    changed = unit(one + 0.5 * way)
    third = unit(changed + 0.55 * other_way)
    assert 0.4 * NEAR < 1 - float(one @ changed) < 1 - float(changed @ third) < 0.6 * NEAR
    who = np.repeat([0, 1, 2], [12, len(changed_in), 12])[: None if has_third else -12]
    chunk = np.array([*range(12), *changed_in, *range(12)])[: len(who)]
    sizes = np.array([100, n, 100])[who]
    sums = sizes[:, None] * np.stack([one, changed, third])[who]
    met = np.zeros((len(sums), len(sums)), int)
    groups, group = merge_clusters(sums, chunk, sizes, met, NEAR, 1)
    assert len(groups) == len(set(group)) == (3 if has_third else 1)
    assert len(merge_clusters(sums, chunk, sizes, met, NEAR, 2)[0]) == (3 if has_third else 2)
    met[3, 12] = met[12, 3] = 20
    assert len(merge_clusters(sums, chunk, sizes, met, NEAR, 1)[0]) == (3 if has_third else 2)


def test_groups_keep_away_from_whom_their_members_keep_away() -> None:
    one, way = directions(2)
    sums = unit(np.stack([one, one + 0.01 * way, one - 0.1 * way]))
    met = np.zeros((3, 3), int)
    met[1, 2] = met[2, 1] = 20
    _, group = merge(sums, NEAR, 1, np.full(3, 50), met)
    assert group.tolist() == [0, 0, 1]


@pytest.mark.parametrize(("n_chunks", "people"), [(2, 2), (40, 1)])
def test_a_voice_that_one_chunk_split_is_one_in_a_long_recording(
    n_chunks: int, people: int
) -> None:
    """In a short one nobody knows that it was a mistake."""
    one, way = directions(2)
    sums = 50 * unit(np.stack([one, one + 0.4 * way]))[np.arange(2 * n_chunks) % 2]
    met = np.zeros((len(sums), len(sums)), int)
    met[0, 1] = met[1, 0] = 20
    groups, _ = merge(sums, NEAR, 1, np.full(len(sums), 50), met)
    assert len(groups) == people


@pytest.mark.parametrize(("at_once", "people"), [(2, 2), (1, 1)])
def test_two_who_sound_alike_stay_two_only_if_windows_tell_them_apart(
    at_once: int, people: int
) -> None:
    """Else it is one voice, which its chunk split by mistake."""
    one, other = directions(2)
    alike = unit(np.stack([one, one + 0.42 * other])).astype(np.float32)
    found = find([heard(alike, 300, i, 0.5) for i in range(4)], at_once=at_once)
    assert found.per_chunk == 2
    assert len(found.means) == people
    assert len(set(found.speaker)) == people


@pytest.mark.parametrize(
    ("least", "most", "people"),
    [(1, FAR, 4), (6, FAR, 6), (6, 6, 6), (1, 2, 2), (2, 2, 2), (1, 9, 4), (4, 4, 4)],
)
def test_hints_hold_for_the_whole(least: int, most: float, people: int) -> None:
    voices = directions(4)
    chunks = [heard(voices[: 2 + i % 3], 200, i) for i in range(6)]
    assert len(find(chunks, least, most).means) == people


def test_more_speakers_than_there_are_clusters_cannot_be_had() -> None:
    assert len(find([heard(directions(2), 100, i) for i in range(2)], least=5).means) == 4


def test_what_is_odd_is_nobody_however_long_the_recording() -> None:
    voices = directions(5)
    chunks = [heard(voices[:2], 400, i) for i in range(15)]
    chunks[7] = np.concatenate([chunks[7], heard(voices[4:], 14, 99)])
    assert len(find(chunks[6:8]).means) == 3
    assert len(find(chunks).means) == 2
    assert len(find(chunks, least=3).means) == 3


def test_small_clusters_of_a_chunk_join_the_nearest() -> None:
    voices = directions(2)
    odd = unit(voices[0] + voices[1] * 0.8 + directions(9)[8])[None]
    vectors = np.concatenate([heard(voices, 120, 0), odd]).astype(np.float32)
    sums, sizes = clusters_of(vectors)
    assert sizes.tolist() == [61, 60] or sizes.tolist() == [60, 61]
    np.testing.assert_allclose(sums.sum(axis=0), vectors.sum(axis=0), atol=1e-3)


@pytest.mark.parametrize(("n", "people"), [(0, 0), (1, 1), (2, 1), (3, 1)])
def test_a_chunk_with_hardly_a_word(n: int, people: int) -> None:
    sums, sizes = clusters_of(heard(directions(1), n, 0))
    assert len(sums) == people
    assert sizes.sum() == n


def test_a_chunk_without_any_like_is_one_cluster() -> None:
    _, sizes = clusters_of(directions(DIMENSION))
    assert sizes.tolist() == [DIMENSION]


def test_a_chunk_gives_its_largest_clusters() -> None:
    voices = directions(4)
    vectors = np.concatenate([heard(voices, 80, 0), heard(voices[:2], 40, 1)])
    assert len(clusters_of(vectors, 2)[0]) == 2


def test_merging_is_that_of_a_search_over_all_pairs() -> None:
    rng = np.random.default_rng(3)
    for trial in range(20):
        sums = rng.normal(size=(14, 3)) + 1
        sizes, met = rng.integers(1, 60, 14), rng.integers(0, 2, (14, 14))
        met = met * met.T
        found, group = merge(sums, 0.3, 2 + trial % 3, sizes, met)
        expected = by_all_pairs(sums, sizes, met, 0.3, 2 + trial % 3)
        np.testing.assert_array_equal(group, expected)
        for label, total in enumerate(found):
            np.testing.assert_allclose(total, sums[group == label].sum(axis=0))


def by_all_pairs(
    sums: npt.NDArray[np.float64], sizes: Counts, met: Counts, limit: float, least: int
) -> Counts:
    groups = [[i] for i in range(len(sums))]
    while len(groups) > least and (pairs := list(mergeable(groups, sums, sizes, met, limit))):
        _, i, j = min(pairs)
        groups[i] += groups.pop(j)
    names = {member: min(group) for group in groups for member in group}
    return np.unique([names[i] for i in range(len(sums))], return_inverse=True)[1]


def mergeable(
    groups: list[list[int]],
    sums: npt.NDArray[np.float64],
    sizes: Counts,
    met: Counts,
    limit: float,
) -> Iterator[tuple[float, int, int]]:
    for j in range(len(groups)):
        for i in range(j):
            one, other = (unit(sums[groups[k]].sum(axis=0)) for k in (i, j))
            smaller = min(sizes[groups[i]].sum(), sizes[groups[j]].sum())
            is_one = met[np.ix_(groups[i], groups[j])].sum() <= FEW_SHARE * smaller
            if is_one and 1 - one @ other <= limit:
                yield float(1 - one @ other), i, j
