"""Training examples: a stretch of distorted sound, and the label of each of its frames.

A letter is labelled in one frame, where it begins, and `|` where a word ends; every other frame
is blank. That is the path which `whisperx.align` scores, so it is what the network learns. Rooms,
microphones, telephone lines and noise are added, which leave every time as it was.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bench.corpus import SAMPLE_RATE_HZ
from tools.train_aligner.corpus import Utterance

VOCABULARY = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
LABELS = {label: index for index, label in enumerate(VOCABULARY)}
BLANK, BOUNDARY = LABELS["<pad>"], LABELS["|"]
KERNELS, STRIDES, CHANNELS = (160, 4, 3, 2, 1), (10, 4, 2, 2, 2), (96, 96, 128, 128, 160)
HOP = 320
FRAME_S = HOP / SAMPLE_RATE_HZ
BATCHES = ((7, 2.7), (5, 4.0), (4, 5.0), (4, 5.0), (3, 6.6), (2, 10.0), (1, 20.0))
"""How many stretches of how many seconds; about 20 s a step."""
PAUSE_S = 0.08
"""A gap this long after a word gets a second frame of `|`."""
ADJACENT_S = 0.03

NOISE_S = 24
EQUALIZER_HZ = np.array([0, 100, 300, 700, 1500, 2500, 3500, 5000, 8000.0])

Sound = NDArray[np.float32]
Events = list[tuple[int, float]]


@dataclass(frozen=True)
class Batch:
    """sound (b, samples); labels (b, frames); sequences: the labels alone, blanks left out."""

    sound: torch.Tensor
    labels: torch.Tensor
    sequences: list[list[int]]


def count_frames(n_samples: int) -> int:
    """Return how many frames the network gives for so many samples."""
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        n_samples = (n_samples - kernel) // stride + 1
    return n_samples


class Augmenter:
    """Distorts sound; every time in it stays as it was. `utterances` are for babble."""

    def __init__(self, utterances: list[Utterance], rng: np.random.Generator) -> None:
        self._rng = rng
        self._noises = [self._coloured_noise() for _ in range(12)]
        self._noises += [self._babble(utterances) for _ in range(6)]

    def distort(self, sound: Sound) -> Sound:
        """Filter, reverberate, add noise, clip softly and set a level; same length."""
        rng = self._rng
        if rng.random() < 0.85:
            sound = self._through_a_line(sound)
        rms = np.sqrt(np.mean(sound**2)) + 1e-6
        if rng.random() < 0.85:
            noise = self._noises[rng.integers(len(self._noises))]
            start = rng.integers(len(noise) - len(sound))
            gain = 10 ** (-rng.uniform(5, 45) / 20)
            sound = sound + noise[start : start + len(sound)] * rms * gain
        if rng.random() < 0.3:
            sound = np.tanh(sound / rms * rng.uniform(0.3, 0.8))
        sound = self._set_level(sound)
        if rng.random() < 0.1:
            sound = np.sign(sound) * np.round(np.sqrt(np.abs(sound)) * 127) ** 2 / 127**2
        return self._hiss(sound, 1e-4 * rng.random())

    def clean(self, sound: Sound) -> Sound:
        """Only set a level, over the faintest hiss."""
        return self._hiss(self._set_level(sound), 3e-4)

    def _set_level(self, sound: Sound) -> Sound:
        """Give the peak a level between 0.05 and 1, alike likely on a logarithmic scale."""
        level = np.exp(self._rng.uniform(np.log(0.05), 0))
        return np.asarray(sound / (np.abs(sound).max() + 1e-6) * level, np.float32)

    def _hiss(self, sound: Sound, amplitude: float) -> Sound:
        hiss = self._rng.standard_normal(len(sound)) * amplitude
        return (sound + hiss).astype(np.float32)

    def _through_a_line(self, sound: Sound) -> Sound:
        """Apply an equalizer, a band and perhaps a room, all as one filter."""
        length = len(sound) + SAMPLE_RATE_HZ // 4
        length += length % 2
        hz: NDArray[np.float64] = np.linspace(0, SAMPLE_RATE_HZ / 2, length // 2 + 1)
        spectrum = np.fft.rfft(sound, length) * self._equalizer(hz) * self._band(hz)
        if self._rng.random() < 0.35:
            spectrum = spectrum * np.fft.rfft(self._room(), length)
        return np.fft.irfft(spectrum, length)[: len(sound)].astype(np.float32)

    def _equalizer(self, hz: NDArray[np.float64]) -> NDArray[np.float64]:
        rng = self._rng
        gains_db = rng.uniform(-1, 1, len(EQUALIZER_HZ)) * rng.choice([2, 4, 7])
        tilt_db = rng.uniform(-3, 3) * 0.8 * np.log2(np.maximum(EQUALIZER_HZ, 100) / 1000)
        return np.asarray(10 ** (np.interp(hz, EQUALIZER_HZ, gains_db + tilt_db) / 20))

    def _band(self, hz: NDArray[np.float64]) -> NDArray[np.float64]:
        rng = self._rng
        safe_hz = np.maximum(hz, 1)
        if rng.random() < 0.4:  # a telephone
            low, high = rng.uniform(150, 350), rng.uniform(3000, 3900)
            return 1 / (1 + (low / safe_hz) ** 8) / (1 + (hz / high) ** 24)
        band = np.ones_like(hz)
        if rng.random() < 0.3:
            band /= 1 + (hz / rng.uniform(3500, 7500)) ** 16
        if rng.random() < 0.3:
            band /= 1 + (rng.uniform(50, 200) / safe_hz) ** 6
        return band

    def _room(self) -> NDArray[np.float64]:
        """Make an impulse response: the sound itself, then a decaying tail of 0.05 to 0.25 s."""
        rng = self._rng
        n = int(rng.uniform(0.05, 0.25) * SAMPLE_RATE_HZ)
        tail = rng.standard_normal(n) * np.exp(-np.arange(n) / (n / rng.uniform(4, 7)))
        tail[:16] = 0
        tail *= rng.uniform(0.1, 0.8) / np.linalg.norm(tail)
        tail[0] = 1
        return tail

    def _coloured_noise(self) -> Sound:
        spectrum = np.fft.rfft(self._rng.standard_normal(NOISE_S * SAMPLE_RATE_HZ))
        slope = np.arange(1, len(spectrum) + 1) / len(spectrum)
        noise = np.fft.irfft(spectrum * slope ** -self._rng.uniform(0, 1))
        return np.asarray(noise / noise.std(), np.float32)

    def _babble(self, utterances: list[Utterance]) -> Sound:
        babble = np.zeros(NOISE_S * SAMPLE_RATE_HZ)
        for _ in range(60):
            voice = utterances[self._rng.integers(len(utterances))].waveform.astype(np.float64)
            start = self._rng.integers(len(babble) - 1000)
            part = voice[: len(babble) - start] / (np.abs(voice).max() + 1)
            babble[start : start + len(part)] += part
        return np.asarray(babble / babble.std(), np.float32)


class Windows:
    """Draws batches from a corpus, without end; everything is drawn from `seed`."""

    def __init__(self, utterances: list[Utterance], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._utterances = utterances
        self._augmenter = Augmenter(utterances, self._rng)
        self._queue: list[int] = []

    def draw(self, strength: float) -> Batch:
        """Draw a batch, a share of `strength` (0 to 1) of it distorted."""
        count, seconds = BATCHES[self._rng.integers(len(BATCHES))]
        n_samples = int(seconds * SAMPLE_RATE_HZ)
        sounds, labels = zip(
            *(self._window(n_samples, strength) for _ in range(count)), strict=True
        )
        return Batch(
            torch.from_numpy(np.stack(sounds)),
            torch.from_numpy(np.stack(labels)),
            [_sequence(labels_of) for labels_of in labels],
        )

    def _window(self, n_samples: int, strength: float) -> tuple[Sound, NDArray[np.int64]]:
        """Cut from the beginning, or right after some word: whisperx cuts segments there."""
        rng, start = self._rng, 0
        sound, events = self._conversation(n_samples + int(rng.integers(3 * SAMPLE_RATE_HZ)))
        ends = [int(t * SAMPLE_RATE_HZ) for c, t in events if c == BOUNDARY]
        fitting = [end for end in ends if end < len(sound) - n_samples]
        if fitting and rng.random() < 0.6:
            start = fitting[rng.integers(len(fitting))]
        shifted = [(c, t - start / SAMPLE_RATE_HZ) for c, t in events]
        kept = [(c, t) for c, t in shifted if t > -1 / SAMPLE_RATE_HZ]
        distort = self._augmenter.distort if rng.random() < strength else self._augmenter.clean
        return distort(sound[start : start + n_samples]), label_frames(kept, n_samples)

    def _conversation(self, n_samples: int) -> tuple[Sound, Events]:
        """Join utterances, with pauses between them, to at least so many samples."""
        rng = self._rng
        length = int(rng.uniform(0, 0.8) * SAMPLE_RATE_HZ)
        parts = [np.zeros(length, np.float32)]
        events: Events = []
        while length < n_samples:
            sound, own = self._one()
            events += [(c, t + length / SAMPLE_RATE_HZ) for c, t in own]
            bounds = (0.05, 0.4) if rng.random() < 0.6 else (0.3, 1.6)
            pause = np.zeros(int(rng.uniform(*bounds) * SAMPLE_RATE_HZ), np.float32)
            parts += [sound, pause]
            length += len(sound) + len(pause)
        return np.concatenate(parts), events

    def _one(self) -> tuple[Sound, Events]:
        """Take the next utterance: edges trimmed, level and speed varied."""
        rng = self._rng
        if not self._queue:
            self._queue = list(rng.permutation(len(self._utterances)))
        utterance = self._utterances[self._queue.pop()]
        first, last = utterance.onsets[0][1], utterance.onsets[-1][1]
        first = max(0, int((first - rng.uniform(0, 0.08)) * SAMPLE_RATE_HZ))
        last = int((last + rng.uniform(0.02, 0.15)) * SAMPLE_RATE_HZ)
        sound = (utterance.waveform[first:last] / 32768).astype(np.float32)
        events = [(LABELS[label], t - first / SAMPLE_RATE_HZ) for label, t in utterance.onsets]
        spread_db = 8 if rng.random() < 0.5 else 2
        level = 0.1 * 10 ** (rng.uniform(-spread_db, spread_db) / 20)
        sound = sound / (np.sqrt(np.mean(sound**2)) + 1e-6) * level
        if rng.random() < 0.7:
            speed = rng.uniform(0.85, 1.18)
            positions = np.arange(int(len(sound) / speed)) * speed
            sound = np.interp(positions, np.arange(len(sound)), sound)
            events = [(c, t / speed) for c, t in events]
        return sound.astype(np.float32), events


def label_frames(events: Events, n_samples: int) -> NDArray[np.int64]:
    """Put each event on a frame of its own, in order.

    Args:
        events: Labels with times in seconds, ascending.
        n_samples: Length of the stretch; events beyond it are left out.

    Returns:
        (frames,), blank where nothing begins. whisperx spreads the frames over the whole
        duration, although the last ones are missing; half of that skew is taken back here.
    """
    n_frames = count_frames(n_samples)
    skew = (n_samples / HOP - n_frames) / 2
    labels = np.full(n_frames, BLANK, np.int64)
    previous, frame = -1, -1
    for index, (label, time_s) in enumerate(events):
        gap_s = events[index + 1][1] - time_s if index + 1 < len(events) else np.inf
        wanted = round(time_s / FRAME_S - skew) - (label == BOUNDARY and gap_s < ADJACENT_S)
        frame = max(wanted, frame + (2 if label == previous else 1), 0)
        if frame >= n_frames:
            break
        labels[frame], previous = label, label
        if label == BOUNDARY and gap_s > PAUSE_S and frame + 1 < n_frames:
            frame += 1
            labels[frame] = label
    # Nothing shows the network a `|` that closes a word before the stretch.
    letters = np.flatnonzero(labels > BOUNDARY)
    labels[: letters[0] if len(letters) else n_frames] = BLANK
    return labels


def _sequence(labels: NDArray[np.int64]) -> list[int]:
    """Read labels as CTC does: repetitions merged, blanks left out."""
    changed = np.concatenate([[True], labels[1:] != labels[:-1]])
    return [int(label) for label in labels[changed] if label != BLANK]
