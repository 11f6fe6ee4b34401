"""Rooms, microphones, telephone lines and noise, so that clean speech is not all it knows."""

import numpy as np
from numpy.typing import NDArray

from tools.train_aligner.corpus import Utterance
from tools.train_aligner.speech import SAMPLE_RATE_HZ

NOISE_S = 24
EQUALIZER_HZ = np.array([0, 100, 300, 700, 1500, 2500, 3500, 5000, 8000.0])

Sound = NDArray[np.float32]


class Augmenter:
    """Distorts sound in ways that leave every time in it as it was.

    Args:
        utterances: What babble is mixed from.
        rng: Decides everything.
    """

    def __init__(self, utterances: list[Utterance], rng: np.random.Generator) -> None:
        self._rng = rng
        coloured = [self._coloured_noise() for _ in range(12)]
        self._noises = coloured + [self._babble(utterances) for _ in range(6)]

    def distort(self, sound: Sound) -> Sound:
        """Filter, reverberate, add noise, clip softly and set a level; same length."""
        rng = self._rng
        if rng.random() < 0.85:
            sound = self._through_a_line(sound)
        rms = np.sqrt(np.mean(sound**2)) + 1e-6
        if rng.random() < 0.85:
            noise = self._noises[rng.integers(len(self._noises))]
            start = rng.integers(len(noise) - len(sound))
            sound = sound + noise[start : start + len(sound)] * rms * 10 ** (
                -rng.uniform(5, 45) / 20
            )
        if rng.random() < 0.3:
            sound = np.tanh(sound / rms * rng.uniform(0.3, 0.8))
        sound = self.set_level(sound)
        if rng.random() < 0.1:
            sound = np.sign(sound) * np.round(np.sqrt(np.abs(sound)) * 127) ** 2 / 127**2
        return self._hiss(sound, 1e-4 * rng.random())

    def set_level(self, sound: Sound) -> Sound:
        """Give the peak a level between 0.05 and 1, alike likely on a logarithmic scale."""
        level = np.exp(self._rng.uniform(np.log(0.05), 0))
        scaled: Sound = (sound / (np.abs(sound).max() + 1e-6) * level).astype(np.float32)
        return scaled

    def clean(self, sound: Sound) -> Sound:
        """Only set a level, over the faintest hiss."""
        return self._hiss(self.set_level(sound), 3e-4)

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
        filtered = np.fft.irfft(spectrum, length)
        result: Sound = filtered[: len(sound)].astype(np.float32)
        return result

    def _equalizer(self, hz: NDArray[np.float64]) -> NDArray[np.float64]:
        rng = self._rng
        gains_db = rng.uniform(-1, 1, len(EQUALIZER_HZ)) * rng.choice([2, 4, 7])
        tilt_db = rng.uniform(-3, 3) * 0.8 * np.log2(np.maximum(EQUALIZER_HZ, 100) / 1000)
        gain: NDArray[np.float64] = 10 ** (np.interp(hz, EQUALIZER_HZ, gains_db + tilt_db) / 20)
        return gain

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
        unit: Sound = (noise / noise.std()).astype(np.float32)
        return unit

    def _babble(self, utterances: list[Utterance]) -> Sound:
        babble = np.zeros(NOISE_S * SAMPLE_RATE_HZ)
        for _ in range(60):
            voice = utterances[self._rng.integers(len(utterances))].waveform.astype(np.float64)
            start = self._rng.integers(len(babble) - 1000)
            part = voice[: len(babble) - start] / (np.abs(voice).max() + 1)
            babble[start : start + len(part)] += part
        unit: Sound = (babble / babble.std()).astype(np.float32)
        return unit
