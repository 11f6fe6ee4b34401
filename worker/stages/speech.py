"""Speech: where somebody speaks, in spans of up to 30 s that Whisper takes one by one.

Takes the samples, all at once or as they arrive; gives `SpeechSpan`s in order, none when nobody
speaks. The spans are those that stock whisperx would transcribe: its model, and its rules
(hysteresis, cuts at the quietest frame, merging), which look back but never ahead, so that a
span is known as soon as the next one begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from whisperx.vads import Pyannote

from bucketscribe_contract import Stage
from worker.cancel import StageContext
from worker.engines.segmentation import (
    FrameGrid,
    OverlapMean,
    Scores,
    SegmentationStream,
    Segmenter,
    segmentation_of,
    windows_at_once,
)
from worker.types import SAMPLE_RATE_HZ, Samples, SpeechSpan

CHUNK_S = 30
# speech begins above the one and ends below the other; upstream compares float32 scores
_ONSET, _OFFSET = float(np.float32(0.500)), float(np.float32(0.363))
_SHORTEST_S = 1e-6  # pyannote.core's `Segment` counts anything shorter as empty

Region = tuple[float, float]
Listener = Callable[[Scores], None]


def find_speech(
    arriving: Iterable[Samples],
    detector: Pyannote,
    ctx: StageContext,
    listener: Listener = lambda _: None,
    n_samples: Callable[[], int | None] = lambda: None,
) -> tuple[SpeechSpan, ...]:
    """Return the spans with speech.

    Args:
        arriving: Consecutive parts of the waveform, each (n_samples,).
        detector: whisperx's voice activity detector.
        ctx: Checked before every batch of windows, and told the share that is done.
        listener: Given the scores of every batch of windows.
        n_samples: Tells the length of the whole waveform, once it is known.
    """
    segmenter = Segmenter(segmentation_of(detector.vad_pipeline))
    windows = SegmentationStream(segmenter, windows_at_once(segmenter.device, ctx.batch_size))
    speech = SpeechStream(segmenter)
    found: list[SpeechSpan] = []
    n_scored = 0
    for batch in windows.over(arriving):
        ctx.cancel.check(Stage.SPEECH)
        scores = batch()
        listener(scores)
        found += speech.add(scores)
        n_scored += len(scores)
        if total := n_samples():
            ctx.progress(n_scored * segmenter.grid.hop / total)
    found += speech.end(windows.n_samples)
    return tuple(found)


class SpeechStream:
    """Scores of windows in, spans out; each span comes when the next one begins.

    Args:
        segmenter: What the scores come from.
        chunk_s: The longest span.
    """

    def __init__(self, segmenter: Segmenter, chunk_s: float = CHUNK_S) -> None:
        self._segmenter = segmenter
        self._windows = 0
        self._mean: OverlapMean | None = None
        self._regions = _Regions(segmenter.frames, chunk_s)
        self._spans = _Spans(chunk_s)

    def add(self, scores: Scores) -> list[SpeechSpan]:
        """Take the scores of the next windows, (n_windows, n_frames, n_speakers)."""
        if self._mean is None:
            hamming = np.hamming(scores.shape[1])
            self._mean = OverlapMean(self._segmenter.grid, self._segmenter.frames, hamming)
        self._windows += len(scores)
        return self._follow(self._mean.add(scores.max(axis=2)))

    def end(self, n_samples: int) -> list[SpeechSpan]:
        """Return what is left.

        Args:
            n_samples: Length of the whole waveform: zeros after it are no frames of it.
        """
        if self._mean is None:
            return []
        grid, frames = self._segmenter.grid, self._segmenter.frames
        n_frames = frames.count(self._windows, grid)
        if grid.has_orphan(n_samples):
            n_frames = min(n_frames, frames.before(n_samples / SAMPLE_RATE_HZ))
        found = self._follow(self._mean.end(n_frames))
        last = self._regions.end()
        return found + (self._spans.add(last) if last else []) + self._spans.end()

    def _follow(self, speech: npt.NDArray[np.float32]) -> list[SpeechSpan]:
        regions = self._regions.add(speech.tolist())
        return [span for region in regions for span in self._spans.add(region)]


class _Regions:
    """Hysteresis, and cuts at the quietest frame of what is too long.

    After `whisperx.vads.pyannote.Binarize` (Bain et al., arXiv:2303.00747), whose rules are kept
    to the letter: the frame that ends a region stays in the list that the next one is cut by.
    """

    def __init__(self, frames: FrameGrid, longest_s: float) -> None:
        self._frames = frames
        self._longest_s = longest_s
        self._n = 0
        self._start = self._now = 0.0
        self._is_active = False
        self._scores: list[float] = []
        self._times: list[float] = []

    def add(self, scores: list[float]) -> list[Region]:
        """Take the scores of the next frames; return the regions that they end."""
        found = []
        for score in scores:
            self._now = self._frames.middle_s(self._n)
            if self._n == 0:
                self._begin(score)
            elif self._is_active:
                ended = self._go_on(score)
                if ended is not None and ended[1] - ended[0] > _SHORTEST_S:
                    found.append(ended)
            elif score > _ONSET:
                self._start, self._is_active = self._now, True
            self._n += 1
        return found

    def end(self) -> Region | None:
        """Return the region that the recording's end cuts off."""
        is_one = self._is_active and self._now - self._start > _SHORTEST_S
        return (self._start, self._now) if is_one else None

    def _begin(self, score: float) -> None:
        self._start, self._is_active = self._now, score > _ONSET
        self._remember(score)

    def _go_on(self, score: float) -> Region | None:
        ended = None
        if self._now - self._start > self._longest_s:
            ended = self._cut()
        elif score < _OFFSET:
            ended = self._start, self._now
            self._start, self._is_active = self._now, False
            self._scores, self._times = [], []
        self._remember(score)
        return ended

    def _cut(self) -> Region:
        """End the region at the quietest frame of its second half."""
        half = len(self._scores) // 2
        quietest = half + int(np.argmin(self._scores[half:]))
        ended = self._start, self._times[quietest]
        self._start = self._times[quietest]
        self._scores, self._times = self._scores[quietest + 1 :], self._times[quietest + 1 :]
        return ended

    def _remember(self, score: float) -> None:
        self._scores.append(score)
        self._times.append(self._now)


class _Spans:
    """Regions joined while they fit into a chunk, as whisperx's `Vad.merge_chunks` joins them."""

    def __init__(self, chunk_s: float) -> None:
        self._chunk_s = chunk_s
        self._regions: list[Region] = []
        self._start = self._end = 0.0
        self._is_first = True

    def add(self, region: Region) -> list[SpeechSpan]:
        """Take the next region; return the span that it closes."""
        start, end = region
        found = []
        if self._is_first:
            self._start, self._is_first = start, False
        if end - self._start > self._chunk_s and self._end - self._start > 0:
            found = self.end()
            self._start = start
        self._end = end
        self._regions.append(region)
        return found

    def end(self) -> list[SpeechSpan]:
        """Return the span that is open."""
        regions, self._regions = tuple(self._regions), []
        return [SpeechSpan(self._start, self._end, regions)] if regions else []
