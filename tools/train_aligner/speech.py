"""What the synthesizers give: speech whose phones have exact times."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000

Waveform = NDArray[np.int16]


@dataclass(frozen=True)
class Phone:
    """A phone and its span in seconds from the start of the waveform."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class WordGroup:
    """Words that share their phones: one word, or up to three that were spoken as one."""

    words: tuple[str, ...]
    phones: tuple[Phone, ...]

    @property
    def letters(self) -> str:
        """The letters that the aligner is to find, words joined by `|`."""
        return "|".join(letters_of(word) for word in self.words)


@dataclass(frozen=True)
class Speech:
    """A synthesized sentence: int16 at 16 kHz, and its words in order."""

    waveform: Waveform
    groups: tuple[WordGroup, ...]


def letters_of(word: str) -> str:
    """Keep what the aligner has a label for: capital letters and inner apostrophes."""
    return re.sub(r"[^A-Z']", "", word.upper()).strip("'")
