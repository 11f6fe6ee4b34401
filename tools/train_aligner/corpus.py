"""Utterances with the time of every letter, kept in one `.npz` file.

Takes sentences and the two synthesizers; returns utterances. Which voice says what is drawn
from a seeded generator, so a corpus can be made again.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tools.train_aligner.espeak import ACCENTS, VARIANTS, Espeak
from tools.train_aligner.flite import HELD_OUT_VOICE, VOICES, Flite
from tools.train_aligner.letters import Onset, learn_paths, onsets, shape_of
from tools.train_aligner.speech import SAMPLE_RATE_HZ, Speech, Waveform

MAX_ROUNDS = 40
"""A corpus whose sentences are used up starts over, with other voices, at most this often."""

Say = Callable[[str, np.random.Generator], tuple[str, Speech | None]]


@dataclass(frozen=True)
class TimedWord:
    """A word and its span in seconds."""

    word: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence.

    `onsets` has every letter and every `|`; `words` is empty where words share phones.
    """

    waveform: Waveform
    voice: str
    onsets: tuple[Onset, ...]
    words: tuple[TimedWord, ...]

    @property
    def seconds(self) -> float:
        """Length of the waveform."""
        return len(self.waveform) / SAMPLE_RATE_HZ


def synthesize_training(
    sentences: list[str], flite_s: float, espeak_s: float, seed: int = 7
) -> list[Utterance]:
    """Speak sentences with both synthesizers until each has spoken long enough, in seconds."""
    rng = np.random.default_rng(seed)
    order = [sentences[i] for i in rng.permutation(len(sentences))]
    flite, espeak = Flite(), Espeak()
    spoken = [
        *_speak_for(flite_s, order, _flite_say(flite, VOICES, (0.65, 1.2)), rng),
        *_speak_for(espeak_s, order[::-1], _espeak_say(espeak), rng),
    ]
    return _time_letters(spoken)


def synthesize_held_out(sentences: list[str], seed: int = 8) -> list[Utterance]:
    """Speak held-out sentences: with training voices, with a held-out voice, with eSpeak."""
    rng = np.random.default_rng(seed)
    flite, espeak = Flite(), Espeak()
    says = (
        _flite_say(flite, VOICES, (0.75, 1.15)),
        _flite_say(flite, (HELD_OUT_VOICE,), (0.75, 1.15)),
        _espeak_say(espeak),
    )
    spoken = [say(text, rng) for text in sentences for say in says]
    return _time_letters([(voice, speech) for voice, speech in spoken if speech])


def save_corpus(utterances: list[Utterance], path: Path) -> None:
    """Write utterances: one long waveform, and JSON for the rest."""
    rows = [
        {
            "voice": u.voice,
            "samples": len(u.waveform),
            "onsets": [[o.label, round(o.time_s, 5)] for o in u.onsets],
            "words": [asdict(word) for word in u.words],
        }
        for u in utterances
    ]
    waveform = np.concatenate([u.waveform for u in utterances])
    np.savez(path, waveform=waveform, rows=np.array(json.dumps(rows)))


def load_corpus(path: Path) -> list[Utterance]:
    """Read what `save_corpus` wrote."""
    with np.load(path) as stored:
        waveform, rows = stored["waveform"], json.loads(str(stored["rows"]))
    ends = np.cumsum([row["samples"] for row in rows])
    return [
        Utterance(
            waveform[end - row["samples"] : end],
            row["voice"],
            tuple(Onset(label, time_s) for label, time_s in row["onsets"]),
            tuple(TimedWord(**word) for word in row["words"]),
        )
        for end, row in zip(ends, rows, strict=True)
    ]


def _speak_for(
    seconds: float, sentences: list[str], say: Say, rng: np.random.Generator
) -> Iterator[tuple[str, Speech]]:
    spoken_s = 0.0
    for text in sentences * MAX_ROUNDS:
        if spoken_s >= seconds:
            return
        voice, speech = say(text, rng)
        if speech:
            spoken_s += len(speech.waveform) / SAMPLE_RATE_HZ
            yield voice, speech


def _flite_say(flite: Flite, voices: tuple[str, ...], stretch: tuple[float, float]) -> Say:
    def say(text: str, rng: np.random.Generator) -> tuple[str, Speech | None]:
        voice = voices[rng.integers(len(voices))]
        return voice, flite.speak(text, voice, rng.uniform(*stretch))

    return say


def _espeak_say(espeak: Espeak) -> Say:
    def say(text: str, rng: np.random.Generator) -> tuple[str, Speech | None]:
        voice = f"{ACCENTS[rng.integers(len(ACCENTS))]}+{VARIANTS[rng.integers(len(VARIANTS))]}"
        rate, pitch, spread = rng.integers((130, 20, 30), (231, 81, 81)).tolist()
        return voice, espeak.speak(text, voice, rate, pitch, spread)

    return say


def _time_letters(spoken: list[tuple[str, Speech]]) -> list[Utterance]:
    paths = learn_paths(group for _, speech in spoken for group in speech.groups)
    return [
        Utterance(
            speech.waveform,
            voice,
            tuple(o for g in speech.groups for o in onsets(g, paths[shape_of(g)])),
            _words(speech),
        )
        for voice, speech in spoken
    ]


def _words(speech: Speech) -> tuple[TimedWord, ...]:
    if any(len(group.words) > 1 for group in speech.groups):
        return ()
    return tuple(
        TimedWord(g.words[0], g.phones[0].start_s, g.phones[-1].end_s) for g in speech.groups
    )
