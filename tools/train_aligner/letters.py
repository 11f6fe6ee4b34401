"""When does each letter begin? Letters of a word against its phones, by a small HMM.

A letter is said by one phone, phones do not go back, and what phone says which letter is learnt
from all words at once (hard EM: Viterbi paths, then counts). No pronunciation rules are given.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.train_aligner.speech import Phone, WordGroup

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


def best_path(shape: Shape, scores: dict[tuple[str, str], float]) -> Path:
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


def _emit(letter: str, phone: str, scores: dict[tuple[str, str], float]) -> float:
    return BOUNDARY if letter == "|" else scores.get((letter, phone), UNSEEN)


def _score(paths: dict[Shape, Path], weights: dict[Shape, int]) -> dict[tuple[str, str], float]:
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
