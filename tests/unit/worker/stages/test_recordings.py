"""What people's files really are: every sentence is heard, and stands where its clock says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate, find_peaks

from tests.odd_recordings import (
    FRAGMENTED,
    Sound,
    Track,
    damage,
    join,
    speech,
    write,
    write_live,
    write_plain_wav,
)
from worker.cancel import StageContext
from worker.stages.decode import DecodeLimits, decode
from worker.types import SAMPLE_RATE_HZ, Recording, Waveform

NORA_S, SAM_S = 0.5, 2.95
SPEECH = speech()
SECONDS = len(SPEECH) / SAMPLE_RATE_HZ
PEAK = float(np.abs(SPEECH).max())
NORA, SAM = SPEECH[8_000:40_800], SPEECH[47_200:77_680]
SILENCE = np.zeros_like(SPEECH)
PAUSE = 44_000
ONLY_NORA = np.where(np.arange(len(SPEECH)) < PAUSE, SPEECH, 0)
ONLY_SAM = SPEECH - ONLY_NORA
HISS = (np.random.default_rng(13).normal(size=len(SPEECH)) * 1e-4).astype(np.float32)
HUM = (0.02 * np.sin(np.arange(len(SPEECH)) * 2 * np.pi * 50 / SAMPLE_RATE_HZ)).astype(np.float32)
OPPOSITE = np.stack([SPEECH + HUM, HUM - SPEECH])
ONCE = np.pad(0.02 * SPEECH, (192_000, 48_000))
NEVER = np.zeros_like(ONCE)
REPEATED = np.concatenate([SPEECH[:PAUSE], SPEECH[PAUSE - SAMPLE_RATE_HZ :]])
"""The speech, of which the second before the pause comes twice."""
ONCE_MORE = (0.0, 0.0), (2.75, 1.75)
LATER = (0.0, 0.0), (2.75, 6.75)
LATE = ((0.0, 3.0),)
WRAPS = {"output_ts_offset": f"{2**33 / 90_000 - 1.5}"}
"""MPEG's clock has 33 bits: it starts anew 1.5 s after the start."""
EPERM = bytes.fromhex("a232e492") + bytes(16)
"""FFmpeg's AAC decoder answers EPERM to it, and "invalid data" to what follows."""

Write = Callable[[Path], None]


@dataclass(frozen=True)
class Right:
    """What is right: when each sentence starts, in seconds, and what is told.

    Attributes:
        damaged_s: Least and most seconds of AUDIO_DAMAGED.
        gain: Least level of a sentence; 1 is as it was recorded.
        likeness: Least correlation of a sentence with itself as it was recorded.
        tracks: Whether AUDIO_TRACKS names others.
        within_s: How far a sentence may be from where it is expected.
    """

    nora: tuple[float, ...] = (NORA_S,)
    sam: tuple[float, ...] = (SAM_S,)
    damaged_s: tuple[float, float] = (0.0, 0.0)
    gain: float = 0.85
    likeness: float = 0.8
    tracks: bool = False
    within_s: float = 0.05


def one(container: str, *tracks: Track, video_s: float = 0, **options: str) -> Write:
    """Make a writer of one file."""
    return lambda path: write(path, container, *tracks, video_s=video_s, **options)


def joined(container: str, codec: str, *rates_hz: int, skip_bytes: int = 0) -> Write:
    """Make a writer of two files in one: mono, then stereo of another rate."""
    sounds = SPEECH, np.stack([SPEECH, SPEECH])
    tracks = [Track(sound, codec, hz) for sound, hz in zip(sounds, rates_hz, strict=True)]
    return lambda path: join(path, container, *tracks, skip_bytes=skip_bytes)


def damaged(container: str, codec: str, **options: str) -> Write:
    """Make a writer of the speech, twice, with noise in the bytes of its third sentence."""

    def write_damaged(path: Path) -> None:
        write(path, container, Track(np.tile(SPEECH, 2), codec), **options)
        damage(path, 0.56, 0.68)

    return write_damaged


def plain_wav(*channels: Sound) -> Write:
    """Make a writer of a WAV file without a layout."""
    return lambda path: write_plain_wav(path, np.stack(channels))


def the_last_of(channels: int, container: str) -> Write:
    """Make a writer of a file of which one channel speaks."""
    sound = np.stack([SILENCE] * (channels - 1) + [SPEECH])
    return one(container, Track(sound, "pcm_s16le"))


def track(codec: str, clock: tuple[tuple[float, float], ...] = ((0.0, 0.0),)) -> Track:
    """Return the speech as a track."""
    return Track(SPEECH, codec, clock=clock)


def spoiled(codec: str, by: bytes) -> Track:
    """Return the speech with a second of packets, in its first sentence, that start with this."""
    return Track(SPEECH, codec, spoiled=(1.0, 2.0, by))


def loud(codec: str, rate_hz: int | None = None) -> Track:
    """Return the speech 17 dB over full scale."""
    return Track(7 / PEAK * SPEECH, codec, rate_hz)


A_LONGER_VIDEO = {
    "mp4": one("mp4", track("aac"), video_s=8),
    "webm": one("webm", track("libopus"), video_s=8),
    "mov": one("mov", track("pcm_s16le"), video_s=8),
    "matroska": one("matroska", track("flac"), video_s=8),
    "fragmented mp4": one("mp4", track("aac"), video_s=8, **FRAGMENTED),
}
A_LATE_START = {
    "mp4": one("mp4", track("aac", LATE), video_s=8.5),
    "mov": one("mov", track("pcm_s16le", LATE), video_s=8.5),
    "mpegts": one("mpegts", track("aac", LATE), video_s=8.5),
    "mpegts whose clock wraps": one("mpegts", track("aac", LATE), video_s=8.5, **WRAPS),
    "flv": one("flv", track("libmp3lame", LATE), video_s=8.5),
    "webm": one("webm", track("libopus", LATE), video_s=8.5),
    "mpeg": one("mpeg", track("mp2", LATE), video_s=8.5),
}
A_PAUSE_OF_THE_CLOCK = {
    "live webm": lambda path: write_live(path, "webm", track("libopus", LATER), live="1"),
    "flv": one("flv", track("aac", LATER)),
    "matroska": one("matroska", track("pcm_s16le", LATER)),
    "mp4": one("mp4", track("aac", LATER)),
    "fragmented mp4": one("mp4", track("aac", LATER), **FRAGMENTED),
    "mpegts": one("mpegts", track("mp2", LATER)),
    "mpegts whose clock wraps": one("mpegts", track("aac", LATER), **WRAPS),
    "asf": one("asf", track("wmav2", LATER)),
}
AN_OVERLAP = {
    f"{container} of {codec}": one(container, Track(REPEATED, codec, clock=ONCE_MORE))
    for container, codec in (
        ("matroska", "flac"),
        ("matroska", "pcm_s16le"),
        ("matroska", "aac"),
        ("webm", "libopus"),
    )
}
DAMAGE = {
    "ogg opus": damaged("ogg", "libopus", page_duration="500000"),
    "ogg vorbis": damaged("ogg", "vorbis", page_duration="500000"),
    "ogg flac": damaged("ogg", "flac", page_duration="500000"),
    "flac": damaged("flac", "flac"),
    "webm": damaged("webm", "libopus", cluster_time_limit="500"),
    "mpegts": damaged("mpegts", "aac"),
    "flv": damaged("flv", "libmp3lame"),
}
PACKETS_THAT_NO_DECODER_TAKES = {
    "aac in fragmented mp4": one("mp4", spoiled("aac", EPERM), **FRAGMENTED),
    "aac in flv": one("flv", spoiled("aac", EPERM)),
    "aac in matroska": one("matroska", spoiled("aac", EPERM)),
    "aac of ones": one("ipod", spoiled("aac", b"\xff" * 40)),
    "alac": one("ipod", spoiled("alac", b"\x93")),  # "patches welcome"
    "flac": one("matroska", spoiled("flac", b"\xff" * 40)),
}
CHANNELS = {
    "the third of three": (plain_wav(SILENCE, SILENCE, SPEECH), 3),
    "three lapel microphones": (plain_wav(ONLY_NORA, SILENCE, ONLY_SAM), 3),
    "the fourth of six": (plain_wav(*[SILENCE] * 3, SPEECH, *[SILENCE] * 2), 6),
    "the fourth of eight": (plain_wav(*[SILENCE] * 3, SPEECH, *[SILENCE] * 4), 8),
    "the ninth of nine": (plain_wav(*[SILENCE] * 8, SPEECH), 9),
    "the last of twelve in caf": (the_last_of(12, "caf"), 12),
    "the last of sixteen in matroska": (the_last_of(16, "matroska"), 16),
    "the third of three in matroska": (the_last_of(3, "matroska"), 3),
}
MIXES_THAT_CANCEL = {
    "hum in phase": one("flac", Track(OPPOSITE, "flac")),
    "hum in phase in mp3": one("mp3", Track(OPPOSITE, "libmp3lame")),
    "the second half alone": one("flac", Track(np.stack([SPEECH, ONLY_NORA - ONLY_SAM]), "flac")),
    "unequal levels": one("ipod", Track(np.stack([SPEECH, -0.97 * SPEECH]), "alac")),
    "two of four": plain_wav(SPEECH, -SPEECH, SILENCE, HUM),
}
ONE_CHANNEL_SPEAKS_ONCE = {
    "the right one in flac": one("flac", Track(np.stack([NEVER, ONCE]), "flac")),
    "the right one in alac": one("ipod", Track(np.stack([NEVER, ONCE]), "alac")),
    "the second of three": plain_wav(NEVER, ONCE, NEVER),
    "the last of six": plain_wav(*[NEVER] * 5, ONCE),
}
TRACKS = {
    "mp4": one("mp4", Track(SILENCE), Track(SPEECH)),
    "mov": one("mov", Track(SILENCE, "alac"), Track(np.stack([SPEECH, SPEECH]))),
    "matroska": one("matroska", Track(HISS, "flac"), Track(SPEECH, "flac"), Track(ONLY_SAM)),
    "webm": one("webm", Track(SILENCE, "libopus"), Track(SPEECH, "libopus")),
    "mpegts": one("mpegts", Track(SILENCE, "mp2"), Track(SPEECH)),
    "the third of three": one("mp4", Track(SILENCE), Track(HISS), Track(SPEECH)),
}
OVER_FULL_SCALE = {
    "wav": one("wav", loud("pcm_f32le")),
    "wav of 64 bits": one("wav", loud("pcm_f64le")),
    "matroska": one("matroska", loud("pcm_f32le")),
    "au": one("au", loud("pcm_f32be")),
    "wav of 48 kHz": one("wav", loud("pcm_f32le", 48_000)),
}
OVER_FULL_SCALE_IN_ONE_CHANNEL = {
    "caf": one("caf", Track(np.stack([SPEECH, 7 / PEAK * SPEECH]), "pcm_f32be")),
}
A_CHANGE_OF_FORMAT = {
    "chained ogg vorbis": joined("ogg", "vorbis", 16_000, 44_100),
    "chained ogg opus": joined("ogg", "libopus", 48_000, 48_000),
    "chained ogg flac": joined("ogg", "flac", 16_000, 8_000),
    "adts": joined("adts", "aac", 16_000, 44_100),
    "mp3": joined("mp3", "libmp3lame", 16_000, 44_100),
    "mpegts": joined("mpegts", "aac", 16_000, 44_100),
    "mpeg": joined("mpeg", "mp2", 48_000, 44_100),
    "flv": joined("flv", "aac", 44_100, 22_050, skip_bytes=13),
}
CONTAINERS = {
    "avi of pcm": one("avi", track("pcm_s16le")),
    "avi of mp3 and a longer video": one("avi", track("libmp3lame"), video_s=8),
    "voc": one("voc", track("pcm_s16le")),
    "tta": one("tta", track("tta")),
    "eac3": one("eac3", track("eac3")),
    "mpeg": one("mpeg", track("mp2"), video_s=8),
    "mxf": one("mxf", Track(SPEECH, "pcm_s16le", 48_000), video_s=8),
}
STANDS = Right()
BEFORE_AND_AFTER = Right(sam=(SAM_S, SAM_S + SECONDS), damaged_s=(1, 4))
TWICE = Right((NORA_S, NORA_S + SECONDS), (SAM_S, SAM_S + SECONDS), within_s=0.15)
TABLE = {
    "a longer video": (A_LONGER_VIDEO, STANDS),
    "a late start": (A_LATE_START, Right((NORA_S + 3,), (SAM_S + 3,))),
    "a pause of the clock": (A_PAUSE_OF_THE_CLOCK, Right(sam=(SAM_S + 4,), damaged_s=(3.9, 4.1))),
    "an overlap": (AN_OVERLAP, Right(damaged_s=(0.8, 1.2))),
    "damage": (DAMAGE, BEFORE_AND_AFTER),
    "packets that no decoder takes": (
        PACKETS_THAT_NO_DECODER_TAKES,
        Right(nora=(), damaged_s=(0.8, 1.3)),
    ),
    "mixes that cancel": (MIXES_THAT_CANCEL, Right(gain=0.2)),
    "one channel speaks once": (ONE_CHANNEL_SPEAKS_ONCE, Right((12.5,), (14.95,), gain=0.003)),
    "tracks": (TRACKS, Right(tracks=True)),
    "over full scale": (OVER_FULL_SCALE, Right(gain=1.5, likeness=0.99)),
    "over full scale in one channel": (
        OVER_FULL_SCALE_IN_ONE_CHANNEL,
        Right(gain=0.9, likeness=0.99),
    ),
    "a change of format": (A_CHANGE_OF_FORMAT, TWICE),
    "a container": (CONTAINERS, STANDS),
}
ROWS = [
    pytest.param(write_it, right, id=f"{kind}: {name}")
    for kind, (writers, right) in TABLE.items()
    for name, write_it in writers.items()
]
ROWS += [
    pytest.param(write_it, Right(gain=0.85 / n), id=f"channels: {name}")
    for name, (write_it, n) in CHANNELS.items()
]


def heard(waveform: Waveform, sentence: Sound, right: Right) -> list[float]:
    """Find where a sentence starts, in seconds, by its correlation with the waveform."""
    samples = waveform.samples[:].astype(np.float64) / 32768
    shared = correlate(samples, sentence, "valid")
    energy = np.maximum(correlate(samples**2, np.ones(len(sentence)), "valid"), 1e-9)
    likeness = np.abs(shared) / np.sqrt(energy * (sentence @ sentence))
    peaks, _ = find_peaks(np.pad(likeness, 1), height=right.likeness, distance=SAMPLE_RATE_HZ)
    gains = np.abs(shared[peaks - 1]) / (sentence @ sentence)
    assert np.all(gains >= right.gain)
    assert np.all(gains <= 1.8)
    return [float(peak - 1) / SAMPLE_RATE_HZ for peak in peaks]


def damaged_s(waveform: Waveform) -> float:
    """Read how many seconds the warnings call damaged."""
    found = [re.fullmatch(r"AUDIO_DAMAGED: ([\d.]+) s\b.*", text) for text in waveform.warnings]
    return sum(float(match[1]) for match in found if match)


@pytest.mark.usefixtures("decoder_in_this_process")
@pytest.mark.parametrize(("write_it", "right"), ROWS)
def test_every_sentence_is_heard_where_its_clock_says(
    tmp_path: Path, write_it: Write, right: Right
) -> None:
    path = tmp_path / "recording"  # a name without an ending, as the worker stores it
    write_it(path)
    waveform = decode(Recording(path, path.stat().st_size), DecodeLimits(3600.0), StageContext())
    for sentence, expected_s in ((NORA, right.nora), (SAM, right.sam)):
        assert heard(waveform, sentence, right) == pytest.approx(expected_s, abs=right.within_s)
    least_s, most_s = right.damaged_s
    assert least_s <= damaged_s(waveform) <= most_s
    named = [warning for warning in waveform.warnings if warning.startswith("OTHER_TRACKS: ")]
    assert bool(named) == right.tracks
