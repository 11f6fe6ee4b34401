"""Decode: any recording, to 16 kHz mono int16, mixed and resampled as whisperx's ffmpeg call does.

Takes a `Recording`; returns a `Waveform`. A WAV file of 16 kHz mono PCM16 is only read, everything
else is decoded by FFmpeg in a process of its own. Raises `WorkerError`: ``AUDIO_UNREADABLE``,
``AUDIO_TRUNCATED``, ``AUDIO_TOO_LONG``, ``INVALID_INPUT`` (a clip that starts after the end),
``INTERNAL`` (no process, no room for the waveform).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from bucketscribe_contract import Clip, FailureCode, Stage, WarningCode
from bucketscribe_contract.wav import HEAD_BYTES, NotWav, WavHeader, WavSound, parse_wav
from worker.cancel import StageContext
from worker.engines.decoder import Wanted
from worker.engines.decoder.process import DecoderFailed, DecoderStopped, decode_file
from worker.errors import WorkerError
from worker.types import SAMPLE_RATE_HZ, Recording, SampleFile, Waveform

_SLACK_S = 1.0
_DAMAGED_S = 0.1  # less is not worth a warning
_FILE = "waveform"  # int16, in the recording's directory


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
            raise self.exceeded()

    def exceeded(self) -> WorkerError:
        """Return the failure of a waveform over the limit."""
        message = (
            f"more than {self.max_duration_s:.0f} s of audio; raise MAX_AUDIO_SECONDS, or "
            "send parts of it with clip"
        )
        return WorkerError(FailureCode.AUDIO_TOO_LONG, message, Stage.DECODE)


def decode(recording: Recording, limits: DecodeLimits, ctx: StageContext) -> Waveform:
    """Decode the recording, or the clip of it that the limits name.

    Args:
        recording: Any container that FFmpeg reads without opening another file.
        limits: What may be decoded.
        ctx: Checked several times a second; told about which share is decoded.
    """
    if recording.bytes == 0:
        raise _unreadable("the recording is empty (0 bytes)")
    wav = _check_riff(recording)
    if wav is not None and wav[0].is_waveform(SAMPLE_RATE_HZ):
        return _read_plain(recording, *wav, limits, ctx)
    return _decode(recording, wav[1] if wav is not None else None, limits, ctx)


def _check_riff(recording: Recording) -> tuple[WavHeader, WavSound] | None:
    """Compare a WAV header with the file: FFmpeg takes a cut one for a short one."""
    with recording.path.open("rb") as file:
        try:
            header = parse_wav(file.read(HEAD_BYTES))
        except NotWav:
            return None  # another container, or a header that FFmpeg will judge
        file.seek(header.declared_end)
        sound = header.sound(recording.bytes, file.read(HEAD_BYTES))
    if sound.missing_s > _SLACK_S:
        raise _truncated(f"{sound.missing_s:.1f} s that the header declares are missing")
    if not sound.bytes:
        raise _unreadable("the recording holds no audio samples")
    return header, sound


def _read_plain(
    recording: Recording,
    header: WavHeader,
    sound: WavSound,
    limits: DecodeLimits,
    ctx: StageContext,
) -> Waveform:
    """Return the samples that are wanted; they stay in the recording."""
    ctx.cancel.check(Stage.DECODE)
    n_samples = sound.bytes // 2
    stop = min(limits.stop if limits.stop is not None else n_samples, n_samples)
    wanted = max(stop - limits.start, 0)
    limits.check(wanted / SAMPLE_RATE_HZ)
    _check_clip(n_samples, limits)
    with recording.path.open("rb") as file:
        samples = SampleFile(file, wanted, header.data_offset + limits.start * 2)
    return Waveform(samples, limits.start / SAMPLE_RATE_HZ, _joined(sound))


def _decode(
    recording: Recording, sound: WavSound | None, limits: DecodeLimits, ctx: StageContext
) -> Waveform:
    """Decode with FFmpeg into a file, where the waveform stays."""
    wanted = Wanted(
        limits.start,
        limits.stop,
        round(limits.max_duration_s * SAMPLE_RATE_HZ),
        ignore_length=sound is not None and sound.outlasts_header,
    )
    path = recording.path.with_name(_FILE)
    try:
        with recording.path.open("rb") as source, path.open("w+b") as target:
            found = decode_file(
                source, target, wanted, lambda: ctx.cancel.check(Stage.DECODE), ctx.progress
            )
            _check(found, limits)
            samples = SampleFile(target, os.fstat(target.fileno()).st_size // 2)
    except DecoderStopped as exc:
        raise _unreadable(str(exc)) from exc
    except DecoderFailed as exc:
        raise WorkerError(FailureCode.INTERNAL, str(exc), Stage.DECODE) from exc
    finally:
        path.unlink(missing_ok=True)
    warnings = _warnings(found) + (_joined(sound) if sound is not None else ())
    return Waveform(samples, limits.start / SAMPLE_RATE_HZ, warnings)


def _check(found: dict[str, Any], limits: DecodeLimits) -> None:
    """Judge what the decoder's process found."""
    if "unreadable" in found:
        raise _unreadable(found["unreadable"])
    if "too_long" in found:
        raise limits.exceeded()
    if found["missing_bytes"]:
        raise _truncated(f"{found['missing_bytes']} bytes that it declares are missing")
    if found["missing_s"] > _SLACK_S:
        raise _truncated(f"{found['missing_s']:.1f} s that it declares are missing")
    _check_clip(round(found["end_s"] * SAMPLE_RATE_HZ), limits)


def _check_clip(n_samples: int, limits: DecodeLimits) -> None:
    if n_samples == 0:
        raise _unreadable("the recording holds no audio samples")
    if limits.clip and limits.start >= n_samples:
        message = (
            f"clip.start_s ({limits.clip.start_s:g}) lies after the recording's end at "
            f"{n_samples / SAMPLE_RATE_HZ:.3f} s"
        )
        raise WorkerError(FailureCode.INVALID_INPUT, message, Stage.DECODE)


def _warnings(found: dict[str, Any]) -> tuple[str, ...]:
    warnings = []
    if found["damaged_s"] >= _DAMAGED_S:
        warnings.append(f"{WarningCode.AUDIO_DAMAGED}: {found['damaged_s']:.1f} s")
    if found["others"]:
        others = ", ".join(map(str, found["others"]))
        heard = f"heard {found['track']}, not {others}"
        warnings.append(f"{WarningCode.OTHER_TRACKS}: {heard:.40}")
    return tuple(warnings)


def _joined(sound: WavSound) -> tuple[str, ...]:
    return (f"{WarningCode.AUDIO_DAMAGED}: a second WAV is not read",) * sound.is_joined


def _unreadable(why: str) -> WorkerError:
    message = f"{why}; expected one of wav, mp3, m4a, flac, ogg, opus, webm"
    return WorkerError(FailureCode.AUDIO_UNREADABLE, message, Stage.DECODE)


def _truncated(why: str) -> WorkerError:
    return WorkerError(
        FailureCode.AUDIO_TRUNCATED, f"{why}; upload the recording again", Stage.DECODE
    )
