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
    waveform: Waveform, detector: Pyannote, token: CancelToken
) -> tuple[SpeechSpan, ...]:
    """Return the spans with speech.

    Args:
        waveform: The recording.
        detector: whisperx's voice activity detector.
        token: Looked at before every batch of windows.
    """
    audio = {
        "waveform": torch.from_numpy(waveform.float32).unsqueeze(0),
        "sample_rate": SAMPLE_RATE_HZ,
    }
    model = detector.vad_pipeline._segmentation.model
    with checked_before_each_forward(token, Stage.SPEECH, model):
        scores = detector(audio)
    merged = detector.merge_chunks(scores, CHUNK_S, onset=ONSET, offset=OFFSET)
    return tuple(
        SpeechSpan(span["start"], span["end"], tuple(map(tuple, span["segments"])))
        for span in merged
    )
