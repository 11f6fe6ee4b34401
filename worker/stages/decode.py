"""Decode: any recording, to 16 kHz mono int16, mixed and resampled as whisperx's ffmpeg call does.

Takes a `Recording`; returns a `Waveform`. PyAV carries FFmpeg's libraries, so no ffmpeg binary is
needed; a WAV file of 16 kHz mono PCM16 is only read. Raises `WorkerError`: ``AUDIO_UNREADABLE``,
``AUDIO_TRUNCATED``, ``AUDIO_TOO_LONG``, ``INVALID_INPUT`` (a clip that starts after the end).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np

from bucketscribe_contract import Clip, FailureCode, Stage
from bucketscribe_contract.wav import HEAD_BYTES, NotWav, WavHeader, parse_wav
from worker.cancel import StageContext
from worker.errors import WorkerError
from worker.types import SAMPLE_RATE_HZ, Recording, Samples, Waveform

# Playlist formats (hls, concat) would make FFmpeg open what the file names: only these are probed.
FORMATS = (
    "aac,ac3,aiff,amr,asf,au,caf,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpegts,"
    "ogg,rf64,w64,wav,wv"
)
# Containers whose header declares the length; for others FFmpeg guesses it from the bit rate.
_DECLARING = frozenset({"flac", "matroska", "mov", "w64", "wav"})
_SLACK_S = 1.0
_NEARLY_SILENT = 33.0  # RMS of int16 samples: -60 dBFS


@dataclass(frozen=True)
class DecodeLimits:
    """Limits of what is decoded.

    Attributes:
        max_duration_s: Longest waveform.
        clip: Only this part of the recording.
    """

    max_duration_s: float
    clip: Clip | None = None

    @property
    def start(self) -> int:
        """First sample wanted."""
        return round(self.clip.start_s * SAMPLE_RATE_HZ) if self.clip else 0

    @property
    def stop(self) -> int | None:
        """One past the last sample wanted; None: all there are."""
        return round(self.clip.end_s * SAMPLE_RATE_HZ) if self.clip else None

    def check(self, duration_s: float) -> None:
        """Raise ``AUDIO_TOO_LONG`` for a waveform over the limit."""
        if duration_s > self.max_duration_s:
            message = (
                f"more than {self.max_duration_s:.0f} s of audio; raise MAX_AUDIO_SECONDS, or "
                "send parts of it with clip"
            )
            raise WorkerError(FailureCode.AUDIO_TOO_LONG, message, Stage.DECODE)


def decode(
    recording: Recording,
    limits: DecodeLimits,
    ctx: StageContext,
) -> Waveform:
    """Decode the recording, or the clip of it that the limits name.

    Args:
        recording: Any container of `FORMATS`, any codec, rate and number of channels.
        limits: What may be decoded.
        ctx: Checked between frames; told the share decoded where the length is declared.
    """
    if recording.bytes == 0:
        raise _unreadable("the recording is empty (0 bytes)")
    header = _check_riff(recording)
    if header is not None and header.is_waveform(SAMPLE_RATE_HZ):
        return _read_plain(recording, header, limits, ctx)
    try:
        samples, channels = _read(recording, limits, ctx, "mono")
        if channels > 1 and _rms(samples) < _NEARLY_SILENT:
            # channels of opposite phase cancel out in a mono mix: one of them is the recording
            samples, _ = _read(recording, limits, ctx, "stereo")
    except av.error.FFmpegError as exc:
        raise _unreadable(f"no decodable audio ({exc.strerror})") from exc
    samples.setflags(write=False)
    return Waveform(samples, offset_s=limits.start / SAMPLE_RATE_HZ)


def _check_riff(recording: Recording) -> WavHeader | None:
    """Compare a WAV header with the file: FFmpeg takes a cut one for a short one."""
    with recording.path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    try:
        header = parse_wav(head)
    except NotWav:
        return None  # another container, or a header that FFmpeg will judge
    stored = recording.bytes - header.data_offset
    declared = stored if header.data_bytes is None else header.data_bytes
    missing_s = (declared - stored) / header.bytes_per_s
    if missing_s > _SLACK_S:
        raise _truncated(declared / header.bytes_per_s, missing_s)
    return header


def _read_plain(
    recording: Recording, header: WavHeader, limits: DecodeLimits, ctx: StageContext
) -> Waveform:
    """Read the samples that are wanted, and no others."""
    ctx.cancel.check(Stage.DECODE)
    stored = max(recording.bytes - header.data_offset, 0) // 2
    n_samples = min((header.data_bytes or 0) // 2, stored)
    stop = min(limits.stop if limits.stop is not None else n_samples, n_samples)
    limits.check(max(stop - limits.start, 0) / SAMPLE_RATE_HZ)
    _check_complete(n_samples / SAMPLE_RATE_HZ, None, limits)
    samples = np.fromfile(
        recording.path,
        np.dtype("<i2"),
        count=max(stop - limits.start, 0),
        offset=header.data_offset + limits.start * 2,
    )
    samples.setflags(write=False)
    return Waveform(samples, offset_s=limits.start / SAMPLE_RATE_HZ)


def _read(
    recording: Recording,
    limits: DecodeLimits,
    ctx: StageContext,
    layout: str,
) -> tuple[Samples, int]:
    """Return the samples and how many channels they were mixed from."""
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    with av.open(str(recording.path), metadata_errors="ignore", options=options) as container:
        if not container.streams.audio:
            raise _unreadable("the file has no audio stream")
        declared_s = _declared_s(container)
        if limits.clip is None:
            limits.check(declared_s or 0.0)
        buffer, position = bytearray(), 0
        for block in _mono_blocks(container, layout):
            ctx.cancel.check(Stage.DECODE)
            buffer += _wanted(block, position, limits).tobytes()
            position += len(block)
            limits.check(len(buffer) / 2 / SAMPLE_RATE_HZ)
            if declared_s:
                ctx.progress(min(position / SAMPLE_RATE_HZ / declared_s, 1.0))
            if limits.stop is not None and position >= limits.stop:
                break
        else:
            _check_complete(position / SAMPLE_RATE_HZ, declared_s, limits)
        return np.frombuffer(buffer, np.int16), container.streams.audio[0].channels


def _declared_s(container: av.container.InputContainer) -> float | None:
    declares = _DECLARING & set(container.format.name.split(","))
    return container.duration / 1e6 if declares and container.duration else None


def _mono_blocks(container: av.container.InputContainer, layout: str) -> Iterator[Samples]:
    """Yield the first audio stream as mono int16 at 16 kHz; skips packets that are damaged."""
    resampler = av.AudioResampler("s16", layout, SAMPLE_RATE_HZ)
    for packet in container.demux(container.streams.audio[0]):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue  # as ffmpeg does; too many of them show as AUDIO_TRUNCATED
        for frame in frames:
            yield from map(_first_channel, resampler.resample(frame))
    yield from map(_first_channel, resampler.resample(None))


def _first_channel(frame: av.AudioFrame) -> Samples:
    packed: Samples = np.frombuffer(frame.to_ndarray(), np.int16)  # channels interleaved
    return packed[:: frame.layout.nb_channels]


def _wanted(block: Samples, position: int, limits: DecodeLimits) -> Samples:
    stop = limits.stop if limits.stop is not None else position + len(block)
    return block[max(limits.start - position, 0) : max(stop - position, 0)]


def _check_complete(decoded_s: float, declared_s: float | None, limits: DecodeLimits) -> None:
    """Judge a recording that was read to its end."""
    if decoded_s == 0:
        raise _unreadable("the recording holds no audio samples")
    if declared_s and decoded_s < declared_s - _SLACK_S:
        raise _truncated(declared_s, declared_s - decoded_s)
    if limits.clip and limits.clip.start_s >= decoded_s:
        message = (
            f"clip.start_s ({limits.clip.start_s:g}) lies after the recording's end at "
            f"{decoded_s:.3f} s"
        )
        raise WorkerError(FailureCode.INVALID_INPUT, message, Stage.DECODE)


def _rms(samples: Samples) -> float:
    if not len(samples):
        return 0.0
    blocks = np.array_split(samples, max(1, len(samples) // 1_000_000))
    energy = sum(float(np.square(b, dtype=np.float64).sum()) for b in blocks)
    return float(np.sqrt(energy / len(samples)))


def _unreadable(why: str) -> WorkerError:
    message = f"{why}; expected one of wav, mp3, m4a, flac, ogg, opus, webm"
    return WorkerError(FailureCode.AUDIO_UNREADABLE, message, Stage.DECODE)


def _truncated(declared_s: float, missing_s: float) -> WorkerError:
    message = (
        f"the header declares {declared_s:.1f} s, {missing_s:.1f} s of it are missing; "
        "upload the recording again"
    )
    return WorkerError(FailureCode.AUDIO_TRUNCATED, message, Stage.DECODE)
