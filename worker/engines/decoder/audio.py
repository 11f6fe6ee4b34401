"""Read a recording's sound with FFmpeg, on the clock of its own timestamps.

Takes an open file; writes the waveform into another. FFmpeg opens nothing but the given file: it
has no protocol, and formats that name other files are not probed. Raises `Unreadable`, `TooLong`
and FFmpeg's errors while the file is opened.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

import av
from av.container import InputContainer

from worker.engines.decoder import Wanted
from worker.engines.decoder.waveform import RATE_HZ, Samples, Stretch, TooLong, WaveformFile

FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,ogg,qcp,rm,tak,tta,voc,w64,wav,wv"
)
JITTER_S = 0.05  # of timestamps: less changes nothing
OVERLAP_S = 10.0  # timestamps that go back further, or to the start, are a clock that starts anew
_CLOCKLESS = frozenset({"aac", "ac3", "amr", "dts", "eac3", "mp3"})  # FFmpeg counts packets there
_DECLARING = frozenset({"aiff", "caf", "flac", "mov", "tta", "w64"})  # the sound's own length
_SILENT = 33.0  # RMS of int16 samples: -60 dBFS
_OVER_FULL_SCALE = 1.25  # lossy codecs overshoot by less than 2 dB
_MAX_ERRORS = 100  # of the demuxer, one after another
_BUFFER_BYTES = 1 << 18
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_EBML_BYTES = 4096


class Unreadable(Exception):
    """The file holds no sound that FFmpeg can decode; says why."""


@dataclass
class Decoded:
    """What is known of a recording that was decoded.

    Attributes:
        samples: In the file.
        end_s: Where the sound ends, which is beyond the samples of a clip.
        missing_s: What the container declares of the sound, and its packets do not have.
        missing_bytes: How much of the file is missing, where the container tells its size.
        damaged_s: Silence inserted, sound skipped or cut.
        is_clock_broken: Whether more was cut than kept, for its timestamps overlap.
        track: The audio track, from 1.
        others: The other audio tracks.
        peak: Highest sample, 1.0 is full scale; 0 where no samples are floating point.
        loudest: RMS of the loudest second, of int16 samples.
    """

    samples: int = 0
    end_s: float = 0.0
    missing_s: float = 0.0
    missing_bytes: int = 0
    damaged_s: float = 0.0
    is_clock_broken: bool = False
    track: int = 1
    others: tuple[int, ...] = ()
    peak: float = 0.0
    loudest: float = 0.0


Source = io.RawIOBase | io.BufferedIOBase
Progress = Callable[[float, float], None]


def decode_audio(source: Source, target: BinaryIO, wanted: Wanted, progress: Progress) -> Decoded:
    """Decode the default audio track; where it is silent, the first that is not.

    Args:
        source: The recording, seekable.
        target: Takes the waveform.
        wanted: Which part.
        progress: Told the seconds decoded, and about how many there are (0: unknown).

    Raises:
        Unreadable: No audio track, or none of its packets could be decoded.
        TooLong: As `WaveformFile.write`; or the container declares more than the limit.
        av.error.FFmpegError: The file cannot be opened.
    """
    tracks = _tracks(source, wanted)
    for track in [*tracks, tracks[0]]:  # the default one again if all are silent
        decoded = _Pass(source, target, wanted, progress, track).run()
        if decoded.loudest >= _SILENT or len(tracks) == 1:
            break
    gain = 1.0 if decoded.damaged_s or decoded.peak < _OVER_FULL_SCALE else 1 / decoded.peak
    if gain != 1.0 or decoded.is_clock_broken:
        wanted = replace(wanted, ignore_clock=decoded.is_clock_broken)
        decoded = _Pass(source, target, wanted, progress, decoded.track, gain).run()
    decoded.others = tuple(sorted(set(tracks) - {decoded.track}))
    return decoded


def _tracks(source: Source, wanted: Wanted) -> list[int]:
    """Return the numbers of the audio tracks, the default one first."""
    with _open(source, wanted) as container:
        tracks = list(enumerate(container.streams.audio, 1))
        if not tracks:
            raise Unreadable("the file has no audio stream")
        is_default = {
            number: bool(stream.disposition & av.stream.Disposition.default)
            for number, stream in tracks
            if stream.codec_context is not None
        }
    if not is_default:
        raise Unreadable("FFmpeg has no decoder for its sound")
    return sorted(is_default, key=lambda number: not is_default[number])


def _open(source: Source, wanted: Wanted) -> InputContainer:
    source.seek(0)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
    if wanted.ignore_length:
        options["ignore_length"] = "1"
    return av.open(
        source, "r", metadata_errors="ignore", buffer_size=_BUFFER_BYTES, options=options
    )


class Clock:
    """Turns a stream's timestamps into the waveform's time.

    Args:
        zero_s: The container's start, on the stream's clock.
        offset_s: What the container's start is in the waveform.
        limit_s: A longer gap is none.
        runs: Whether the timestamps tell anything; else a frame is due after the one before it.
    """

    def __init__(self, zero_s: float, offset_s: float, limit_s: float, runs: bool = True) -> None:
        self._zero_s, self._limit_s, self._runs = zero_s, limit_s, runs
        self._offset_s = offset_s - zero_s
        self._skipped_s = 0.0

    def read(self, time_s: float) -> float:
        """Return the waveform's time of a timestamp."""
        return time_s + self._offset_s

    def skip(self, seconds: float) -> None:
        """Take that a packet before the next frame was lost."""
        self._skipped_s += seconds

    def turn_back(self, seconds: float) -> None:
        """Take all later timestamps for so much less."""
        self._offset_s -= seconds

    def place(self, time_s: float | None, due_s: float) -> float:
        """Return where a frame belongs: where it is due, unless its timestamp tells otherwise."""
        skipped_s, self._skipped_s = self._skipped_s, 0.0
        if not self._runs or time_s is None:
            return due_s + skipped_s
        ahead_s = self.read(time_s) - due_s
        if abs(ahead_s) <= JITTER_S:
            return due_s
        is_back = -ahead_s > OVERLAP_S or (ahead_s < 0 and time_s <= self._zero_s + JITTER_S)
        if is_back or ahead_s > self._limit_s:
            self.turn_back(ahead_s)  # it started anew
            return due_s
        return due_s + ahead_s


class _Pass:
    """One reading of a recording from its start."""

    def __init__(
        self,
        source: Source,
        target: BinaryIO,
        wanted: Wanted,
        progress: Progress,
        track: int,
        gain: float = 1.0,
    ) -> None:
        self._source, self._wanted, self._progress, self._gain = source, wanted, progress, gain
        self._file = WaveformFile(target, wanted.start, wanted.stop, wanted.limit)
        self._stretch: Stretch | None = None
        self._about_s = 0.0
        self._seen_s = self._skipped_s = self._inserted_s = 0.0
        self._declared_s = 0.0
        self._decoded = Decoded(track=track)

    def run(self) -> Decoded:
        """Decode the whole recording, or as much of it as is wanted."""
        link = self._read(self._source)
        with suppress(av.error.FFmpegError):  # what was read before a broken link is kept
            while link is not None:
                link = self._read(link)
        if not self._file.end:
            raise Unreadable("the recording holds no audio samples")
        decoded = self._decoded
        decoded.samples, decoded.end_s = self._file.close(), self._file.end / RATE_HZ
        decoded.loudest = self._file.loudest
        decoded.damaged_s = max(self._skipped_s, self._inserted_s) + self._file.cut / RATE_HZ
        decoded.is_clock_broken = self._file.cut > self._file.written
        if not self._file.is_full:
            decoded.missing_s = max(self._declared_s - max(self._seen_s, decoded.end_s), 0.0)
            decoded.missing_bytes = _missing_of_segment(self._source)
        return decoded

    def _read(self, source: Source) -> Source | None:
        """Read one container; return the link of an Ogg chain that follows it, if one does."""
        with _open(source, self._wanted) as container:
            if len(container.streams.audio) < self._decoded.track:
                return None
            stream = container.streams.audio[self._decoded.track - 1]
            if stream.codec_context is None:
                return None
            stream.codec_context.thread_count = 1
            zero_s = (container.start_time or 0) / av.time_base
            if source is self._source:
                self._read_lengths(container, stream, zero_s)
            runs = not self._wanted.ignore_clock and container.format.name not in _CLOCKLESS
            clock = Clock(zero_s, self._file.end / RATE_HZ, self._wanted.limit / RATE_HZ, runs)
            packets = _Packets(container, stream)
            is_primed = stream.codec_context.name != "vorbis"
            for packet in packets:
                frames = self._frames(packet, clock, packets.tick_s)
                if not is_primed and not frames:  # FFmpeg gives the first one a length all the same
                    clock.turn_back((packet.duration or 0) * packets.tick_s)
                is_primed = True
                packets.is_chained = packets.is_ogg and self._has_other_rate(frames)
                if packets.is_chained:  # whose timestamps FFmpeg would read at the old rate
                    break
                for frame in frames:
                    self._add(frame, clock)
                if self._file.is_full:
                    break
            self._end_stretch()
        is_over = self._file.is_full or not packets.is_chained
        return None if is_over else _next_link(source, packets.position)

    def _read_lengths(
        self, container: InputContainer, stream: av.AudioStream, zero_s: float
    ) -> None:
        self._about_s = (container.duration or 0) / av.time_base
        declares = _DECLARING & set(container.format.name.split(","))
        if not (declares and stream.duration and stream.time_base):
            return
        end_s = float(((stream.start_time or 0) + stream.duration) * stream.time_base) - zero_s
        self._declared_s = min(end_s, self._about_s or end_s)
        if self._wanted.stop is None and self._declared_s * RATE_HZ > self._wanted.limit:
            raise TooLong

    def _frames(
        self, packet: av.Packet[av.AudioStream], clock: Clock, tick_s: float
    ) -> list[av.AudioFrame]:
        """Decode a packet; one that FFmpeg refuses is skipped."""
        length_s = (packet.duration or 0) * tick_s
        if packet.pts is not None:
            self._seen_s = max(self._seen_s, clock.read(packet.pts * tick_s) + length_s)
        try:
            return packet.decode()
        except (av.error.FFmpegError, ValueError):
            self._skipped_s += length_s
            clock.skip(length_s)
            return []

    def _add(self, frame: av.AudioFrame, clock: Clock) -> None:
        """Put a frame where its timestamp says."""
        if not frame.samples or not frame.rate:
            return
        due_s = self._stretch.end_s if self._stretch else self._file.end / RATE_HZ
        at_s = clock.place(frame.time, due_s)
        if self._stretch is None or at_s != due_s or not self._stretch.is_like(frame):
            if self._stretch is not None:
                self._inserted_s += max(at_s - due_s, 0.0)
            self._end_stretch()
            self._stretch = Stretch(at_s, frame, self._gain)
        try:
            self._write(self._stretch.add(frame))
        except (av.error.FFmpegError, ValueError):  # a format that FFmpeg does not resample
            self._stretch = None
            self._skipped_s += frame.samples / frame.rate

    def _has_other_rate(self, frames: Sequence[av.AudioFrame]) -> bool:
        rate_hz = self._stretch.rate_hz if self._stretch is not None else None
        return any(frame.rate != rate_hz for frame in frames) and rate_hz is not None

    def _end_stretch(self) -> None:
        if self._stretch is not None:
            self._write(self._stretch.end())
            self._decoded.peak = max(self._decoded.peak, self._stretch.peak)
            self._stretch = None

    def _write(self, blocks: Iterator[tuple[int, Samples]]) -> None:
        for position, block in blocks:
            self._file.write(position, block)
            self._progress(self._file.end / RATE_HZ, self._about_s)


class _Packets:
    """The packets of a stream; iterating goes on after errors of the demuxer.

    Attributes:
        tick_s: Unit of the packets' timestamps.
        position: Where the packet before the last one stands in the file.
        is_chained: Whether another link of an Ogg chain follows, which FFmpeg does not read.
    """

    def __init__(self, container: InputContainer, stream: av.AudioStream) -> None:
        self._container, self._stream = container, stream
        self.tick_s = float(stream.time_base or 0)
        self.is_ogg = container.format.name == "ogg"
        self.position = 0
        self.is_chained = False

    def __iter__(self) -> Iterator[av.Packet[av.AudioStream]]:
        errors = 0
        while errors < _MAX_ERRORS:
            try:
                for packet in self._container.demux(self._stream):
                    errors = 0
                    yield packet
                    self.position = packet.pos or self.position
            except av.error.PatchWelcomeError:
                break
            except av.error.FFmpegError:
                errors += 1
            except IndexError:  # PyAV's at the end, where a stream has appeared after the start
                return
            else:
                return
        self.is_chained = self.is_ogg


class _Part(io.RawIOBase):
    """The rest of a file from an offset on."""

    def __init__(self, file: Source, offset: int) -> None:
        self._file: Source = file
        self._offset = offset
        if isinstance(file, _Part):
            self._file, self._offset = file._file, file._offset + offset

    def read(self, size: int = -1) -> bytes | None:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = self._offset if whence == io.SEEK_SET else 0
        return self._file.seek(offset + start, whence) - self._offset

    def tell(self) -> int:
        return self._file.tell() - self._offset

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _next_link(source: Source, position: int) -> Source | None:
    """Return the file from the next page on that begins an Ogg stream (RFC 3533, section 6)."""
    source.seek(position)
    at, left = position, b""
    while block := source.read(_BUFFER_BYTES):
        left += block
        found = left.find(b"OggS\0\x02")
        if found >= 0:
            return _Part(source, at + found)
        at, left = at + len(left) - 5, left[-5:]
    return None


def _missing_of_segment(source: Source) -> int:
    """Return how many bytes of a Matroska file's segment are missing (RFC 9559, section 5.1)."""
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    head = source.read(_EBML_BYTES) or b""
    at = head.find(_SEGMENT) + len(_SEGMENT)
    if not head.startswith(_EBML) or at < len(_SEGMENT) or at >= len(head) or not head[at]:
        return 0
    length = 9 - head[at].bit_length()
    mask = (1 << 7 * length) - 1
    declared = int.from_bytes(head[at : at + length], "big") & mask
    return 0 if declared == mask else max(at + length + declared - size, 0)
