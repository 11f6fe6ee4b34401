"""Mix and resample frames, and put the samples where they belong in a file.

Takes PyAV's frames; writes mono int16 at 16 kHz. Mono, stereo and declared surround are mixed by
FFmpeg, to the bit as whisperx's ffmpeg call does; where channels cancel out or have no declared
layout they are averaged here. Raises `TooLong`.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import mul
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt

RATE_HZ = 16_000
_CHUNK_S = 1
_STRIDE = 8  # of the samples that channels are compared by
_CANCELLING = 0.25  # energy of a mix, as a share of what unrelated channels would give
_MAX_SWR_CHANNELS = 8
_NATIVE = frozenset({"s16", "s16p", "flt", "fltp", "s32", "s32p", "u8", "u8p", "dbl", "dblp"})

Samples = npt.NDArray[np.int16]
Channels = npt.NDArray[np.float32]


class TooLong(Exception):
    """The waveform exceeds the limit."""


class WaveformFile:
    """A file of int16 samples that is written at any position, forwards; gaps are silence.

    Args:
        file: Empty, open for writing, seekable.
        start: First sample wanted.
        stop: One past the last one wanted; None: all.
        limit: Most samples.

    Attributes:
        end: Of the samples so far, where they stand.
        written: Samples that are not silence between others.
        cut: Samples that were not written, because others were there.
        loudest: RMS of the loudest block.
    """

    def __init__(self, file: BinaryIO, start: int, stop: int | None, limit: int) -> None:
        self._file, self._start, self._stop, self._limit = file, start, stop, limit
        self._at = 0
        self.end = self.written = self.cut = 0
        self.loudest = 0.0
        file.seek(0)
        file.truncate()

    @property
    def is_full(self) -> bool:
        """Whether all that is wanted is there."""
        return self._stop is not None and self.end >= self._stop

    def __len__(self) -> int:
        """Samples kept."""
        end = self.end if self._stop is None else min(self.end, self._stop)
        return max(end - self._start, 0)

    def write(self, position: int, block: Samples) -> None:
        """Put samples at a position; what lies before the end so far is cut.

        Raises:
            TooLong: More samples than the limit.
        """
        cut = min(max(self.end - position, 0), len(block))
        self.cut, self.written = self.cut + cut, self.written + len(block) - cut
        block = block[cut:]
        if not len(block):
            return
        position = max(position, self.end)
        self.end = position + len(block)
        if len(self) > self._limit:
            raise TooLong
        level = float(np.sqrt(np.mean(np.square(block, dtype=np.float32))))
        self.loudest = max(self.loudest, level)
        first = max(self._start - position, 0)
        stop = len(block) if self._stop is None else max(self._stop - position, 0)
        self._put((position + first - self._start) * 2, block[first:stop])

    def _put(self, offset: int, block: Samples) -> None:
        if not len(block):
            return
        if offset != self._at:
            self._file.seek(offset)
        self._file.write(block.tobytes())
        self._at = offset + block.nbytes

    def close(self) -> int:
        """Make the file as long as the waveform, trailing silence included; return its samples."""
        self._file.flush()
        self._file.truncate(len(self) * 2)
        return len(self)


class Stretch:
    """Consecutive frames of one format, mixed and resampled a second at a time.

    Args:
        start_s: Where the first sample stands in the waveform.
        first: The first frame; others must be like it.
        gain: Factor for every sample.
    """

    def __init__(self, start_s: float, first: av.AudioFrame, gain: float = 1.0) -> None:
        self.start_s, self.rate_hz = start_s, first.rate
        self.added = 0
        self.peak = 0.0
        self._key = _key(first)
        self._n_channels = first.layout.nb_channels
        self._gain = gain
        self._fifo = av.AudioFifo()
        self._packer = _packer(first)
        self._mixed = 0
        self._signs: tuple[int, ...] = ()
        self._weights: tuple[float, ...] | None = None
        self._resampler: av.AudioResampler | None = None
        self._position = 0

    @property
    def end_s(self) -> float:
        """Where the next frame's first sample belongs."""
        return self.start_s + self.added / self.rate_hz

    def is_like(self, frame: av.AudioFrame) -> bool:
        """Whether a frame has the format of the others."""
        return _key(frame) == self._key

    def add(self, frame: av.AudioFrame) -> Iterator[tuple[int, Samples]]:
        """Take a frame; give positions and samples as they become ready."""
        frame.pts = None  # the FIFO would compare it
        self.added += frame.samples
        self._fifo.write(frame)
        if self._fifo.samples >= self.rate_hz * _CHUNK_S:
            yield from self._mix()

    def end(self) -> Iterator[tuple[int, Samples]]:
        """Give what is left."""
        yield from self._mix()
        yield from self._drain()

    def _mix(self) -> Iterator[tuple[int, Samples]]:
        chunk = self._fifo.read()
        if chunk is None:
            return
        if self._packer is not None:
            (chunk,) = self._packer.resample(chunk)
        weights = self._weigh(chunk)
        if self._resampler is None or weights != self._weights:
            yield from self._drain()
            self._weights = weights
            self._resampler = av.AudioResampler("s16", "mono", RATE_HZ)
            self._position = round((self.start_s + self._mixed / self.rate_hz) * RATE_HZ)
        self._mixed += chunk.samples
        if weights is not None:
            chunk = _weighted(chunk, weights)
        yield from self._placed(self._resampler.resample(chunk))

    def _drain(self) -> Iterator[tuple[int, Samples]]:
        if self._resampler is not None:
            yield from self._placed(self._resampler.resample(None))

    def _placed(self, frames: list[av.AudioFrame]) -> Iterator[tuple[int, Samples]]:
        for frame in frames:
            block = frame.to_ndarray()[0]
            yield self._position, block
            self._position += len(block)

    def _weigh(self, chunk: av.AudioFrame) -> tuple[float, ...] | None:
        """Return each channel's weight in the mix; None where FFmpeg mixes."""
        n, is_averaged = self._n_channels, _must_be_averaged(chunk) or self._gain != 1.0
        signs: tuple[int, ...] = (1,) * n
        is_float = chunk.format.name[:3] in ("flt", "dbl")
        if is_float or n > 1:
            samples = _channels(chunk)
        if is_float:
            is_averaged |= not self._measure(samples)
        if n > 1:
            signs = _signs(samples)
            if sum(map(mul, signs, self._signs)) < 0:  # so that a word keeps its polarity
                signs = tuple(-sign for sign in signs)
            self._signs = signs
        if not is_averaged and -1 not in signs:
            return None
        heard = sum(map(abs, signs)) if _must_be_averaged(chunk) else n
        return tuple(self._gain * sign / max(heard, 1) for sign in signs)

    def _measure(self, samples: npt.NDArray[np.generic]) -> bool:
        """Whether all samples are finite; if so, they count for the peak."""
        peak = max(float(samples.max()), -float(samples.min()))
        if not np.isfinite(peak):
            return False
        self.peak = max(self.peak, peak)
        return True


def _key(frame: av.AudioFrame) -> tuple[object, ...]:
    return frame.format.name, frame.layout.name, frame.rate


def _packer(frame: av.AudioFrame) -> av.AudioResampler | None:
    """Return what makes frames readable for numpy; PyAV overruns planes beyond the eighth."""
    is_readable = frame.layout.nb_channels <= _MAX_SWR_CHANNELS or not frame.format.is_planar
    if is_readable and frame.format.name in _NATIVE:
        return None
    return av.AudioResampler("flt", frame.layout.name, frame.rate)


def _must_be_averaged(frame: av.AudioFrame) -> bool:
    """Whether FFmpeg would guess what the channels are, or knows no mix of so many."""
    n = frame.layout.nb_channels
    return n > _MAX_SWR_CHANNELS or (n > 2 and frame.layout.name == f"{n} channels")


def _channels(frame: av.AudioFrame) -> npt.NDArray[np.generic]:
    """Return the samples, shape (n_channels, n_samples), as they are stored."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    return samples


def _weighted(frame: av.AudioFrame, weights: tuple[float, ...]) -> av.AudioFrame:
    samples = _channels(frame)
    floats: Channels = samples.astype(np.float32)
    if samples.dtype == np.uint8:
        floats -= 128
    if samples.dtype.kind in "iu":
        floats /= np.float32(1 << (8 * samples.dtype.itemsize - 1))
    floats = np.nan_to_num(floats, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    mono = np.asarray(weights, np.float32) @ floats
    mixed = av.AudioFrame.from_ndarray(mono[None], format="flt", layout="mono")
    mixed.rate = frame.rate
    return mixed


def _signs(samples: npt.NDArray[np.generic]) -> tuple[int, ...]:
    """Return each channel's sign in the mix; 0 where it has no signal.

    Where the plain mix would cancel out, channels that oppose the loudest are turned round.
    Differences of neighbouring samples are compared, so that hum, which is in phase, counts less
    than speech.
    """
    ahead = samples[:, 1::_STRIDE].astype(np.float32)
    slopes = ahead - samples[:, ::_STRIDE][:, : ahead.shape[1]].astype(np.float32)
    likeness = slopes @ slopes.T
    energies = np.diag(likeness)
    signs = np.where(energies == 0, 0, 1)
    if float(likeness.sum()) < _CANCELLING * float(energies.sum()):
        signs[likeness[int(np.argmax(energies))] < 0] = -1
    return tuple(int(sign) for sign in signs)
