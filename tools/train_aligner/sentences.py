"""Plain English sentences out of Debian's fortune files.

Takes the folder that the packages `fortunes` and `fortunes-min` fill; returns sentences made of
nothing but letters and common punctuation, so that what is written is what will be spoken.
"""

import re
from pathlib import Path

import numpy as np

FORTUNES = Path("/usr/share/games/fortunes")

_PLAIN = re.compile(r"[A-Z][A-Za-z' ,;:.?!-]{16,150}[.?!]")
_SPOKEN_OTHERWISE = re.compile(
    r"[A-Z]{2,}"  # read letter by letter
    r"|\b[A-Z]\."  # an initial
    r"|\b(?:Mr|Mrs|Dr|St|Jr|vs|etc|i\.e|e\.g)\b"
    r"|--|\.\.|(?<=[a-z])[A-Z]"
    r"|'(?![a-zA-Z])|(?<![a-zA-Z])'"  # a quotation mark, not an apostrophe
    r"|\S{18,}"
)


def read_sentences(folder: Path = FORTUNES) -> list[str]:
    """Collect the usable sentences of every fortune file, each once, sorted."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.u8")):
        for fortune in path.read_text(encoding="utf-8", errors="ignore").split("\n%"):
            for sentence in re.split(r"(?<=[.?!])\s+", " ".join(fortune.split())):
                if _is_usable(sentence):
                    found.setdefault(_key(sentence), sentence)
    return sorted(found.values())


def split_sentences(
    sentences: list[str], n_held_out: int, seed: int = 1234
) -> tuple[list[str], list[str]]:
    """Set sentences aside for evaluation.

    Args:
        sentences: All of them.
        n_held_out: How many to hold out.
        seed: Of the choice.

    Returns:
        Sentences to train on, none of which holds or is held by a held-out one; held-out ones.
    """
    chosen = np.random.default_rng(seed).choice(len(sentences), n_held_out, replace=False)
    held_out = [sentences[i] for i in chosen]
    keys = [_key(sentence) for sentence in held_out]
    train = [s for s in sentences if not any(k in _key(s) or _key(s) in k for k in keys)]
    return train, held_out


def _is_usable(sentence: str) -> bool:
    return bool(_PLAIN.fullmatch(sentence)) and not _SPOKEN_OTHERWISE.search(sentence)


def _key(sentence: str) -> str:
    return re.sub(r"[^a-z]", "", sentence.lower())
