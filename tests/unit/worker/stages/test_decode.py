"""Decode: every promised format, and everything that is no recording."""

from pathlib import Path

import numpy as np
import pytest

from bench.corpus import Waveform as Samples
from bucketscribe_contract import Clip, FailureCode
from tests.recordings import ENCODINGS, short_speech, write_recording
from worker.cancel import CancelToken, StageContext
from worker.errors import JobCancelled, WorkerError
from worker.stages.decode import DecodeLimits, decode
from worker.types import SAMPLE_RATE_HZ, Recording, Waveform

SECONDS = len(short_speech()) / SAMPLE_RATE_HZ


def run(path: Path, max_duration_s: float = 3600.0, clip: Clip | None = None) -> Waveform:
    """Decode a file."""
    recording = Recording(path, path.stat().st_size)
    return decode(recording, DecodeLimits(max_duration_s, clip), StageContext())


def failure(path: Path, max_duration_s: float = 3600.0, clip: Clip | None = None) -> WorkerError:
    """Decode what must fail."""
    with pytest.raises(WorkerError) as caught:
        run(path, max_duration_s, clip)
    return caught.value


def likeness(one: Samples, other: Samples) -> float:
    """Highest correlation of two waveforms over all shifts (codecs delay sound)."""
    n = 1 << (len(one) + len(other) - 1).bit_length()
    x, y = one.astype(np.float64), other.astype(np.float64)
    shared = np.fft.irfft(np.fft.rfft(x, n) * np.conj(np.fft.rfft(y, n)), n)
    return float(shared.max() / np.sqrt((x @ x) * (y @ y) + 1e-9))


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_promised_format_is_read(tmp_path: Path, encoding: str) -> None:
    rate_hz = 8000 if encoding == "wav-mulaw" else SAMPLE_RATE_HZ
    speech = short_speech()[:: SAMPLE_RATE_HZ // rate_hz]
    path = tmp_path / "recording"  # a name without an ending, as the worker stores it
    write_recording(path, speech, rate_hz, encoding)
    waveform = run(path)
    assert waveform.samples.dtype == np.int16
    assert waveform.duration_s == pytest.approx(SECONDS, abs=0.15)  # AAC pads its frames
    assert likeness(short_speech(), waveform.samples) > 0.9


@pytest.mark.parametrize(
    ("clip", "odd_bytes", "part"),
    [
        (None, b"x", slice(None)),
        (Clip(start_s=1.0, end_s=2.5), b"", slice(16_000, 40_000)),
        (Clip(start_s=4, end_s=99), b"LIST\x04\0\0\0junk", slice(64_000, None)),
    ],
)
def test_a_plain_wav_and_its_clips_are_read_as_the_decoder_would(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clip: Clip | None,
    odd_bytes: bytes,
    part: slice,
) -> None:
    write_recording(tmp_path / "r", short_speech())
    (tmp_path / "r").write_bytes((tmp_path / "r").read_bytes() + odd_bytes)
    monkeypatch.setattr("av.open", None)
    read = run(tmp_path / "r", clip=clip)
    monkeypatch.undo()
    monkeypatch.setattr("bucketscribe_contract.wav.WavHeader.is_waveform", lambda *_: False)
    decoded = run(tmp_path / "r", clip=clip)
    assert np.array_equal(read.samples, decoded.samples)
    assert np.array_equal(read.samples, short_speech()[part])
    assert read.offset_s == decoded.offset_s == (clip.start_s if clip else 0)
    assert not read.samples.flags.writeable


@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_stereo_of_any_rate_is_mixed(tmp_path: Path, rate_hz: int) -> None:
    tone = (np.sin(np.arange(2 * rate_hz) * 2 * np.pi * 440 / rate_hz) * 8000).astype(np.int16)
    write_recording(tmp_path / "r", np.stack([tone, tone]), rate_hz)
    waveform = run(tmp_path / "r")
    assert waveform.duration_s == pytest.approx(2.0, abs=0.01)
    spectrum = np.abs(np.fft.rfft(waveform.samples[:SAMPLE_RATE_HZ]))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_channels_of_opposite_phase_are_not_mixed_into_silence(tmp_path: Path) -> None:
    speech = short_speech()
    write_recording(tmp_path / "r", np.stack([speech, -speech]))
    assert likeness(speech, run(tmp_path / "r").samples) > 0.99


def test_a_clip_after_the_end_is_the_senders_mistake(tmp_path: Path) -> None:
    write_recording(tmp_path / "r", short_speech())
    error = failure(tmp_path / "r", clip=Clip(start_s=99, end_s=100))
    assert error.code is FailureCode.INVALID_INPUT
    assert "clip.start_s" in str(error)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "empty"),
        (b"Dear diary, today I recorded nothing.\n" * 200, "no decodable audio"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "no decodable audio"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "no decodable audio"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "no decodable audio"),
    ],
)
def test_what_is_no_recording_is_unreadable(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "r").write_bytes(content)
    error = failure(tmp_path / "r")
    assert error.code is FailureCode.AUDIO_UNREADABLE
    assert named in str(error)
    assert str(tmp_path) not in str(error)


def test_a_recording_without_samples_is_unreadable(tmp_path: Path) -> None:
    write_recording(tmp_path / "r", short_speech())
    (tmp_path / "r").write_bytes((tmp_path / "r").read_bytes()[:78])
    assert failure(tmp_path / "r").code in ("AUDIO_UNREADABLE", "AUDIO_TRUNCATED")


@pytest.mark.parametrize("encoding", ["wav", "wav-mulaw", "flac"])
def test_a_file_cut_in_half_is_truncated(tmp_path: Path, encoding: str) -> None:
    write_recording(tmp_path / "r", short_speech(), encoding=encoding)
    whole = (tmp_path / "r").read_bytes()
    (tmp_path / "r").write_bytes(whole[: len(whole) // 2])
    error = failure(tmp_path / "r")
    assert error.code is FailureCode.AUDIO_TRUNCATED
    assert "missing" in str(error)


def test_a_streaming_writers_wav_is_whole(tmp_path: Path) -> None:
    """Its length is unknown when its header is written."""
    write_recording(tmp_path / "r", short_speech())
    whole = bytearray((tmp_path / "r").read_bytes())
    at = whole.index(b"data") + 4
    whole[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "r").write_bytes(whole)
    assert run(tmp_path / "r").duration_s == SECONDS


@pytest.mark.parametrize("encoding", ["wav", "ogg-opus"])
def test_a_recording_over_the_limit_is_too_long(tmp_path: Path, encoding: str) -> None:
    write_recording(tmp_path / "r", short_speech(), encoding=encoding)
    error = failure(tmp_path / "r", max_duration_s=2.0)
    assert error.code is FailureCode.AUDIO_TOO_LONG
    assert "MAX_AUDIO_SECONDS" in str(error)


def test_a_cancelled_job_stops_decoding(tmp_path: Path) -> None:
    write_recording(tmp_path / "r", short_speech())
    token = CancelToken()
    token.cancel()
    recording = Recording(tmp_path / "r", (tmp_path / "r").stat().st_size)
    with pytest.raises(JobCancelled):
        decode(recording, DecodeLimits(3600), StageContext(token))
