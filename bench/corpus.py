"""Recordings, what was really said in them, and what a recogniser made of them.

Takes audio files (decoded by PyAV: no ffmpeg binary is needed), ``NAME.ref.json``, RTTM, STM and
transcripts, WhisperX's or ours; returns int16 waveforms, `Reference`s and `Hypothesis`es. Times
are seconds from the start of the recording.
"""

from __future__ import annotations

import json
import wave
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av import AudioResampler

Waveform = npt.NDArray[np.int16]
"""Shape (n_samples,) for mono, (n_channels, n_samples) for more."""

SAMPLE_RATE_HZ = 16_000
ROOT = Path(__file__).parent.parent
SPEECH_DIR = ROOT / "bench" / "speech"


def read_recording(path: Path, rate_hz: int = SAMPLE_RATE_HZ) -> Waveform:
    """Decode the first audio stream of any file that FFmpeg's libraries read to mono."""
    resampler = AudioResampler(format="s16", layout="mono", rate=rate_hz)
    with av.open(path) as container:
        frames = [
            resampled
            for frame in [*container.decode(audio=0), None]
            for resampled in resampler.resample(frame)
        ]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.int16)


def write_recording(path: Path, waveform: Waveform) -> None:
    """Write a mono waveform of 16 kHz as a WAV file of 16 bits, as the edge uploads it."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", "not compressed"))
        file.writeframes(waveform.tobytes())


def to_float32(waveform: Waveform) -> npt.NDArray[np.float32]:
    """Scale int16 to float32 in [-1, 1), as ``whisperx.load_audio`` does."""
    return waveform.astype(np.float32) / 32768.0


@dataclass(frozen=True)
class Turn:
    """One speaker talking from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    speaker: str


@dataclass(frozen=True)
class Utterance:
    """One sentence or so, as it was said."""

    start: float
    end: float
    speaker: str
    text: str


@dataclass(frozen=True)
class SpokenWord:
    """One word; None where its time, or its speaker, is not known."""

    text: str
    start_s: float | None
    end_s: float | None
    speaker: str | None = None
    segment: int = 0


@dataclass(frozen=True)
class Reference:
    """A recording and what was really said in it; `turns` may be finer than `utterances`."""

    name: str
    audio: Path
    utterances: tuple[Utterance, ...]
    turns: tuple[Turn, ...]
    timed_words: tuple[SpokenWord, ...] = ()

    @property
    def words(self) -> tuple[SpokenWord, ...]:
        """All words in order of time, or of the utterances where their times are not known."""
        return self.timed_words or tuple(
            SpokenWord(text, None, None, said.speaker)
            for said in self.utterances
            for text in said.text.split()
        )

    @property
    def speakers(self) -> frozenset[str]:
        """Everybody who has a turn."""
        return frozenset(turn.speaker for turn in self.turns)

    def turns_of_words(self) -> tuple[Turn, ...]:
        """Return a turn for each word whose times and speaker are known."""
        return tuple(
            Turn(word.start_s, word.end_s, word.speaker)
            for word in self.timed_words
            if word.start_s is not None and word.end_s is not None and word.speaker is not None
        )

    def text_by_speaker(self) -> dict[str | None, str]:
        """Collect what each speaker says, in order."""
        return _joined((utterance.speaker, utterance.text) for utterance in self.utterances)


def load_reference(audio: Path) -> Reference:
    """Load ``NAME.flac`` with the ``NAME.ref.json`` and ``NAME.rttm`` beside it.

    ``NAME.words.json``, if it is there, has the times of words.
    """
    utterances = json.loads(audio.with_suffix(".ref.json").read_text())
    path = audio.with_suffix(".words.json")
    words = json.loads(path.read_text())["words"] if path.exists() else []
    words.sort(key=lambda word: word["start"])
    return Reference(
        name=audio.stem,
        audio=audio,
        utterances=tuple(Utterance(**utterance) for utterance in utterances),
        turns=parse_rttm(audio.with_suffix(".rttm").read_text()),
        timed_words=tuple(SpokenWord(w["word"], w["start"], w["end"], w["speaker"]) for w in words),
    )


def load_folder(folder: Path) -> list[Reference]:
    """Load every recording of a folder that has a reference, by name."""
    return [
        load_reference(audio)
        for audio in sorted(folder.resolve().glob("*.flac"))
        if audio.with_suffix(".ref.json").exists()
    ]


def telephone_sample() -> Reference:
    """Find the 30 s of real telephone talk that ship in ``pyannote.audio.sample``."""
    from devstack.demo import telephone_wav  # the stack takes long to import

    audio = telephone_wav()
    return Reference(
        name="telephone",
        audio=audio,
        utterances=parse_stm(audio.with_suffix(".stm").read_text()),
        turns=parse_rttm(audio.with_suffix(".rttm").read_text()),
    )


def parse_rttm(text: str) -> tuple[Turn, ...]:
    """Parse ``SPEAKER file 1 start duration <NA> <NA> speaker …`` lines (NIST RT-09)."""
    fields = (line.split() for line in text.splitlines() if line.startswith("SPEAKER "))
    return tuple(Turn(float(f[3]), round(float(f[3]) + float(f[4]), 3), f[7]) for f in fields)


def parse_stm(text: str) -> tuple[Utterance, ...]:
    """Parse ``file channel speaker start end words…`` lines (NIST SCTK)."""
    fields = (line.split(maxsplit=5) for line in text.splitlines() if line.strip())
    return tuple(Utterance(float(f[3]), float(f[4]), f[2], f[5]) for f in fields)


@dataclass(frozen=True)
class Hypothesis:
    """One recording as it was recognised, in order."""

    text: str
    words: tuple[SpokenWord, ...]

    @property
    def speakers(self) -> frozenset[str]:
        """Everybody who was given a word."""
        return frozenset(word.speaker for word in self.words if word.speaker is not None)

    def text_by_speaker(self) -> dict[str | None, str]:
        """Collect each speaker's words, in order; nobody's too."""
        return _joined((word.speaker, word.text) for word in self.words)

    def turns(self) -> tuple[Turn, ...]:
        """Tell who speaks when, by the words: what a reader of the transcript is told.

        A turn is a run of one speaker's words in one segment, from the start of its first timed
        word to the end of its last; pauses inside a sentence belong to it.
        """
        turns = []
        for (_, speaker), run in groupby(self.words, key=lambda w: (w.segment, w.speaker)):
            times_s = [(w.start_s, w.end_s) for w in run]
            starts_s = [start_s for start_s, _ in times_s if start_s is not None]
            ends_s = [end_s for _, end_s in times_s if end_s is not None]
            if speaker and starts_s and ends_s:
                turns.append(Turn(min(starts_s), max(ends_s), speaker))
        return tuple(turns)


def read_transcript(document: Mapping[str, Any]) -> Hypothesis:
    """Read a transcript document, WhisperX's or ours."""
    segments = document["segments"]
    return Hypothesis(
        text=" ".join(segment["text"].strip() for segment in segments),
        words=tuple(w for index, segment in enumerate(segments) for w in _words(index, segment)),
    )


def _joined(said: Iterable[tuple[str | None, str]]) -> dict[str | None, str]:
    texts: defaultdict[str | None, list[str]] = defaultdict(list)
    for speaker, text in said:
        texts[speaker].append(text)
    return {speaker: " ".join(parts) for speaker, parts in texts.items()}


def _words(index: int, segment: Mapping[str, Any]) -> list[SpokenWord]:
    """Read a segment's words; one without words still has its text and its speaker."""
    speaker = segment.get("speaker")
    words = segment.get("words") or [{"word": text} for text in segment["text"].split()]
    return [
        SpokenWord(w["word"], w.get("start"), w.get("end"), w.get("speaker") or speaker, index)
        for w in words
    ]
