"""Who is active: pyannote's hysteresis, counts and filters, from bytes and in parts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.audio.pipelines import SpeakerDiarization
from pyannote.audio.utils.signal import binarize

from tests.fakes.diarization import FRAME, StandIn, activity_of, smooth_scores


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 20), n_windows=st.integers(1, 30), threshold=st.floats(0.1, 0.9))
def test_masks_and_counts_are_upstreams(seed: int, n_windows: int, threshold: float) -> None:
    scores = smooth_scores(seed, n_windows)
    stand_in = StandIn()
    activity = activity_of(scores, stand_in, threshold)
    masks = binarize(stand_in.feature(scores), onset=threshold, initial_state=False)
    np.testing.assert_array_equal(activity.masks(np.arange(n_windows)), masks.data > 0)
    count = SpeakerDiarization.speaker_count(masks, FRAME, warm_up=(0.0, 0.0))
    np.testing.assert_array_equal(activity.speakers_per_frame(block=7), count.data[:, 0])
    np.testing.assert_array_equal(activity.active_frames, masks.data.sum(axis=1))


def test_a_score_on_the_threshold_changes_nothing() -> None:
    row = np.array([0.5, 0.6, 0.5, 0.5, 0.4, 0.5, 0.7, 0.5], np.float32)
    scores = row[None, :, None].repeat(2, axis=0)
    stand_in = StandIn()
    expected = binarize(stand_in.feature(scores), onset=0.5, initial_state=False).data > 0
    found = activity_of(scores, stand_in, 0.5).masks(np.arange(2))
    assert found[0, :, 0].tolist() == [False, True, True, True, False, False, True, True]
    np.testing.assert_array_equal(found, expected)


def test_a_powerset_models_scores_are_kept_as_bytes() -> None:
    scores = (smooth_scores(0, 9) > 0.5).astype(np.float32)
    activity = activity_of(scores, StandIn(is_powerset=True), 0.5)
    assert activity.scores.dtype == np.uint8
    np.testing.assert_array_equal(activity.scores[activity.index].transpose(0, 2, 1), scores)
    np.testing.assert_array_equal(activity.masks(np.arange(9)), scores > 0)


def test_clean_frames_are_those_of_one_speaker() -> None:
    scores = np.array([[[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]]], np.float32)
    activity = activity_of(scores, StandIn(is_powerset=True), 0.5)
    assert activity.clean_frames.tolist() == [[1, 2, 0]]
    assert activity.active_frames.tolist() == [[2, 3, 0]]
