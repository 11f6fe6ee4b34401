"""Turns are upstream's, from sums that were never laid out window by window."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.audio.pipelines import SpeakerDiarization
from pyannote.core import SlidingWindow, SlidingWindowFeature

from tests.fakes.diarization import FRAME, StandIn, activity_of, smooth_scores
from worker.engines.diarization.turns import loudest, speaker_turns


def by_pyannote(
    feature: SlidingWindowFeature,
    labels: npt.NDArray[np.int64],
    speaking: npt.NDArray[np.uint8],
    pause_s: float,
) -> list[tuple[float, float, str]]:
    """Reconstruct with pyannote's own functions."""
    frames = SlidingWindow(start=0.0, duration=FRAME.duration, step=FRAME.step)
    count = SlidingWindowFeature(speaking[:, None].astype(np.int8), frames)
    own: Any = SimpleNamespace(to_diarization=SpeakerDiarization.to_diarization)
    discrete = SpeakerDiarization.reconstruct(own, feature, labels, count)
    found = SpeakerDiarization.to_annotation(discrete, min_duration_off=pause_s)
    names = {label: f"SPEAKER_{i:02d}" for i, label in enumerate(found.labels())}
    tracks = found.rename_labels(names).itertracks(yield_label=True)
    return sorted((segment.start, segment.end, name) for segment, _, name in tracks)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 1000),
    n_windows=st.integers(1, 40),
    n_speakers=st.sampled_from([1, 2, 3, 12]),
    pause_s=st.sampled_from([0.0, 0.3]),
    is_powerset=st.booleans(),
)
def test_turns_are_upstreams(
    seed: int, n_windows: int, n_speakers: int, pause_s: float, is_powerset: bool
) -> None:
    rng = np.random.default_rng(seed)
    scores = smooth_scores(seed, n_windows)
    scores = (scores > 0.5).astype(np.float32) if is_powerset else scores
    stand_in = StandIn(is_powerset=is_powerset)
    activity = activity_of(scores, stand_in, 0.5)
    labels = rng.integers(0, n_speakers, (n_windows, 3))
    labels[rng.random(labels.shape) < 0.2] = -2
    labels[0, 0] = 0
    speaking = activity.speakers_per_frame()
    found, alone = speaker_turns(activity, labels, speaking, pause_s)
    expected = by_pyannote(stand_in.feature(scores), labels, speaking, pause_s)
    assert [(turn.start, turn.end, turn.speaker) for turn in found] == expected
    assert {turn.speaker for turn in alone} <= {turn.speaker for turn in found}
    if not pause_s:
        assert all(before.end <= after.start for before, after in pairwise(alone))


def test_long_recordings_are_ranked_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sums, speaking = rng.random((100, 4)).astype(np.float32), rng.integers(0, 4, 100)
    whole = loudest(sums, speaking.astype(np.uint8))
    monkeypatch.setattr("worker.engines.diarization.turns.BLOCK_FRAMES", 7)
    np.testing.assert_array_equal(loudest(sums, speaking.astype(np.uint8)), whole)
