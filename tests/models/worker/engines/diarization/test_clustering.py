"""Labels are those of pyannote's own clustering, and nothing waits while they are made."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.audio.pipelines.clustering import AgglomerativeClustering, VBxClustering
from pyannote.audio.pipelines.utils.diarization import set_num_speakers
from pyannote.audio.utils.signal import binarize
from scipy.cluster.hierarchy import linkage

from tests.fakes.diarization import StandIn, activity_of, random_plda, smooth_scores
from worker.cancel import CancelToken
from worker.engines.diarization import clustering as ours
from worker.engines.diarization.clustering import SpeakerBounds, cluster, link
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
            cluster(vectors, activity, bounds, clusterers[name])
        return
    expected[masks.data.sum(axis=1) == 0] = -2
    found = cluster(vectors.copy(), activity, bounds, clusterers[name])
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
    cluster(voices(0, 30, 2, 0.3), activity, bounds, clusterers[name])
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
