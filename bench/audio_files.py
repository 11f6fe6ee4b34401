"""Audio files in and out, with PyAV: no ffmpeg binary is needed.

Takes paths and int16 waveforms; returns int16 waveforms of 16 kHz. What a file is written as
is an `Encoding`: a container with a codec, as recorders and browsers make them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av import AudioFormat, AudioFrame, AudioResampler
from av.audio.stream import AudioStream

Waveform = npt.NDArray[np.int16]
"""Shape (n_samples,) for mono, (n_channels, n_samples) for more."""

SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True)
class Encoding:
    """How a recording is written.

    Attributes:
        container: FFmpeg's name of the container.
        codec: FFmpeg's name of the encoder.
        sample_format: What the encoder takes, in FFmpeg's words (``fltp``: planar float32).
        bit_rate: Bits per second; None for codecs that have no choice.
        stereo_only: The encoder refuses mono: one channel is written twice.
    """

    container: str
    codec: str
    sample_format: str = "s16"
    bit_rate: int | None = None
    stereo_only: bool = False


ENCODINGS: dict[str, Encoding] = {
    "wav": Encoding("wav", "pcm_s16le"),
    "wav-mulaw": Encoding("wav", "pcm_mulaw"),
    "flac": Encoding("flac", "flac"),
    "mp3": Encoding("mp3", "libmp3lame", "s16p", 64_000),
    "m4a": Encoding("ipod", "aac", "fltp", 64_000),
    "ogg-vorbis": Encoding("ogg", "vorbis", "fltp", stereo_only=True),
    "ogg-opus": Encoding("ogg", "libopus", "s16", 24_000),
    "webm-opus": Encoding("webm", "libopus", "s16", 24_000),
}
"""Every kind the worker promises to read."""


def write_recording(
    path: Path, waveform: Waveform, rate_hz: int = SAMPLE_RATE_HZ, encoding: str = "wav"
) -> None:
    """Write a waveform as one audio file.

    Args:
        path: The file to write; its name decides nothing.
        waveform: int16, shape (n_samples,) or (n_channels, n_samples).
        rate_hz: Samples per second in `waveform` and in the file (Opus always says 48,000).
        encoding: A key of `ENCODINGS`.
    """
    spec = ENCODINGS[encoding]
    channels = np.atleast_2d(waveform)
    if spec.stereo_only and len(channels) == 1:
        channels = np.repeat(channels, 2, axis=0)
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    # bitexact: no encoder version and no random Ogg serial, so the same speech is the same file
    with av.open(path, "w", format=spec.container, options={"fflags": "+bitexact"}) as container:
        stream = cast(AudioStream, container.add_stream(spec.codec, rate=rate_hz, layout=layout))
        _configure(stream, spec)
        resampler = AudioResampler(format=spec.sample_format, layout=layout, rate=rate_hz)
        for frame in [*resampler.resample(_frame(channels, layout, rate_hz)), None]:
            container.mux(stream.encode(frame))


def read_recording(path: Path, rate_hz: int = SAMPLE_RATE_HZ) -> Waveform:
    """Decode the first audio stream of a file to mono.

    Args:
        path: Any file that FFmpeg's libraries read.
        rate_hz: Samples per second of the waveform returned.

    Returns:
        int16, shape (n_samples,).
    """
    resampler = AudioResampler(format="s16", layout="mono", rate=rate_hz)
    with av.open(path) as container:
        frames = [
            resampled
            for frame in [*container.decode(audio=0), None]
            for resampled in resampler.resample(frame)
        ]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.int16)


def to_float32(waveform: Waveform) -> npt.NDArray[np.float32]:
    """Scale int16 to float32 in [-1, 1), as ``whisperx.load_audio`` does."""
    return waveform.astype(np.float32) / 32768.0


def _configure(stream: AudioStream, spec: Encoding) -> None:
    """Set what an encoder must know before its first frame."""
    stream.codec_context.format = AudioFormat(spec.sample_format)
    stream.codec_context.options = {"strict": "experimental", "flags": "+bitexact"}
    if spec.bit_rate:
        stream.codec_context.bit_rate = spec.bit_rate


def _frame(channels: Waveform, layout: str, rate_hz: int) -> AudioFrame:
    """Pack (n_channels, n_samples) into one planar frame."""
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="s16p", layout=layout)
    frame.sample_rate = rate_hz
    return frame
