"""Tell a recording's language from its speech.

Stock whisperx looks at the raw first 30 s, and leading silence or music gives it a wrong
language. Here the spans that hold most speech vote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from whisperx.asr import WhisperModel
from whisperx.audio import N_SAMPLES, log_mel_spectrogram

from worker.values import SAMPLE_RATE_HZ, SpeechSpan, Waveform

VOTES = 4


def detect_language(
    waveform: Waveform, spans: Sequence[SpeechSpan], model: WhisperModel
) -> tuple[str, float]:
    """Return the language and its probability, averaged over speech.

    Args:
        waveform: The recording.
        spans: At least one; the `VOTES` with most speech are listened to.
        model: A multilingual Whisper.
    """
    chosen = sorted(spans, key=lambda span: span.speech_s, reverse=True)[:VOTES]
    seconds = sum(span.speech_s for span in chosen)
    weights: defaultdict[str, float] = defaultdict(float)
    for span in chosen:
        for language, probability in _probabilities(_cut(waveform, span), model).items():
            weights[language] += probability * span.speech_s / seconds
    language = max(weights, key=weights.__getitem__)
    return language, min(round(weights[language], 4), 1.0)


def _cut(waveform: Waveform, span: SpeechSpan) -> npt.NDArray[np.float32]:
    start, end = int(span.start * SAMPLE_RATE_HZ), int(span.end * SAMPLE_RATE_HZ)
    return waveform.float32[start : min(end, start + N_SAMPLES)]


def _probabilities(samples: npt.NDArray[np.float32], model: WhisperModel) -> dict[str, float]:
    """Return every language's probability for up to 30 s of samples."""
    n_mels = model.feat_kwargs.get("feature_size") or 80
    with torch.inference_mode():
        mel = log_mel_spectrogram(samples, n_mels=n_mels, padding=N_SAMPLES - len(samples))
    found = model.model.detect_language(model.encode(mel))[0]
    return {token.strip("<|>"): float(probability) for token, probability in found}
