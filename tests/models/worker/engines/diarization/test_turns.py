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
from worker.engines.diarization.turns import speaker_turns


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


@pytest.mark.parametrize("block", [1, 7, 100, 293, 1000])
def test_blocks_change_no_turn(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    rng = np.random.default_rng(block)
    activity = activity_of(smooth_scores(block, 12), StandIn(), 0.5)
    labels, speaking = rng.integers(-2, 4, (12, 3)), activity.speakers_per_frame()
    labels[labels == -1] = -2
    whole = speaker_turns(activity, labels, speaking, 0.1)
    monkeypatch.setattr("worker.engines.diarization.turns.BLOCK_FRAMES", block)
    assert speaker_turns(activity, labels, speaking, 0.1) == whole
