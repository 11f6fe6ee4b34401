"""Utterances with the time of every letter.

Takes sentences and the two synthesizers; which voice says what is drawn from a seeded generator.
Letters are put on phones by a small HMM: phones do not go back, and which phone says which letter
is learnt from all words at once (hard EM: Viterbi paths, then counts), without pronunciation rules.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.train_aligner.speech import (
    ESPEAK_ACCENTS,
    ESPEAK_VARIANTS,
    FLITE_VOICES,
    HELD_OUT_VOICE,
    SAMPLE_RATE_HZ,
    Espeak,
    Flite,
    Phone,
    Speech,
    Waveform,
    WordGroup,
)

ROUNDS = 5
SKIPPED_PHONE = -2.5
"""Log score of a phone that says no letter, such as the glide in "use"."""
MAX_STEP = 3
BOUNDARY = -4.0
"""Log score of `|` under any phone: words spoken as one have no phone between them."""
UNSEEN = math.log(0.05 / 20)
MAX_COUNT = 20
"""A frequent word counts at most this often, or "the" would decide everything."""

Shape = tuple[str, tuple[str, ...]]
Path = tuple[int, ...]
Scores = dict[tuple[str, str], float]
"""Log-probability of a letter given a phone."""


@dataclass(frozen=True)
class Onset:
    """A label of the aligner and the time at which it begins."""

    label: str
    time_s: float


def shape_of(group: WordGroup) -> Shape:
    """Return what alike groups have in common: letters, and names of phones."""
    return group.letters, tuple(phone.name for phone in group.phones)


def learn_paths(groups: Iterable[WordGroup]) -> dict[Shape, Path]:
    """Align the letters of every shape.

    Args:
        groups: All groups of a corpus, repetitions included.

    Returns:
        For each shape, the index of each letter's phone, ascending.
    """
    shapes = {s: min(n, MAX_COUNT) for s, n in Counter(map(shape_of, groups)).items()}
    paths = {shape: _spread(shape) for shape in shapes}
    for _ in range(ROUNDS):
        scores = _score(paths, shapes)
        paths = {shape: best_path(shape, scores) for shape in shapes}
    return paths


def onsets(group: WordGroup, path: Path) -> list[Onset]:
    """Time the letters of a group; letters of one phone share it evenly; `|` closes the group."""
    times = [_time(group.phones[phone], path, index) for index, phone in enumerate(path)]
    times[0] = group.phones[0].start_s
    letters = [Onset(c, t) for c, t in zip(group.letters, times, strict=True)]
    return [*letters, Onset("|", group.phones[-1].end_s)]


def best_path(shape: Shape, scores: Scores) -> Path:
    """Find the best phone for each letter.

    Args:
        shape: n letters and m phones.
        scores: Log-probability of a letter given a phone.

    Returns:
        n indices into the phones, ascending in steps of 0 to `MAX_STEP`.
    """
    letters, phones = shape
    emission = np.array([[_emit(c, p, scores) for p in phones] for c in letters])
    best = emission[0] + SKIPPED_PHONE * np.arange(len(phones))
    steps: list[NDArray[np.int64]] = []
    for row in emission[1:]:
        arrivals = np.stack([_arrive(best, step) for step in range(MAX_STEP + 1)])
        steps.append(arrivals.argmax(axis=0))
        best = arrivals.max(axis=0) + row
    last = int(np.argmax(best + SKIPPED_PHONE * np.arange(len(phones))[::-1]))
    path = [last]
    for step in reversed(steps):
        path.append(path[-1] - int(step[path[-1]]))
    return tuple(reversed(path))


def _arrive(best: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Score arriving at each phone from `step` phones before."""
    arrived = np.full_like(best, -1e9)
    arrived[step:] = best[: len(best) - step] + SKIPPED_PHONE * max(0, step - 1)
    return arrived


def _emit(letter: str, phone: str, scores: Scores) -> float:
    return BOUNDARY if letter == "|" else scores.get((letter, phone), UNSEEN)


def _score(paths: dict[Shape, Path], weights: dict[Shape, int]) -> Scores:
    """Turn paths into smoothed log-probabilities of letters given phones."""
    pairs: Counter[tuple[str, str]] = Counter()
    totals: Counter[str] = Counter()
    for (letters, phones), path in paths.items():
        weight = weights[letters, phones]
        for letter, index in zip(letters, path, strict=True):
            if letter != "|":
                pairs[letter, phones[index]] += weight
                totals[phones[index]] += weight
    return {k: math.log((n + 0.05) / (totals[k[1]] + 1.5)) for k, n in pairs.items()}


def _spread(shape: Shape) -> Path:
    """Guess a first path: letters spread evenly over the phones."""
    letters, phones = shape
    return tuple(i * len(phones) // len(letters) for i in range(len(letters)))


def _time(phone: Phone, path: Path, index: int) -> float:
    """Return when letter `index` begins within the phone that it shares with its neighbours."""
    first = path.index(path[index])
    share = (index - first) / path.count(path[index])
    return phone.start_s + (phone.end_s - phone.start_s) * share


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


def synthesize(sentences: list[str], seconds: float | None) -> list[Utterance]:
    """Speak sentences.

    Args:
        sentences: What to say.
        seconds: Of training speech, half by each synthesizer; None: held-out speech, each sentence
            with a training voice, with the held-out voice and with eSpeak.
    """
    rng = np.random.default_rng(7 if seconds else 8)
    flite, espeak = Flite(), Espeak()
    spoken: list[tuple[str, Speech]]
    if seconds:
        order = [sentences[i] for i in rng.permutation(len(sentences))]
        by_flite = _flite_say(flite, FLITE_VOICES, (0.65, 1.2))
        spoken = [*_speak_for(seconds / 2, order, by_flite, rng)]
        spoken += _speak_for(seconds / 2, order[::-1], _espeak_say(espeak), rng)
    else:
        voices = (FLITE_VOICES, (HELD_OUT_VOICE,))
        says = [*(_flite_say(flite, v, (0.75, 1.15)) for v in voices), _espeak_say(espeak)]
        everything = (say(text, rng) for text in sentences for say in says)
        spoken = [(voice, speech) for voice, speech in everything if speech]
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
        accent, variant = rng.choice(ESPEAK_ACCENTS), rng.choice(ESPEAK_VARIANTS)
        rate, pitch, spread = rng.integers((130, 20, 30), (231, 81, 81)).tolist()
        voice = f"{accent}+{variant}"
        return voice, espeak.speak(text, voice, rate, pitch, spread)

    return say


def _words(speech: Speech) -> tuple[TimedWord, ...]:
    if any(len(group.words) > 1 for group in speech.groups):
        return ()
    return tuple(
        TimedWord(g.words[0], g.phones[0].start_s, g.phones[-1].end_s) for g in speech.groups
    )
