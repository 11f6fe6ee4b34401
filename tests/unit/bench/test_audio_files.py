"""Every encoding is what its name says and sounds like what was put in."""

from pathlib import Path

import av
import numpy as np
import pytest

from bench.corpus import (
    ENCODINGS,
    SAMPLE_RATE_HZ,
    Waveform,
    read_recording,
    to_float32,
    write_recording,
)
from tests.recordings import short_speech

CODECS = {
    "wav": ("wav", "pcm_s16le"),
    "wav-mulaw": ("wav", "pcm_mulaw"),
    "flac": ("flac", "flac"),
    "mp3": ("mp3", "mp3float"),
    "m4a": ("mov,mp4,m4a,3gp,3g2,mj2", "aac"),
    "ogg-vorbis": ("ogg", "vorbis"),
    "ogg-opus": ("ogg", "opus"),
    "webm-opus": ("matroska,webm", "opus"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_encoding_is_what_it_is_called(encoding: str, tmp_path: Path) -> None:
    """Container and codec as FFmpeg's demuxers see them."""
    file = tmp_path / "speech"
    write_recording(file, short_speech(), encoding=encoding)
    with av.open(file) as container:
        codec = container.streams.audio[0].codec_context.name
        assert (container.format.name, codec) == CODECS[encoding]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_encoding_sounds_like_the_speech(encoding: str, tmp_path: Path) -> None:
    """Within 150 ms of its length, and alike under the best shift of up to 150 ms."""
    file = tmp_path / "speech"
    write_recording(file, short_speech(), encoding=encoding)
    decoded = read_recording(file)
    assert abs(len(decoded) - len(short_speech())) < 0.15 * SAMPLE_RATE_HZ
    assert best_correlation(decoded, short_speech()) > 0.95


@pytest.mark.parametrize("encoding", ["wav", "wav-mulaw", "mp3", "ogg-opus"])
def test_telephone_rate_keeps_the_speed(encoding: str, tmp_path: Path) -> None:
    """8 kHz in, 16 kHz out, as long as before."""
    file = tmp_path / "speech"
    write_recording(file, short_speech()[::2], 8_000, encoding)
    with av.open(file) as container:
        assert container.streams.audio[0].rate == (48_000 if "opus" in encoding else 8_000)
    assert abs(len(read_recording(file)) - len(short_speech())) < 0.15 * SAMPLE_RATE_HZ


def test_stereo_keeps_its_channels_apart(tmp_path: Path) -> None:
    """Speech on the left, silence on the right."""
    file = tmp_path / "speech.wav"
    write_recording(file, np.stack([short_speech(), np.zeros_like(short_speech())]))
    with av.open(file) as container:
        samples = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert np.array_equal(samples[0::2], short_speech())
    assert not samples[1::2].any()


def test_lossless_formats_lose_nothing(tmp_path: Path) -> None:
    """Every sample of WAV and FLAC."""
    for encoding in ("wav", "flac"):
        write_recording(tmp_path / encoding, short_speech(), encoding=encoding)
        assert np.array_equal(read_recording(tmp_path / encoding), short_speech())


def test_the_same_speech_is_the_same_file(tmp_path: Path) -> None:
    """No random serial in Ogg: `test_input.json` changes only when its speech does."""
    for name in ("a", "b"):
        write_recording(tmp_path / name, short_speech(), encoding="ogg-opus")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_float_samples_are_what_whisperx_makes() -> None:
    """``whisperx.audio.load_audio`` divides int16 by 32768."""
    scaled = to_float32(np.array([-32768, 0, 16384], dtype=np.int16))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [-1.0, 0.0, 0.5]


def best_correlation(decoded: Waveform, original: Waveform) -> float:
    """The largest normalised correlation over shifts: encoders delay what they hear."""
    size = 1 << 18
    a, b = decoded.astype(float), original.astype(float)
    spectrum = np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size))
    shifts = np.fft.irfft(spectrum, size)[: int(0.15 * SAMPLE_RATE_HZ)]
    return float(shifts.max() / np.sqrt((a**2).sum() * (b**2).sum()))
