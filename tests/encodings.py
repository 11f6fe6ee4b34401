"""Every kind of audio file that the worker promises to read, and a writer of each.

Takes int16 waveforms; writes files by PyAV (no ffmpeg binary is needed).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import av
import numpy as np
from av import AudioFormat, AudioFrame, AudioResampler, VideoFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from bench.corpus import SAMPLE_RATE_HZ, Waveform

_VIDEO = {"flv": ("flv", 5), "mov": ("mjpeg", 5), "webm": ("libvpx", 5)}
_VIDEO |= {"mpeg": ("mpeg1video", 25), "mpegts": ("mpeg2video", 25), "mxf": ("mpeg2video", 25)}


@dataclass(frozen=True)
class Encoding:
    """How a recording is written: container, encoder and its sample format by FFmpeg's names.

    Attributes:
        rate_hz: Samples per second; None: as many as the waveform has.
        bit_rate: Bits per second; None for codecs that have no choice.
        stereo_only: The encoder refuses mono: one channel is written twice.
        video: A black picture is there all the time, too.
        options: The muxer's.
    """

    container: str
    codec: str
    sample_format: str = "s16"
    rate_hz: int | None = None
    bit_rate: int | None = None
    stereo_only: bool = False
    video: bool = False
    options: dict[str, str] = field(default_factory=dict)


def _aac(container: str, video: bool = False) -> Encoding:
    return Encoding(container, "aac", "fltp", 44_100, 64_000, video=video)


def _mp3(container: str, rate_hz: int = 44_100, video: bool = False) -> Encoding:
    return Encoding(container, "libmp3lame", "s16p", rate_hz, 64_000, video=video)


def _opus(container: str) -> Encoding:
    return Encoding(container, "libopus", "s16", 48_000, 24_000)


def _vorbis(container: str) -> Encoding:
    return Encoding(container, "vorbis", "fltp", stereo_only=True)


ENCODINGS: dict[str, Encoding] = {
    "wav": Encoding("wav", "pcm_s16le"),
    "wav-8bit": Encoding("wav", "pcm_u8", "u8"),
    "wav-24bit": Encoding("wav", "pcm_s24le", "s32"),
    "wav-32bit": Encoding("wav", "pcm_s32le", "s32"),
    "wav-float": Encoding("wav", "pcm_f32le", "flt"),
    "wav-double": Encoding("wav", "pcm_f64le", "dbl"),
    "wav-alaw": Encoding("wav", "pcm_alaw", rate_hz=8_000),
    "wav-mulaw": Encoding("wav", "pcm_mulaw", rate_hz=8_000),
    "wav-adpcm-ms": Encoding("wav", "adpcm_ms"),
    "wav-adpcm-ima": Encoding("wav", "adpcm_ima_wav", "s16p"),
    "rf64": Encoding("wav", "pcm_s16le", options={"rf64": "always"}),
    "w64": Encoding("w64", "pcm_s16le"),
    "aiff": Encoding("aiff", "pcm_s16be"),
    "au": Encoding("au", "pcm_s16be"),
    "au-mulaw": Encoding("au", "pcm_mulaw", rate_hz=8_000),
    "caf": Encoding("caf", "pcm_s16le"),
    "caf-alac": Encoding("caf", "alac", "s16p"),
    "voc": Encoding("voc", "pcm_s16le"),
    "flac": Encoding("flac", "flac"),
    "tta": Encoding("tta", "tta"),
    "wavpack": Encoding("wv", "wavpack", "s16p"),
    "mp3": _mp3("mp3"),
    "mp3-16k": _mp3("mp3", SAMPLE_RATE_HZ),
    "mp2": Encoding("mp2", "mp2", rate_hz=48_000, bit_rate=64_000),
    "aac": _aac("adts"),
    "ac3": Encoding("ac3", "ac3", "fltp", 48_000, 96_000),
    "eac3": Encoding("eac3", "eac3", "fltp", 48_000, 96_000),
    "amr": Encoding("amr", "libopencore_amrnb", rate_hz=8_000, bit_rate=12_200),
    "ogg-flac": Encoding("ogg", "flac"),
    "ogg-opus": _opus("ogg"),
    "ogg-vorbis": _vorbis("ogg"),
    "m4a": _aac("ipod"),
    "m4a-alac": Encoding("ipod", "alac", "s16p"),
    "3gp-amr": Encoding("3gp", "libopencore_amrnb", rate_hz=8_000, bit_rate=12_200),
    "mp4": _aac("mp4", video=True),
    "mov": Encoding("mov", "pcm_s16le", video=True),
    "webm-opus": _opus("webm"),
    "webm-vorbis": _vorbis("webm"),
    "mkv-aac": _aac("matroska", video=True),
    "mkv-flac": Encoding("matroska", "flac"),
    "avi-pcm": Encoding("avi", "pcm_s16le", video=True),
    "avi-mp3": _mp3("avi", video=True),
    "mpeg": Encoding("mpeg", "mp2", rate_hz=48_000, bit_rate=64_000, video=True),
    "mpegts-aac": _aac("mpegts", video=True),
    "mxf": Encoding("mxf", "pcm_s16le", rate_hz=48_000, video=True),
    "flv-aac": _aac("flv", video=True),
    "flv-mp3": _mp3("flv"),
    "wma": Encoding("asf", "wmav2", "fltp", 44_100, 64_000),
}
"""Every kind the worker promises to read, by name."""


def write_recording(
    path: Path, waveform: Waveform, rate_hz: int = SAMPLE_RATE_HZ, encoding: str = "wav"
) -> None:
    """Write a waveform as one audio file.

    Args:
        path: The file to write; its name decides nothing.
        waveform: int16, shape (n_samples,) or (n_channels, n_samples).
        rate_hz: Samples per second in `waveform`; in the file, where the encoding has no own.
        encoding: A key of `ENCODINGS`.
    """
    spec = ENCODINGS[encoding]
    channels = np.atleast_2d(waveform)
    if spec.stereo_only and len(channels) == 1:
        channels = np.repeat(channels, 2, axis=0)
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    file_hz = spec.rate_hz or rate_hz
    # bitexact: no encoder version and no random Ogg serial, so the same speech is the same file;
    # the video comes first, and is kept until its sound is there
    options = {"fflags": "+bitexact", "max_interleave_delta": "0"} | spec.options
    with av.open(path, "w", format=spec.container, options=options) as container:
        video = add_video(container) if spec.video else None
        stream = cast(AudioStream, container.add_stream(spec.codec, rate=file_hz, layout=layout))
        stream.codec_context.format = AudioFormat(spec.sample_format)
        stream.codec_context.options = {"strict": "experimental", "flags": "+bitexact"}
        if spec.bit_rate:
            stream.codec_context.bit_rate = spec.bit_rate
        if video:
            write_video(container, video, channels.shape[1] / rate_hz)
        resampler = AudioResampler(format=spec.sample_format, layout=layout, rate=file_hz)
        for block in _blocks(channels, layout, rate_hz):
            for frame in resampler.resample(block):
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _blocks(channels: Waveform, layout: str, rate_hz: int) -> Iterator[AudioFrame | None]:
    """Give 20 ms a frame, as programs that record do; None is the end."""
    for start in range(0, channels.shape[1], rate_hz // 50):
        block = np.ascontiguousarray(channels[:, start : start + rate_hz // 50])
        frame = AudioFrame.from_ndarray(block, format="s16p", layout=layout)
        frame.sample_rate, frame.pts = rate_hz, start  # without times no muxer knows of priming
        yield frame
    yield None


def add_video(container: OutputContainer) -> VideoStream:
    """Add the smallest video that the container takes."""
    codec, rate_hz = _VIDEO.get(container.format.name, ("mpeg4", 5))
    video = cast(VideoStream, container.add_stream(codec, rate=rate_hz))
    video.width, video.height = 64, 64
    video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return video


def write_video(container: OutputContainer, video: VideoStream, seconds: float) -> None:
    """Write black pictures."""
    for number in range(round(seconds * float(video.codec_context.framerate))):
        picture = VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), "yuv420p")
        picture.pts = number
        container.mux(video.encode(picture))
    container.mux(video.encode(None))
