"""Labels are those of pyannote's own clustering, and nothing waits while they are made."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.audio.pipelines.clustering import AgglomerativeClustering, VBxClustering
from pyannote.audio.pipelines.utils.diarization import set_num_speakers
from pyannote.audio.utils.signal import binarize
from pyannote.audio.utils.vbx import cluster_vbx
from scipy.cluster.hierarchy import linkage
from scipy.special import softmax

from tests.fakes.diarization import StandIn, activity_of, random_plda, smooth_scores
from worker.cancel import CancelToken
from worker.engines.diarization import chunks
from worker.engines.diarization import clustering as ours
from worker.engines.diarization.activity import Activity
from worker.engines.diarization.clustering import SILENT, WHOLE_S, SpeakerBounds, cluster, link
from worker.errors import JobCancelled


class Clusterer:
    """A pipeline that has nothing but its clustering."""

    def __init__(self, clustering: Any, **parameters: Any) -> None:
        self.clustering = clustering.instantiate(parameters)


@pytest.fixture(scope="module")
def clusterers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clusterer]:
    """The demo profile's clustering and community-1's."""
    centroid = AgglomerativeClustering()
    vbx = VBxClustering(random_plda(tmp_path_factory.mktemp("plda")))
    return {
        "centroid": Clusterer(centroid, method="centroid", threshold=0.5, min_cluster_size=12),
        "vbx": Clusterer(vbx, threshold=0.6, Fa=0.07, Fb=0.8),
    }


def voices(seed: int, n_windows: int, n_speakers: int, spread: float) -> npt.NDArray[np.float32]:
    """Draw unit vectors around some speakers: (n_windows, 3, 256)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_speakers, 256))
    chosen = centres[rng.integers(0, n_speakers, (n_windows, 3))]
    vectors = chosen + spread * rng.normal(size=chosen.shape)
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    return unit.astype(np.float32)  # type: ignore[no-any-return]


def rows_of(vectors: npt.NDArray[np.float32], activity: Activity) -> npt.NDArray[np.float32]:
    """Keep vectors as `embed` does; all who are silent get the same."""
    is_silent = activity.index == 0
    vectors[is_silent] = np.linspace(-1, 1, vectors.shape[2])
    return np.concatenate([np.linspace(-1, 1, vectors.shape[2])[None], vectors[~is_silent]]).astype(
        np.float32
    )


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(["centroid", "vbx"]),
    seed=st.integers(0, 1000),
    n_windows=st.integers(1, 80),
    n_speakers=st.integers(1, 5),
    spread=st.sampled_from([0.2, 0.6, 1.5]),
    hints=st.sampled_from(
        [{}, {"num_speakers": 2}, {"max_speakers": 1}, {"min_speakers": 3, "max_speakers": 4}]
    ),
)
def test_labels_are_upstreams(
    clusterers: dict[str, Clusterer],
    name: str,
    seed: int,
    n_windows: int,
    n_speakers: int,
    spread: float,
    hints: dict[str, int],
) -> None:
    stand_in, scores = StandIn(), smooth_scores(seed, n_windows, steps=150)
    activity = activity_of(scores, stand_in, 0.5)
    vectors = voices(seed, n_windows, n_speakers, spread)
    rows = rows_of(vectors, activity)
    bounds = SpeakerBounds(*set_num_speakers(**hints))
    masks = binarize(stand_in.feature(scores), onset=0.5, initial_state=False)

    try:
        expected, _, _ = clusterers[name].clustering(
            vectors.copy(),
            masks,
            num_clusters=bounds.exact,
            min_clusters=bounds.least,
            max_clusters=bounds.most,
        )
    except ValueError:
        with pytest.raises(ValueError, match="."):
            cluster(rows, activity, bounds, clusterers[name])
        return
    expected[masks.data.sum(axis=1) == 0] = -2
    found = cluster(rows, activity, bounds, clusterers[name])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["centroid", "vbx"])
def test_the_dendrogram_is_ours_to_make_and_stock_stays_as_it_was(
    clusterers: dict[str, Clusterer], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyannote.audio.pipelines import clustering as upstream

    asked = []

    def spy(vectors: Any, **more: Any) -> Any:
        asked.append(len(vectors))
        return link(vectors, **more)

    monkeypatch.setattr("worker.engines.diarization.clustering.link", spy)
    activity = activity_of(smooth_scores(0, 30, steps=150), StandIn(), 0.5)
    bounds = SpeakerBounds(None, 1, np.inf)
    cluster(rows_of(voices(0, 30, 2, 0.3), activity), activity, bounds, clusterers[name])
    assert len(asked) == 1
    assert upstream.linkage is linkage
    assert type(clusterers[name].clustering).__module__ == upstream.__name__


@pytest.mark.parametrize(("method", "kind"), [("centroid", "float32"), ("average", "float64")])
def test_another_process_makes_the_same_bits(
    method: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 16)).astype(kind)
    vectors[7] = vectors[3]
    inline = link(vectors, method, "euclidean")
    monkeypatch.setattr(ours, "INLINE_VECTORS", 2)
    np.testing.assert_array_equal(link(vectors, method, "euclidean"), inline)
    np.testing.assert_array_equal(inline, linkage(vectors, method, "euclidean"))


def test_nothing_waits_for_a_large_dendrogram_and_it_can_be_stopped() -> None:
    token = CancelToken()
    threading.Timer(0.2, token.cancel).start()
    vectors = np.zeros((20_000, 2), np.float32)
    started = time.perf_counter()
    with pytest.raises(JobCancelled):
        link(vectors, "centroid", "euclidean", lambda: token.check("diarize"))  # type: ignore[arg-type]
    assert time.perf_counter() - started < 5


def test_a_process_that_dies_says_what_it_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "INLINE_VECTORS", 1)
    with pytest.raises(ChildProcessError, match="memory"):
        link(np.zeros((5, 2)), "no such method", "euclidean")


ANY_NUMBER = SpeakerBounds(None, 1, np.inf)


def conversation(
    n_windows: int, n_voices: int, seed: int = 0
) -> tuple[Activity, npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Draw a recording in which two of a window's three local speakers are heard.

    Returns:
        Its activity, its embeddings, and who speaks: (n_windows, 2).
    """
    rng = np.random.default_rng(seed)
    who = (np.arange(n_windows)[:, None] // 4 + rng.integers(0, 2, (n_windows, 1))) % n_voices
    who = np.concatenate([who, (who + 1) % n_voices], axis=1)
    scores = np.zeros((n_windows, 20, 3), np.float32)
    scores[:, :9, 0] = scores[:, 9:18, 1] = 1
    centres = rng.normal(size=(n_voices, 256))
    vectors = centres[who] + 0.4 * rng.normal(size=(n_windows, 2, 256))
    rows = np.concatenate([np.ones((1, 256)), vectors.reshape(-1, 256)]).astype(np.float32)
    return activity_of(scores, StandIn(), 0.5), rows, who


def same_people(found: npt.NDArray[np.int64], who: npt.NDArray[np.int64]) -> bool:
    """Whether two labellings differ in names alone."""
    pairs = {*zip(found.ravel().tolist(), who.ravel().tolist(), strict=True)}
    return len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


@pytest.mark.parametrize("name", ["centroid", "vbx"])
@pytest.mark.parametrize(("n_windows", "n_voices"), [(1201, 2), (3700, 6)])
def test_long_recordings_are_clustered_in_chunks(
    clusterers: dict[str, Clusterer], name: str, n_windows: int, n_voices: int
) -> None:
    activity, rows, who = conversation(n_windows, n_voices)
    labels = cluster(rows, activity, ANY_NUMBER, clusterers[name])
    assert same_people(labels[:, :2], who)
    assert (labels[:, 2] == SILENT).all()


@pytest.mark.parametrize(
    ("n_windows", "whole_s", "is_in_chunks"),
    [(1200, WHOLE_S, False), (1201, WHOLE_S, True), (121, 60, True), (121, np.inf, False)],
)
def test_one_chunk_is_clustered_as_it_was(
    clusterers: dict[str, Clusterer],
    monkeypatch: pytest.MonkeyPatch,
    n_windows: int,
    whole_s: float,
    is_in_chunks: bool,
) -> None:
    asked = []

    def spy(_: Any, activity: Activity, *__: Any) -> npt.NDArray[np.int64]:
        asked.append(activity)
        return np.zeros_like(activity.index)

    monkeypatch.setattr(ours, "_in_chunks", spy)
    activity, rows, _ = conversation(n_windows, 2)
    cluster(rows, activity, ANY_NUMBER, clusterers["centroid"], whole_s=whole_s)
    assert bool(asked) == is_in_chunks


@pytest.mark.parametrize("name", ["centroid", "vbx"])
@pytest.mark.parametrize(
    ("hints", "people"),
    [
        ({"num_speakers": 3}, 3),
        ({"num_speakers": 1}, 1),
        ({"num_speakers": 6}, 6),
        ({"max_speakers": 2}, 2),
        ({"min_speakers": 5, "max_speakers": 8}, 5),
        ({"min_speakers": 2, "max_speakers": 9}, 4),
    ],
)
def test_hints_hold_for_a_long_recording(
    clusterers: dict[str, Clusterer], name: str, hints: dict[str, int], people: int
) -> None:
    activity, rows, _ = conversation(2500, 4)
    bounds = SpeakerBounds(*set_num_speakers(**hints))
    labels = cluster(rows, activity, bounds, clusterers[name])
    assert len(np.unique(labels[:, :2])) == people


def test_hints_that_no_chunk_can_meet_are_refused(clusterers: dict[str, Clusterer]) -> None:
    activity, rows, _ = conversation(1500, 2)
    with pytest.raises(ValueError, match="no 90 speakers"):
        cluster(rows, activity, SpeakerBounds(90, 90, 90), clusterers["centroid"])


@pytest.mark.parametrize(("n_clusters", "is_told"), [(12, False), (13, True)])
def test_a_threshold_that_does_not_fit_the_embedding_is_told(
    clusterers: dict[str, Clusterer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    n_clusters: int,
    is_told: bool,
) -> None:
    means, number = np.eye(2, 256), np.arange(n_clusters)
    found = chunks.Speakers(means, means, means[number % 2], number % 3, number % 2, 2)
    monkeypatch.setattr(ours, "_find_speakers", lambda *_: found)
    activity, rows, _ = conversation(1300, 2)
    caplog.set_level("INFO")
    cluster(rows, activity, ANY_NUMBER, clusterers["centroid"])
    assert f"3 chunks of {n_clusters / 3:.1f} people each, 2 people in all" in caplog.text
    assert ("threshold" in caplog.text) == is_told


@pytest.mark.parametrize("n_learnt", [0, 1])
def test_a_long_recording_with_hardly_a_word(
    clusterers: dict[str, Clusterer], n_learnt: int
) -> None:
    scores = np.zeros((1500, 20, 3), np.float32)
    scores[: n_learnt + 1, :1, 0] = 1  # one more that is too short to learn from
    scores[:n_learnt, :, 0] = 1
    activity = activity_of(scores, StandIn(), 0.5)
    rows = conversation(1500, 2)[1][: len(activity.scores)]
    for clusterer in clusterers.values():
        labels = cluster(rows, activity, ANY_NUMBER, clusterer)
        assert np.unique(labels).tolist() == [SILENT, 0]


def test_more_than_127_speakers_keep_their_own_labels(
    clusterers: dict[str, Clusterer], monkeypatch: pytest.MonkeyPatch
) -> None:
    activity, rows, who = conversation(6000, 150)
    means = np.stack([rows[1:][who.ravel() == voice].mean(axis=0) for voice in range(150)])
    chunk = np.zeros(150, np.int64)  # the other chunks have no clusters of their own
    found = chunks.Speakers(means, means, means, chunk, np.arange(150), 150)
    monkeypatch.setattr(ours, "_find_speakers", lambda *_: found)
    vbx = Clusterer(clusterers["vbx"].clustering, threshold=0.6, Fa=0.5, Fb=0.8)
    for clusterer in (clusterers["centroid"], vbx):
        labels = cluster(rows, activity, ANY_NUMBER, clusterer)
        assert same_people(labels[:, :2], who)


def test_speakers_of_one_window_are_kept_apart_where_the_pipeline_says_so(
    clusterers: dict[str, Clusterer],
) -> None:
    activity, rows, _ = conversation(1500, 3)
    rows[2] = rows[1]
    labels = {
        name: cluster(rows, activity, ANY_NUMBER, clusterers[name])[0, :2] for name in clusterers
    }
    assert len({*labels["centroid"].tolist()}) == 1
    assert len({*labels["vbx"].tolist()}) == 2


@pytest.mark.parametrize("name", ["centroid", "vbx"])
def test_a_long_recordings_clustering_can_be_stopped_everywhere(
    clusterers: dict[str, Clusterer], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engines.diarization.clustering.POLL_S", 60.0)  # one check of its
    activity, rows, _ = conversation(2500, 4)
    calls: list[int] = []
    run = partial(cluster, rows, activity, ANY_NUMBER, clusterers[name])
    run(lambda: calls.append(1))
    for allowed in (0, len(calls) // 2, len(calls) - 2):
        with pytest.raises(IndexError, match="pop from empty list"):
            run(calls[:allowed].pop)


@pytest.mark.parametrize(("n", "n_start"), [(900, 12), (9000, 40)])
def test_vbx_in_slices_is_upstreams(n: int, n_start: int, tmp_path: Any) -> None:
    plda = random_plda(tmp_path)
    rng = np.random.default_rng(n)
    centres = rng.normal(size=(5, 256))
    true = rng.integers(0, 5, n)
    features = plda(centres[true] + 0.8 * rng.normal(size=(n, 256)))
    start = (true * n_start // 5 + rng.integers(0, n_start // 5, n)).astype(np.int64)
    _, start = np.unique(start, return_inverse=True)
    expected, priors = cluster_vbx(start, features, plda.phi, Fa=0.07, Fb=0.8)
    checks: list[int] = []
    weights, offsets, found = chunks.vbx(
        features.astype(np.float32), start, plda.phi, 0.07, 0.8, lambda: checks.append(1)
    )
    np.testing.assert_allclose(found, priors, atol=1e-5)
    assert ((found > 1e-7) == (priors > 1e-7)).all()
    table, _ = chunks.responsibilities(features, weights, offsets)
    np.testing.assert_allclose(table, expected, atol=1e-4)
    np.testing.assert_allclose(table, softmax(features @ weights + offsets, axis=1), atol=1e-9)
    assert len(checks) > n // chunks.SLICE
