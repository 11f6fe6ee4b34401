"""Doubt: the text of a chunk and Whisper's figures in, what speaks against it out.

Pure rules, no model; nothing here changes a text.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence
from itertools import groupby

from bucketscribe_contract import Flag

MOST_COMPRESSION = 2.4
"""Whisper's own bound."""
RUNS = {1: 8, 2: 5, 3: 4, 4: 3}
"""Words that come again, and how many times running make a loop. Of AMI's 11,699 stretches of half
a minute, people do that in 6 at most."""
SILENT, QUIET = 0.6, 0.3
"""Probabilities that nobody speaks: doubtful by itself, and where Whisper is `UNSURE` too."""
UNSURE, UNLIKELY = -0.7, -1.0
"""Mean log-probabilities of a chunk's tokens."""
ECHO_LETTERS = 12
"""So many of the prompt's letters running, more than a name that is truly said has, are suspect."""
ECHO_SHARE, SAID_LETTERS, SAID_SHARE = 0.8, 4, 0.5
_APOSTROPHES = "'’"


def words_of(text: str) -> list[str]:
    """Return the words alone: no case, no punctuation."""
    kept = (c if _is_of_word(c) else " " for c in unicodedata.normalize("NFC", text.casefold()))
    return "".join(kept).split()


def _is_of_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN" or character in _APOSTROPHES


def compression_ratio(text: str) -> float:
    """Return how many times smaller zlib makes the text, in UTF-8, as Whisper counts."""
    return _ratio(text.encode())


def is_loop(text: str) -> bool:
    """Tell whether the text goes round in circles.

    Each character counts as one byte here: UTF-8 has three for a Tamil one, two of them nearly
    always the same, and plain speech in such a script would be a loop.
    """
    code = {character: number % 256 for number, character in enumerate(dict.fromkeys(text))}
    if _ratio(bytes(code[character] for character in text)) > MOST_COMPRESSION:
        return True
    words = words_of(text)
    return any(_again(words, size) >= size * (times - 1) for size, times in RUNS.items())


def _ratio(text: bytes) -> float:
    return len(text) / len(zlib.compress(text))


def _again(words: Sequence[str], size: int) -> int:
    """Return the most words running that are each the one ``size`` before."""
    same = (one == before for one, before in zip(words[size:], words, strict=False))
    return max((len(list(run)) for is_same, run in groupby(same) if is_same), default=0)


def is_echo(text: str, prompt: str) -> bool:
    """Tell whether nearly all of a text is the prompt's own: Whisper may have heard nothing."""
    return _share(text, prompt, ECHO_LETTERS) >= ECHO_SHARE


def is_confirmed(text: str, unprompted: str) -> bool:
    """Tell whether what Whisper hears without a prompt sounds like the text."""
    return _share(text, unprompted, SAID_LETTERS) >= SAID_SHARE


def _share(text: str, source: str, running: int) -> float:
    """Return how much of a text's letters lie in runs of so many that the source has too."""
    letters, of = "".join(words_of(text)), "".join(words_of(source))
    starts = range(len(letters) - running + 1)
    shared = [n for n in starts if letters[n : n + running] in of]
    return len({n + k for n in shared for k in range(running)}) / max(len(letters), 1)


def rank(text: str) -> tuple[bool, bool, float]:
    """Return what grows the better one of two decodings of a chunk is.

    Any text is better than none; one without a loop is better than a loop; of two loops, the one
    that repeats itself less.
    """
    return bool(text.strip()), not is_loop(text), -compression_ratio(text)


def flags(
    text: str, avg_logprob: float, no_speech_prob: float, is_cut: bool = False
) -> tuple[Flag, ...]:
    """Return why a chunk's text is doubtful; ``is_cut``: its end is missing."""
    if not text.strip():
        return ()
    unheard = no_speech_prob > SILENT or (no_speech_prob > QUIET and avg_logprob < UNSURE)
    doubts = {
        Flag.REPETITION: is_loop(text),
        Flag.NO_SPEECH: unheard,
        Flag.LOW_CONFIDENCE: is_cut or avg_logprob < UNLIKELY,
    }
    return tuple(flag for flag, is_so in doubts.items() if is_so)
