"""Decode: every promised format, and everything that is no recording."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.signal import correlate, correlation_lags

from bench.corpus import Waveform as Samples
from bucketscribe_contract import Clip, FailureCode
from bucketscribe_contract.failures import WarningText
from tests.recordings import ENCODINGS, short_speech, write_recording
from worker.cancel import CancelToken, StageContext
from worker.errors import JobCancelled, WorkerError
from worker.stages.decode import DecodeLimits, decode
from worker.types import SAMPLE_RATE_HZ, Recording, Waveform

SECONDS = len(short_speech()) / SAMPLE_RATE_HZ
MULAW = b"\x10\0\0\0\x07\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0"
NO_SOUND = b"RIFF\0\0\0\0WAVEfmt " + MULAW + b"data\0\0\0\0"


def run(path: Path, max_duration_s: float = 3600.0, clip: Clip | None = None) -> Waveform:
    """Decode a file."""
    recording = Recording(path, path.stat().st_size)
    return decode(recording, DecodeLimits(max_duration_s, clip), StageContext())


def failure(path: Path, max_duration_s: float = 3600.0, clip: Clip | None = None) -> WorkerError:
    """Decode what must fail."""
    with pytest.raises(WorkerError) as caught:
        run(path, max_duration_s, clip)
    return caught.value


def likeness(one: Samples, other: Samples, within_s: float = 1.0) -> float:
    """Highest correlation of two waveforms over shifts that short (codecs delay sound)."""
    x, y = one.astype(np.float64), other.astype(np.float64)
    shifts = np.abs(correlation_lags(len(x), len(y))) <= within_s * SAMPLE_RATE_HZ
    shared = correlate(x, y)[shifts]
    return float(shared.max() / np.sqrt((x @ x) * (y @ y) + 1e-9))


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_promised_format_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "recording"  # a name without an ending, as the worker stores it
    write_recording(path, short_speech(), encoding=encoding)
    waveform = run(path)
    assert waveform.warnings == ()
    assert waveform.duration_s == pytest.approx(SECONDS, abs=0.15)  # AAC pads its frames
    codes_waves = 0.6 if "amr" in encoding else 0.95  # AMR codes a voice, not its wave
    assert likeness(short_speech(), waveform.samples[:], within_s=0.05) > codes_waves


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
    assert np.array_equal(read.samples[:], decoded.samples[:])
    assert np.array_equal(read.samples[:], short_speech()[part])
    assert read.offset_s == decoded.offset_s == (clip.start_s if clip else 0)


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
    assert likeness(speech, run(tmp_path / "r").samples[:]) > 0.99


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
        (NO_SOUND + b"LIST\x40\x1f\0\0" + b"none" * 2000, "no audio samples"),
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


def sized(size: int, whole: bytes) -> bytes:
    """Change what a WAV header says of the sound."""
    riff = struct.pack("<I", (36 + size) & 0xFFFFFFFF)
    return whole[:4] + riff + whole[8:40] + struct.pack("<I", size) + whole[44:]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 64_000])
@pytest.mark.parametrize("rate_hz", [SAMPLE_RATE_HZ, 22_050])
def test_a_wav_whose_header_does_not_know_its_length_is_whole(
    tmp_path: Path, size: int, rate_hz: int
) -> None:
    """It was written into a pipe, or its recorder died."""
    write_recording(tmp_path / "r", short_speech(), rate_hz)
    (tmp_path / "r").write_bytes(sized(size, (tmp_path / "r").read_bytes()))
    waveform = run(tmp_path / "r")
    assert waveform.duration_s == pytest.approx(SECONDS * SAMPLE_RATE_HZ / rate_hz, abs=0.001)
    assert not waveform.warnings


@pytest.mark.parametrize("rate_hz", [SAMPLE_RATE_HZ, 22_050])
def test_the_first_of_two_joined_wavs_is_read_with_a_warning(tmp_path: Path, rate_hz: int) -> None:
    write_recording(tmp_path / "r", short_speech(), rate_hz)
    (tmp_path / "r").write_bytes((tmp_path / "r").read_bytes() * 2)
    waveform = run(tmp_path / "r")
    assert waveform.duration_s == pytest.approx(SECONDS * SAMPLE_RATE_HZ / rate_hz, abs=0.001)
    (warning,) = waveform.warnings
    assert TypeAdapter(WarningText).validate_python(warning).startswith("AUDIO_DAMAGED: a second")


def test_the_byte_rate_of_a_codec_is_no_measure_of_time(tmp_path: Path) -> None:
    with av.open(tmp_path / "r", "w", format="wav") as container:
        stream = container.add_stream("adpcm_ima_wav", SAMPLE_RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(short_speech()[None], "s16p", "mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        container.mux([*stream.encode(frame), *stream.encode(None)])
    whole = (tmp_path / "r").read_bytes()
    (tmp_path / "r").write_bytes(whole[:28] + struct.pack("<I", 1000) + whole[32:])
    assert run(tmp_path / "r").duration_s == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("size", [3_000_000_000, 2_200_000_000])
def test_a_recording_of_some_gigabytes_that_was_cut_is_truncated(tmp_path: Path, size: int) -> None:
    write_recording(tmp_path / "r", short_speech())
    (tmp_path / "r").write_bytes(sized(size, (tmp_path / "r").read_bytes()))
    assert failure(tmp_path / "r").code is FailureCode.AUDIO_TRUNCATED


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
