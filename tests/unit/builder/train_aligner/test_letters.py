"""Letters on phones, against every path there is."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.train_aligner.letters import (
    BOUNDARY,
    MAX_STEP,
    SKIPPED_PHONE,
    UNSEEN,
    Path,
    Shape,
    best_path,
    learn_paths,
    onsets,
)
from tools.train_aligner.speech import Phone, WordGroup

Scores = dict[tuple[str, str], float]


def group(word: str, phones: str, start_s: float = 0.0) -> WordGroup:
    """Say a word with one phone of 0.1 s for each character."""
    spans = [Phone(p, start_s + i / 10, start_s + (i + 1) / 10) for i, p in enumerate(phones)]
    return WordGroup(tuple(word.split("|")), tuple(spans))


def score(shape: Shape, path: Path, scores: Scores) -> float:
    """Add up what a path is worth; impossible paths are worth minus infinity."""
    letters, phones = shape
    steps = np.diff(path)
    if (steps < 0).any() or (steps > MAX_STEP).any():
        return -np.inf
    skipped = path[0] + len(phones) - 1 - path[-1] + sum(max(0, step - 1) for step in steps)
    said = (
        BOUNDARY if c == "|" else scores.get((c, phones[i]), UNSEEN)
        for c, i in zip(letters, path, strict=True)
    )
    return SKIPPED_PHONE * float(skipped) + sum(said)


@given(
    letters=st.text("AB|", min_size=1, max_size=4),
    phones=st.text("xyz", min_size=1, max_size=5),
    values=st.lists(st.floats(-6, 0), min_size=6, max_size=6),
)
def test_best_path_is_the_best_of_all(letters: str, phones: str, values: list[float]) -> None:
    """Viterbi against brute force."""
    shape = (letters, tuple(phones))
    scores = dict(zip(product("AB", "xyz"), values, strict=True))
    everything = product(range(len(phones)), repeat=len(letters))
    best = max(score(shape, path, scores) for path in everything)
    assert score(shape, best_path(shape, scores), scores) == pytest.approx(best)


def test_learns_which_phone_says_which_letter() -> None:
    """Without rules: "c" and "a" are told apart because they occur apart."""
    words = [group(w, p) for w, p in (("CAT", "kat"), ("ACT", "akt"), ("TACK", "tak"))]
    paths = learn_paths([*words, group("KIT", "kit"), group("TICK", "tik")])
    assert paths["CAT", tuple("kat")] == (0, 1, 2)
    assert paths["TACK", tuple("tak")] == (0, 1, 2, 2)
    assert paths["TICK", tuple("tik")] == (0, 1, 2, 2)


def test_letters_of_one_phone_share_it() -> None:
    """Two letters, one phone: the second begins in its middle; `|` is where the word ends."""
    found = onsets(group("TACK", "tak", start_s=2.0), (0, 1, 2, 2))
    assert [o.label for o in found] == ["T", "A", "C", "K", "|"]
    assert [o.time_s for o in found] == pytest.approx([2.0, 2.1, 2.2, 2.25, 2.3])


def test_word_begins_with_its_first_phone() -> None:
    """Also where that phone says none of its letters."""
    found = onsets(group("USE", "juz"), (1, 2, 2))
    assert found[0].time_s == 0.0
