"""Speech: where somebody speaks, in spans of up to 30 s that Whisper takes one by one.

Takes a `Waveform`; returns `SpeechSpan`s in order, none when nobody speaks. Detection and
merging are whisperx's own (a pyannote segmentation model, hysteresis, cuts at the quietest
frame), so the spans are those that stock whisperx would transcribe.
"""

from __future__ import annotations

import torch
from whisperx.vads import Pyannote

from contract import Stage
from worker.cancel import CancelToken, checked_before_each_forward
from worker.values import SAMPLE_RATE_HZ, SpeechSpan, Waveform

CHUNK_S = 30
ONSET = 0.500
OFFSET = 0.363


def find_speech(
    waveform: Waveform, detector: Pyannote, batch_size: int, token: CancelToken
) -> tuple[SpeechSpan, ...]:
    """Return the spans with speech.

    Args:
        waveform: The recording.
        detector: whisperx's voice activity detector.
        batch_size: Windows of 5 s that go through the model at once.
        token: Looked at before every batch of windows.
    """
    audio = {
        "waveform": torch.from_numpy(waveform.float32).unsqueeze(0),
        "sample_rate": SAMPLE_RATE_HZ,
    }
    windows = detector.vad_pipeline._segmentation
    windows.batch_size = batch_size
    with checked_before_each_forward(token, Stage.SPEECH, windows.model):
        scores = detector(audio)
    merged = detector.merge_chunks(scores, CHUNK_S, onset=ONSET, offset=OFFSET)
    return tuple(
        SpeechSpan(span["start"], span["end"], tuple(map(tuple, span["segments"])))
        for span in merged
    )
