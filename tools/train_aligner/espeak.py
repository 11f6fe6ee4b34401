"""Speech from eSpeak NG's C library, with the times of phones and words.

Needs Debian's `libespeak-ng1`. Constants and structures are those of `speak_lib.h` 1.51.
"""

import ctypes
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from tools.train_aligner.speech import Phone, Speech, WordGroup, letters_of

ACCENTS = (
    "gmw/en-US",
    "gmw/en",
    "gmw/en-GB-scotland",
    "gmw/en-GB-x-rp",
    "gmw/en-US-nyc",
    "gmw/en-029",
)
# fmt: off
VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5",
    "Andy", "Annie", "Gene", "Lee", "Michael", "Mike", "adam", "caleb", "david", "ed",
    "grandma", "john", "linda", "paul", "steph", "travis", "victor", "zac", "Alicia", "belinda",
)
# fmt: on
MAX_WORDS_IN_GROUP = 3

_AUDIO_OUTPUT_SYNCHRONOUS, _PHONEME_EVENTS = 2, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_WORD_EVENT, _PHONEME_EVENT = 1, 7
_CHARS_UTF8, _POS_CHARACTER = 1, 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Samples, _Events = ctypes.POINTER(ctypes.c_short), ctypes.POINTER(_Event)
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, _Samples, ctypes.c_int, _Events)


@dataclass(frozen=True)
class _Mark:
    """A phone or a word as eSpeak announces it: a phone by name, a word by place in the text."""

    time_s: float
    phone: str | None
    character: int


class Espeak:
    """eSpeak NG's library; one instance a process, since the library has one state."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as exc:
            raise RuntimeError("eSpeak NG is missing: apt-get install libespeak-ng1") from exc
        self._rate_hz: int = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, None, _PHONEME_EVENTS
        )
        self._blocks: list[np.ndarray[Any, np.dtype[np.int16]]] = []
        self._marks: list[_Mark] = []
        self._callback = _Callback(self._receive)  # kept: ctypes does not hold a reference
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(
        self, text: str, voice: str, rate: int, pitch: int, pitch_range: int
    ) -> Speech | None:
        """Say a sentence.

        Args:
            text: One sentence.
            voice: An accent and a variant, as `gmw/en-US+f3`.
            rate: Words a minute.
            pitch: 0 to 100.
            pitch_range: 0 (monotone) to 100.

        Returns:
            The speech, or None where phones cannot be told apart by word.
        """
        self._blocks.clear()
        self._marks.clear()
        self._synthesize(text, voice, rate, pitch, pitch_range)
        samples = np.concatenate(self._blocks)
        groups = _group(text, self._marks, len(samples) / self._rate_hz)
        if groups is None:
            return None
        resampled = resample_poly(samples.astype(np.float32), 16_000 // 50, self._rate_hz // 50)
        return Speech(np.clip(resampled, -32768, 32767).astype(np.int16), groups)

    def _synthesize(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {voice}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        raw = text.encode()
        self._library.espeak_Synth(raw, len(raw) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while (event := events[index]).type != 0:
            if event.type in {_WORD_EVENT, _PHONEME_EVENT}:
                is_phone = event.type == _PHONEME_EVENT
                name = event.id.decode("utf-8", "replace") if is_phone else None
                self._marks.append(
                    _Mark(event.audio_position_ms / 1000, name, event.text_position - 1)
                )
            index += 1
        return 0


def _group(text: str, marks: list[_Mark], end_s: float) -> tuple[WordGroup, ...] | None:
    """Give each word its phones; a word without any joins the word before it."""
    words = [(m.start(), m.end(), m.group()) for m in re.finditer(r"\S+", text)]
    phones = _phones_by_word([(start, end) for start, end, _ in words], marks, end_s)
    if phones is None or 0 not in phones or not all(letters_of(w) for *_, w in words):
        return None
    groups: list[WordGroup] = []
    for index, (*_, word) in enumerate(words):
        if index in phones:
            groups.append(WordGroup((word,), tuple(phones[index])))
        else:
            groups[-1] = WordGroup((*groups[-1].words, word), groups[-1].phones)
    starts = [phone.start_s for group in groups for phone in group.phones]
    too_long = any(len(group.words) > MAX_WORDS_IN_GROUP for group in groups)
    return None if too_long or starts != sorted(starts) else tuple(groups)


def _phones_by_word(
    spans: list[tuple[int, int]], marks: list[_Mark], end_s: float
) -> dict[int, list[Phone]] | None:
    """Assign each phone to the word announced last; None if a word is not in the text."""
    phones: dict[int, list[Phone]] = {}
    word: int | None = None
    for index, mark in enumerate(marks):
        if mark.phone is None:
            word = next((i for i, (a, b) in enumerate(spans) if a <= mark.character < b), None)
            if word is None:
                return None
        elif word is not None and mark.phone and not mark.phone.startswith("_"):
            until = next((m.time_s for m in marks[index + 1 :] if m.phone is not None), end_s)
            if until > mark.time_s:
                name = "espeak " + mark.phone
                phones.setdefault(word, []).append(Phone(name, mark.time_s, until))
    return phones
