"""Recordings as programs really write them: clocks that jump, damage, odd channels, many tracks.

Made by PyAV. A `Track` is one stream: what sounds in it, and where its container says that each
piece of it stands; `write` puts tracks, and a video beside them, into one file. What no muxer
writes is made from the bytes of such files.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

import av
import numpy as np
import numpy.typing as npt
from av import AudioFormat, AudioFrame, Packet
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition
from scipy.signal import resample_poly

from tests.encodings import add_video, write_video
from tests.recordings import SAMPLE_RATE_HZ, short_speech

Sound = npt.NDArray[np.float32]
"""16 kHz, full scale is 1; shape (n_samples,) for mono, (n_channels, n_samples) for more."""

_DTYPES = {"flt": "f4", "dbl": "f8", "s16": "i2", "s32": "i4"}
_SAMPLE_FORMATS = {
    **dict.fromkeys(("aac", "ac3", "eac3", "vorbis", "wavpack", "wmav2"), "fltp"),
    **dict.fromkeys(("alac", "libmp3lame"), "s16p"),
    **{"pcm_f32be": "flt", "pcm_f32le": "flt", "pcm_f64le": "dbl", "pcm_s24le": "s32"},
}
_RATES_HZ = {"libopus": 48_000, "ac3": 48_000, "eac3": 48_000, "mp2": 48_000}
_RATES_HZ |= {"aac": 44_100, "libmp3lame": 44_100, "vorbis": 44_100, "wmav2": 44_100}
_BLOCK_S = 0.02
FRAGMENTED = {"movflags": "empty_moov+default_base_moof", "frag_duration": "500000"}


@dataclass(frozen=True)
class Track:
    """One audio stream.

    Attributes:
        sound: What the encoder is given, once it has the track's rate.
        rate_hz: Of the track; None: one that is usual for the codec.
        clock: Pairs (time in the sound, time that its packets say from there on), in order.
        layout: FFmpeg's name of the channels; None for channels in no layout, or mono or stereo.
        default: Whether the container calls it so; None: as its muxer does.
        spoiled: From, to (seconds of the sound) and what the packets in between begin with.
    """

    sound: Sound
    codec: str = "aac"
    rate_hz: int | None = None
    clock: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    layout: str | None = None
    default: bool | None = None
    spoiled: tuple[float, float, bytes] = (0.0, 0.0, b"")

    @property
    def channels(self) -> Sound:
        """The sound, shape (n_channels, n_samples); FFmpeg's Vorbis encoder refuses mono."""
        channels = np.atleast_2d(self.sound)
        return np.repeat(channels, 2, axis=0)[:2] if self.codec == "vorbis" else channels

    @property
    def hz(self) -> int:
        """Samples per second of the track."""
        return self.rate_hz or _RATES_HZ.get(self.codec, SAMPLE_RATE_HZ)

    def says(self, time_s: float) -> float:
        """Tell what timestamp, in seconds, the sound of this time has."""
        begins_s, says_s = [c for c in self.clock if c[0] <= max(time_s, self.clock[0][0])][-1]
        return says_s + time_s - begins_s

    @property
    def goes_back(self) -> bool:
        """Whether a packet says an earlier time than the one before it."""
        return any(self.says(begins_s - 0.001) > says_s for begins_s, says_s in self.clock[1:])


def write(
    file: Path | IO[bytes],
    container: str,
    *tracks: Track,
    video_s: float = 0.0,
    **options: str,
) -> None:
    """Write tracks, and a video of so many seconds before them, into one file.

    Timestamps that go back need a container whose timestamps are free: Matroska.
    """
    options = {"fflags": "+bitexact"} | options
    if any(track.goes_back for track in tracks):
        options["avoid_negative_ts"] = "disabled"
    with av.open(file, "w", format=container, options=options) as output:
        video = add_video(output) if video_s else None
        streams = [_add_audio(output, track) for track in tracks]
        if video:
            write_video(output, video, video_s)
        for stream, track in zip(streams, tracks, strict=True):
            output.mux(list(_packets(stream, track)))


def write_live(path: Path, container: str, track: Track, **options: str) -> None:
    """Write a file that cannot be sought in: its header knows no length."""
    with path.open("wb") as file:
        write(cast(IO[bytes], SimpleNamespace(write=file.write)), container, track, **options)


def join(path: Path, container: str, *tracks: Track, skip_bytes: int = 0) -> None:
    """Write one file after the other into one, as whoever joins recordings does.

    Args:
        path: The file to write.
        container: Of all of them.
        tracks: One of each.
        skip_bytes: How long the header is that the later ones do without.
    """
    for number, track in enumerate(tracks):
        part = BytesIO()
        write(part, container, track, **({"serial_offset": f"{number}"} if number else {}))
        with path.open("ab") as file:
            file.write(part.getvalue()[skip_bytes if number else 0 :])


def damage(path: Path, start: float, stop: float) -> None:
    """Overwrite from one to another share of a file's bytes with noise."""
    content = path.read_bytes()
    first, end = round(start * len(content)), round(stop * len(content))
    noise = np.random.default_rng(13).bytes(end - first)
    path.write_bytes(content[:first] + noise + content[end:])


def speech() -> Sound:
    """Return the short speech: Nora speaks from 0.5 to 2.55 s, Sam from 2.95 to 4.855 s."""
    return (short_speech() / 32768).astype(np.float32)


def write_plain_wav(path: Path, sound: Sound) -> None:
    """Write 16-bit PCM under a header that knows no layout, as recorders of many channels do."""
    channels = np.atleast_2d(sound)
    with wave.open(str(path), "wb") as file:
        file.setparams((len(channels), 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes(_values(channels, "s16").T.tobytes())


def _add_audio(output: OutputContainer, track: Track) -> AudioStream:
    layout = _layout(track)
    added = output.add_stream(track.codec, rate=track.hz, layout=layout)
    stream = cast(AudioStream, added)
    stream.codec_context.format = AudioFormat(_SAMPLE_FORMATS.get(track.codec, "s16"))
    stream.codec_context.bit_rate = 64_000
    stream.codec_context.options = {"strict": "experimental", "flags": "+bitexact"}
    if track.default is not None:
        stream.disposition = Disposition.default if track.default else Disposition(0)
    return stream


def _packets(stream: AudioStream, track: Track) -> Iterator[Packet]:
    """Encode a track, and let its packets say the times of its clock."""
    packets = [p for frame in (*_frames(stream, track), None) for p in stream.encode(frame)]
    packets = [packet for packet in packets if packet.size]  # FLAC's last one is its MD5
    for number, encoded in enumerate(packets):
        tick, pts = cast(Fraction, encoded.time_base), cast(int, encoded.pts)
        time_s = float(pts * tick)
        packet = encoded
        if track.spoiled[0] <= time_s < track.spoiled[1]:
            packet = Packet(track.spoiled[2] + bytes(encoded)[len(track.spoiled[2]) :])
            packet.stream, packet.time_base, packet.duration = stream, tick, encoded.duration
        packet.pts = packet.dts = round(track.says(time_s) / tick)
        if track.goes_back:  # no muxer lets dts go back, but one writes pts alone
            packet.dts = round((number - len(packets)) / 1000 / tick)
        yield packet


def _frames(stream: AudioStream, track: Track) -> Iterator[AudioFrame]:
    format_name, layout = stream.codec_context.format.name, _layout(track)
    sound = resample_poly(track.channels, track.hz, SAMPLE_RATE_HZ, axis=1)
    values, block = _values(sound, format_name), round(track.hz * _BLOCK_S)
    for start in range(0, values.shape[1], block):
        part = values[:, start : start + block]
        part = part if format_name.endswith("p") else part.T.reshape(1, -1)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(part), format_name, layout)
        frame.sample_rate, frame.time_base = track.hz, Fraction(1, track.hz)
        frame.pts = start
        yield frame


def _layout(track: Track) -> str:
    n = len(track.channels)
    return track.layout or {1: "mono", 2: "stereo"}.get(n, f"{n} channels")


def _values(channels: Sound, format_name: str) -> npt.NDArray[Any]:
    dtype = np.dtype(_DTYPES[format_name.removesuffix("p")])
    if dtype.kind == "f":
        return channels.astype(dtype)
    full_scale = 2.0 ** (8 * dtype.itemsize - 1)
    return np.clip(np.round(channels * full_scale), -full_scale, full_scale - 1).astype(dtype)
