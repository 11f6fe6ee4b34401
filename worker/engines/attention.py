"""Attention: words' times out of Whisper's own cross-attention, where no aligner gives them.

Takes what a batch was decoded from and to; returns each text's words. The path from tokens to
frames is CTranslate2's (`Whisper.align`, after ``openai/whisper/timing.py``). Punctuation at a
word's ends has none of its time. A model attends to its words late or early by a constant of its
own, which is taken off. Raises nothing of its own.
"""

from __future__ import annotations

import logging
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import ctranslate2
import numpy as np
import numpy.typing as npt
import regex
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_ctranslate2_storage

from bucketscribe_contract import WordTiming
from worker.engines.alignment.labels import SPACELESS, is_silent
from worker.types import SAMPLE_RATE_HZ, TimedWord, letters

Samples = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]
Span = tuple[int, int]

LAG_S: Mapping[str, float] = {"tiny.en": 0.097, "base": -0.049}
"""Seconds by which a model attends to words too late: ``python -m tools.fit_attention``.

By its name in the profile; one that is not here has not been fitted, and none is taken off.
"""
SHORTEST_S = 0.02
_FRAME_S = 0.02
_MEL_SAMPLES = 160
_LOUDNESS_S = 0.01
_SPACELESS = regex.compile(f"[{SPACELESS}]")

logger = logging.getLogger(__name__)


def time_words(
    model: WhisperModel,
    encoded: ctranslate2.StorageView,
    tokenizer: Tokenizer,
    tokens: Sequence[Sequence[int]],
    chunks: Sequence[Samples],
    lag_s: float,
) -> list[tuple[TimedWord, ...]]:
    """Return each chunk's words, in seconds from its start; they hold every letter of its text.

    Args:
        model: What decoded the batch.
        encoded: Its encoder's output, (n_chunks, n_frames, n_dimensions).
        tokenizer: Of the job's language and task.
        tokens: Of each text, no special ones among them; none where no times are wanted.
        chunks: The sound of each at 16 kHz, in [-1, 1).
        lag_s: The model's, of `LAG_S`.
    """
    n_mels = [len(c) // _MEL_SAMPLES if row else 0 for c, row in zip(chunks, tokens, strict=True)]
    start = tokenizer.sot_sequence
    timed: list[tuple[TimedWord, ...]] = [()] * len(tokens)
    for i, found in _align(model.model, encoded, start, tokens, n_mels):
        prefixes = [tokens[i][: k + 1] for k in range(len(tokens[i]))]
        text, begins = _place_tokens(tokenizer.tokenizer.decode_batch(prefixes))
        spans = split_words(text, begins)
        parts = [spoken_tokens(text, begins, span) for span in spans]
        times = _begin_s(found.alignments, len(tokens[i]), len(chunks[i])) - lag_s
        bounds = keep_apart(
            times[[first for first, _ in parts]],
            times[[stop for _, stop in parts]],
            len(chunks[i]) / SAMPLE_RATE_HZ,
        )
        scores = [float(np.mean(found.text_token_probs[a:b])) for a, b in parts]
        words = (
            TimedWord(text[slice(*span)], s, e, min(max(score, 0.0), 1.0), WordTiming.ATTENTION)
            for span, s, e, score in zip(spans, *bounds, scores, strict=True)
        )
        timed[i] = tuple(_without_pause(word, chunks[i]) for word in words)
    return timed


def shifted(words: Iterable[TimedWord], start: float, end: float) -> tuple[TimedWord, ...]:
    """Return the words of a chunk on the waveform's clock.

    Args:
        words: In seconds from the chunk's start.
        start: Of the chunk on the waveform, in seconds.
        end: Of the chunk; nothing ends after it.
    """
    return tuple(
        replace(
            word,
            start=min(round(word.start + start, 3), end),
            end=min(round(word.end + start, 3), end),
        )
        for word in words
    )


class LetterTimes:
    """When each letter of a text is said, by its timed words: a word's letters share its time.

    Args:
        words: With all letters of the text, in order.
    """

    def __init__(self, words: Sequence[TimedWord]) -> None:
        self._words = words
        self._bounds = list(accumulate((len(letters(w.word)) for w in words), initial=0))

    def cut(self, first: int, stop: int) -> tuple[TimedWord, ...]:
        """Return the words, or parts of them, that hold the letters from ``first`` to ``stop``."""
        found = []
        for k in range(bisect_right(self._bounds, first) - 1, len(self._words)):
            a, b = self._bounds[k], self._bounds[k + 1]
            if a >= stop:
                break
            found.append(_part(self._words[k], max(first - a, 0), min(stop, b) - a, b - a))
        return tuple(found)


def split_words(text: str, begins: Sequence[int]) -> list[Span]:
    """Return where each word of a text begins and ends.

    White space divides words; where the script has none, so does the beginning of a token.

    Args:
        text: Of one chunk.
        begins: Where each token begins in it.
    """
    found: list[Span] = []
    cuts = set(begins)
    for run in regex.finditer(r"\S+", text):
        at = [run.start()]
        for i in range(run.start() + 1, run.end()):
            is_whole = any(c.isalnum() for c in text[at[-1] : i])
            is_cut = i in cuts and is_whole and _opens(text[i])
            if is_cut and _SPACELESS.search(text, at[-1], i + 1):
                at.append(i)
        found += pairwise([*at, run.end()])
    return found


def spoken_tokens(text: str, begins: Sequence[int], span: Span) -> Span:
    """Return the first token of a word and the one after its last, punctuation left out.

    Args:
        text: Of one chunk.
        begins: Where each token begins in it; one that ends within a character begins where the
            character does.
        span: The word's characters.
    """
    spoken = [i for i in range(*span) if not is_silent(text[i])] or range(*span)
    first = bisect_left(begins, begins[bisect_right(begins, spoken[0]) - 1])
    return first, bisect_right(begins, spoken[-1])


def keep_apart(starts: Times, ends: Times, duration_s: float) -> tuple[list[float], list[float]]:
    """Return times within the chunk, in order, none of them shorter than `SHORTEST_S`.

    Where the chunk is too short for so many words, they share it equally.

    Args:
        starts: Of the words, in seconds, (n_words,).
        ends: The same; a word ends no later than the next one starts.
        duration_s: Of the chunk.
    """
    shortest = min(SHORTEST_S, duration_s / max(len(starts), 1))
    steps = shortest * np.arange(len(starts))
    room = max(duration_s - shortest * len(starts), 0.0)
    starts = np.clip(np.maximum.accumulate(starts - steps), 0.0, room) + steps
    latest = np.append(starts[1:], duration_s)
    return starts.tolist(), np.clip(ends, np.minimum(starts + shortest, latest), latest).tolist()


def _align(
    model: ctranslate2.models.Whisper,
    encoded: ctranslate2.StorageView,
    start: Sequence[int],
    tokens: Sequence[Sequence[int]],
    n_mels: Sequence[int],
) -> Iterator[tuple[int, ctranslate2.models.WhisperAlignmentResult]]:
    """Give the number of each row with tokens, and its path; on a CPU one by one.

    That is as fast there, and no row's times depend on its batch: CTranslate2 4.8 leaves the
    padding of the shorter texts in where all chunks are equally long, which moves a word by a
    frame now and then.
    """
    wanted = [i for i, row in enumerate(tokens) if row]
    try:
        if wanted and model.device != "cpu":
            found = model.align(encoded, start, [list(row) for row in tokens], list(n_mels))
            yield from ((i, found[i]) for i in wanted)
            return
        rows = np.array(encoded)
        for i in wanted:
            row = get_ctranslate2_storage(rows[i : i + 1])
            yield i, model.align(row, start, [list(tokens[i])], n_mels[i])[0]
    except RuntimeError as exc:
        if "alignment_heads" not in str(exc):
            raise
        logger.warning("no times of words: the model's config.json names no alignment_heads")


def _place_tokens(prefixes: Sequence[str]) -> tuple[str, list[int]]:
    """Return a text and where each of its tokens begins, from the text of its first 1, 2, … n."""
    text = prefixes[-1]
    whole = (min(len(prefix.rstrip("\ufffd")), len(text)) for prefix in prefixes[:-1])
    return text, list(accumulate(whole, max, initial=0))


def _begin_s(path: Sequence[Span], n_tokens: int, n_samples: int) -> Times:
    """Return when each token begins, and the end of the text, in seconds: (n_tokens + 1,).

    A chunk too short for a path is shared among its tokens.
    """
    if not path:
        return np.linspace(0.0, n_samples / SAMPLE_RATE_HZ, n_tokens + 1)
    pairs = np.array(path)
    _, first = np.unique(pairs[:, 0], return_index=True)
    times: Times = pairs[first[: n_tokens + 1], 1] * _FRAME_S
    return times


def _without_pause(word: TimedWord, chunk: Samples) -> TimedWord:
    """Shorten a word that is too long for its letters to where it is loudest.

    Before or after a pause, attention gives a word the pause too: the one or the other, by model.
    """
    longest_s = 0.2 + 0.08 * sum(1 if c.isalpha() else 5 for c in word.word if not is_silent(c))
    if word.end - word.start <= longest_s:
        return word
    step = int(_LOUDNESS_S * SAMPLE_RATE_HZ)
    sound = chunk[int(word.start * SAMPLE_RATE_HZ) : int(word.end * SAMPLE_RATE_HZ)]
    frames = sound[: len(sound) // step * step].reshape(-1, step)
    louder = np.append(0.0, np.cumsum(np.sqrt(np.mean(frames**2, axis=1, dtype=np.float64))))
    n = int(longest_s / _LOUDNESS_S)
    if len(louder) <= n:
        return word
    start = word.start + _LOUDNESS_S * int(np.argmax(louder[n:] - louder[:-n]))
    return replace(word, start=start, end=min(start + longest_s, word.end))


def _part(word: TimedWord, first: int, stop: int, count: int) -> TimedWord:
    """Return some of a word's letters, with their share of its time."""
    if (first, stop) == (0, count):
        return word
    share = (word.end - word.start) / count
    return replace(
        word,
        word=letters(word.word)[first:stop],
        start=word.start + share * first,
        end=word.start + share * stop,
    )


def _opens(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char) in ("Ps", "Pi")
