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

from bench.corpus import SAMPLE_RATE_HZ, Waveform
from tools.train_aligner.speech import (
    ESPEAK_ACCENTS,
    ESPEAK_VARIANTS,
    FLITE_VOICES,
    HELD_OUT_VOICE,
    Espeak,
    Flite,
    Interval,
    Speech,
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
MAX_ROUNDS = 40
"""A corpus whose sentences are used up starts over, with other voices, at most this often."""

Shape = tuple[str, tuple[str, ...]]
"""What alike groups have in common: letters, and names of phones."""
Path = tuple[int, ...]
"""For each letter the index of its phone, ascending in steps of 0 to `MAX_STEP`."""
Scores = dict[tuple[str, str], float]
"""Log-probability of a letter given a phone."""
Said = tuple[str, Speech | None]
"""A voice, and what it said."""


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence.

    `onsets` has every letter and every `|` with the second at which it begins; `words` is empty
    where words share phones.
    """

    waveform: Waveform
    voice: str
    onsets: list[tuple[str, float]]
    words: list[Interval]


def shape_of(group: WordGroup) -> Shape:
    """Return the letters and the names of the phones."""
    return group.letters, tuple(phone.label for phone in group.phones)


def learn_paths(groups: Iterable[WordGroup]) -> dict[Shape, Path]:
    """Align the letters of every shape of a corpus, all groups given with their repetitions."""
    shapes = {s: min(n, MAX_COUNT) for s, n in Counter(map(shape_of, groups)).items()}
    paths = {
        (letters, phones): tuple(i * len(phones) // len(letters) for i in range(len(letters)))
        for letters, phones in shapes
    }
    for _ in range(ROUNDS):
        scores = _score(paths, shapes)
        paths = {shape: best_path(shape, scores) for shape in shapes}
    return paths


def onsets(group: WordGroup, path: Path) -> list[tuple[str, float]]:
    """Time the letters of a group; letters of one phone share it evenly; `|` closes the group."""
    times = []
    for index, at in enumerate(path):
        phone, share = group.phones[at], (index - path.index(at)) / path.count(at)
        times.append(phone.start_s + (phone.end_s - phone.start_s) * share)
    times[0] = group.phones[0].start_s
    return [*zip(group.letters, times, strict=True), ("|", group.phones[-1].end_s)]


def best_path(shape: Shape, scores: Scores) -> Path:
    """Find the best phone for each letter (Viterbi)."""
    letters, phones = shape
    emission = [
        np.array([BOUNDARY if c == "|" else scores.get((c, p), UNSEEN) for p in phones])
        for c in letters
    ]
    best = emission[0] + SKIPPED_PHONE * np.arange(len(phones))
    steps: list[NDArray[np.int64]] = []
    for row in emission[1:]:
        arrivals = np.full((MAX_STEP + 1, len(phones)), -1e9)
        for step in range(min(MAX_STEP + 1, len(phones))):
            arrivals[step, step:] = best[: len(best) - step] + SKIPPED_PHONE * max(0, step - 1)
        steps.append(arrivals.argmax(axis=0))
        best = arrivals.max(axis=0) + row
    path = [int(np.argmax(best + SKIPPED_PHONE * np.arange(len(phones))[::-1]))]
    for step_to in reversed(steps):
        path.append(path[-1] - int(step_to[path[-1]]))
    return tuple(reversed(path))


def _score(paths: dict[Shape, Path], weights: dict[Shape, int]) -> Scores:
    """Turn paths into smoothed log-probabilities of letters given phones."""
    pairs: Counter[tuple[str, str]] = Counter()
    totals: Counter[str] = Counter()
    for (letters, phones), path in paths.items():
        for letter, index in zip(letters, path, strict=True):
            if letter != "|":
                pairs[letter, phones[index]] += weights[letters, phones]
                totals[phones[index]] += weights[letters, phones]
    return {k: math.log((n + 0.05) / (totals[k[1]] + 1.5)) for k, n in pairs.items()}


def synthesize(sentences: list[str], seconds: float | None) -> list[Utterance]:
    """Speak sentences.

    Args:
        sentences: What to say.
        seconds: Of training speech, half by each synthesizer; None: held-out speech, each sentence
            with a training voice, with the held-out voice and with eSpeak.
    """
    rng = np.random.default_rng(7 if seconds else 8)
    flite, espeak = Flite(), Espeak()

    def by_flite(
        text: str, voices: tuple[str, ...] = FLITE_VOICES, pace: tuple[float, float] = (0.65, 1.2)
    ) -> Said:
        voice = voices[rng.integers(len(voices))]
        return voice, flite.speak(text, voice, rng.uniform(*pace))

    def by_espeak(text: str) -> Said:
        voice = f"{rng.choice(ESPEAK_ACCENTS)}+{rng.choice(ESPEAK_VARIANTS)}"
        rate, pitch, spread = rng.integers((130, 20, 30), (231, 81, 81)).tolist()
        return voice, espeak.speak(text, voice, rate, pitch, spread)

    spoken: list[Said] = []
    if seconds:
        order = [sentences[i] for i in rng.permutation(len(sentences))]
        spoken += _speak_for(seconds / 2, order, by_flite)
        spoken += _speak_for(seconds / 2, order[::-1], by_espeak)
    else:
        for text in sentences:
            spoken += [by_flite(text, v, (0.75, 1.15)) for v in (FLITE_VOICES, (HELD_OUT_VOICE,))]
            spoken.append(by_espeak(text))
    return _utterances([(voice, speech) for voice, speech in spoken if speech])


def _speak_for(seconds: float, sentences: list[str], say: Callable[[str], Said]) -> Iterator[Said]:
    spoken_s = 0.0
    for text in sentences * MAX_ROUNDS:
        if spoken_s >= seconds:
            return
        voice, speech = say(text)
        spoken_s += len(speech.waveform) / SAMPLE_RATE_HZ if speech else 0
        yield voice, speech


def _utterances(spoken: list[tuple[str, Speech]]) -> list[Utterance]:
    paths = learn_paths(group for _, speech in spoken for group in speech.groups)
    utterances = []
    for voice, speech in spoken:
        groups = speech.groups
        times = [onset for g in groups for onset in onsets(g, paths[shape_of(g)])]
        words = [Interval(g.words[0], g.phones[0].start_s, g.phones[-1].end_s) for g in groups]
        alone = all(len(group.words) == 1 for group in groups)
        utterances.append(Utterance(speech.waveform, voice, times, words if alone else []))
    return utterances
