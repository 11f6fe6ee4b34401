"""What a recogniser said, read from WhisperX's JSON or from our ``transcription.json``.

Both have ``segments[]`` with ``text``, ``speaker`` and ``words[]``; in WhisperX's a key may be
missing where in ours it is null.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from bench.references import Turn

NOBODY = ""
"""The speaker of words that were given to no speaker."""


@dataclass(frozen=True)
class SpokenWord:
    """One recognised word; times are None where the aligner found none."""

    text: str
    start_s: float | None
    end_s: float | None
    speaker: str
    segment: int


@dataclass(frozen=True)
class Hypothesis:
    """One recording as it was recognised.

    Attributes:
        text: All segments' texts, in order.
        words: In order.
    """

    text: str
    words: tuple[SpokenWord, ...]

    @property
    def speakers(self) -> frozenset[str]:
        """Everybody who was given a word."""
        return frozenset(word.speaker for word in self.words) - {NOBODY}

    def text_by_speaker(self) -> dict[str, str]:
        """Collect each speaker's words, in order; `NOBODY`'s too."""
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for word in self.words:
            texts[word.speaker].append(word.text)
        return {speaker: " ".join(words) for speaker, words in texts.items()}

    def turns(self) -> tuple[Turn, ...]:
        """Tell who speaks when, by the words: what a reader of the transcript is told.

        A turn is a run of one speaker's words in one segment, from the start of its first timed
        word to the end of its last; pauses inside a sentence belong to it.
        """
        runs = groupby(self.words, key=lambda word: (word.segment, word.speaker))
        turns = (_turn(speaker, list(words)) for (_, speaker), words in runs if speaker != NOBODY)
        return tuple(turn for turn in turns if turn)


def read_transcript(document: Mapping[str, Any]) -> Hypothesis:
    """Read a transcript document, WhisperX's or ours."""
    segments = document["segments"]
    return Hypothesis(
        text=" ".join(segment["text"].strip() for segment in segments),
        words=tuple(
            word for index, segment in enumerate(segments) for word in _words(index, segment)
        ),
    )


def _words(index: int, segment: Mapping[str, Any]) -> list[SpokenWord]:
    """Read a segment's words; one without words still has its text and its speaker."""
    speaker = segment.get("speaker") or NOBODY
    if not segment.get("words"):
        return [SpokenWord(text, None, None, speaker, index) for text in segment["text"].split()]
    return [
        SpokenWord(
            text=word["word"],
            start_s=word.get("start"),
            end_s=word.get("end"),
            speaker=word.get("speaker") or speaker,
            segment=index,
        )
        for word in segment["words"]
    ]


def _turn(speaker: str, words: list[SpokenWord]) -> Turn | None:
    starts = [word.start_s for word in words if word.start_s is not None]
    ends = [word.end_s for word in words if word.end_s is not None]
    return Turn(min(starts), max(ends), speaker) if starts and ends else None
