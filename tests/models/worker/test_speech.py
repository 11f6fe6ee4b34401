"""Spans come as speech goes on, and are whisperx's, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.diarization import FRAME, StandIn, smooth_scores
from tests.recordings import short_speech, telephone_speech
from worker.cancel import CancelToken, StageContext
from worker.errors import JobCancelled
from worker.models.load import Models
from worker.stages.speech import SpeechStream, _Regions, _Spans, find_speech

Spans = list[tuple[float, float, list[tuple[float, float]]]]


def plain(spans: Any) -> Spans:
    """Our spans in whisperx's form."""
    return [(span.start, span.end, list(span.regions)) for span in spans]


def by_whisperx(feature: Any, n_samples: int, chunk_s: float) -> Spans:
    """The spans of per-window scores, by pyannote's and whisperx's own functions."""
    from pyannote.audio import Inference
    from pyannote.core import Segment
    from whisperx.vads import Pyannote

    feature.data = np.max(feature.data, axis=-1, keepdims=True)
    scores = Inference.aggregate(feature, FRAME, hamming=True, missing=0.0)
    if StandIn().grid.has_orphan(n_samples):
        scores.data = scores.crop(Segment(0.0, n_samples / 16_000), mode="loose")
    merged = Pyannote.merge_chunks(scores, chunk_s, onset=0.5, offset=0.363)
    return [(span["start"], span["end"], span["segments"]) for span in merged]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    extra=st.integers(0, 7999),
    n_windows=st.integers(1, 120),
    batch=st.integers(1, 50),
    chunk_s=st.sampled_from([0.5, 3, 30]),
    level=st.sampled_from([-1.0, 0.0, 0.3, 2.0]),
)
def test_spans_are_those_of_whisperx(
    seed: int, extra: int, n_windows: int, batch: int, chunk_s: float, level: float
) -> None:
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.normal(level, 1, n_windows // 9 + 1), 9)[:n_windows, None, None]
    scores = np.clip(smooth_scores(seed, n_windows) * 0.5 + loudness * 0.4, 0, 1)
    scores = scores.astype(np.float32)
    stand_in: Any = StandIn()
    n_samples = stand_in.grid.size + (n_windows - 1) * stand_in.grid.hop - extra
    stream = SpeechStream(stand_in, chunk_s=chunk_s)
    found = [span for i in range(0, n_windows, batch) for span in stream.add(scores[i : i + batch])]
    found += stream.end(n_samples)
    assert plain(found) == by_whisperx(stand_in.feature(scores), n_samples, chunk_s)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([0.2, 0.363, 0.4, 0.5, 0.51, 0.9]), min_size=2, max_size=400),
    st.sampled_from([0.1, 0.5, 30]),
)
def test_hysteresis_and_cuts_are_those_of_whisperx(scores: list[float], longest: float) -> None:
    from pyannote.core import SlidingWindowFeature
    from whisperx.vads.pyannote import Binarize

    rounded = np.array(scores, np.float32)
    stock = Binarize(onset=0.5, offset=0.363, max_duration=longest)
    timeline = stock(SlidingWindowFeature(rounded[:, None], FRAME)).get_timeline()
    ours = _Regions(StandIn().frames, longest)
    found = ours.add(rounded.tolist())
    last = ours.end()
    assert found + ([last] if last else []) == [(s.start, s.end) for s in timeline]


@given(st.lists(st.integers(1, 4), min_size=2, max_size=40), st.integers(1, 9))
def test_regions_are_joined_as_whisperx_joins_them(steps: list[int], chunk_s: int) -> None:
    """Whole seconds, so that a span can be exactly as long as it may be."""
    from whisperx.diarize import Segment
    from whisperx.vads.vad import Vad

    edges = np.cumsum(steps, dtype=float).tolist()
    regions = list(zip(edges[::2], edges[1::2], strict=False))
    stock = Vad.merge_chunks([Segment(*region) for region in regions], chunk_s, 0.5, None)
    ours = _Spans(chunk_s)
    found = [span for region in regions for span in ours.add(region)] + ours.end()
    assert plain(found) == [(span["start"], span["end"], span["segments"]) for span in stock]


def test_a_span_comes_before_the_recording_ends() -> None:
    stand_in: Any = StandIn()
    stream = SpeechStream(stand_in)
    scores = np.zeros((400, 293, 3), np.float32)
    scores[10:60] = scores[120:160] = scores[300:] = 0.9
    came = [span for i in range(0, 400, 8) for span in stream.add(scores[i : i + 8])]
    assert len(came) == 2
    assert SpeechStream(stand_in).end(0) == []
    assert len(stream.end(stand_in.grid.size + 399 * stand_in.grid.hop)) == 2


def stock_spans(models: Models, samples: Any) -> Spans:
    """What whisperx finds in a recording."""
    import torch

    audio = samples.astype(np.float32) / np.float32(32768)
    scores = models.detector({"waveform": torch.from_numpy(audio)[None], "sample_rate": 16_000})
    merged = models.detector.merge_chunks(scores, 30, onset=0.5, offset=0.363)
    return [(span["start"], span["end"], span["segments"]) for span in merged]


@pytest.mark.parametrize("seconds", [0.01, 5.0, 5.4, 5.5, 30.0])
def test_spans_of_a_recording_are_stocks(models: Models, seconds: float) -> None:
    """Of the short speech, or of a whole telephone conversation."""
    samples = (telephone_speech() if seconds > 6 else short_speech())[: round(seconds * 16_000)]
    expected = stock_spans(models, samples)
    assert bool(expected) == (seconds > 1)
    found = find_speech([samples], models.detector, StageContext(batch_size=7))
    assert plain(found) == expected


@settings(
    deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 87_000), max_size=4))
def test_samples_may_arrive_in_parts(models: Models, cuts: list[int]) -> None:
    parts = np.split(short_speech(), sorted(cuts))
    found = find_speech(parts, models.detector, StageContext(batch_size=3))
    assert found == find_speech([short_speech()], models.detector, StageContext(batch_size=3))


def test_a_cancelled_job_stops_before_its_next_batch(models: Models) -> None:
    token, heard = CancelToken(), []

    def listen(scores: Any) -> None:
        heard.append(scores)
        token.cancel()

    with pytest.raises(JobCancelled):
        find_speech([short_speech()], models.detector, StageContext(token), listen)
    assert len(heard) == 1
