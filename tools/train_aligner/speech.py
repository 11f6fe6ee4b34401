"""Sentences, and two synthesizers that say them with the times of their phones.

Takes Debian's fortune files, and its `libflite1` (functions and relations of Flite 2.2's `flite.h`
and `cst_item.h`) and `libespeak-ng1` (constants and structures of `speak_lib.h` 1.51).
"""

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from bench.corpus import SAMPLE_RATE_HZ, Waveform

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

FLITE_VOICES, HELD_OUT_VOICE = ("slt", "awb", "rms"), "kal16"
ESPEAK_ACCENTS = [f"gmw/en{x}" for x in ("-US", "", "-GB-scotland", "-GB-x-rp", "-US-nyc", "-029")]
# fmt: off
ESPEAK_VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5",
    "Andy", "Annie", "Gene", "Lee", "Michael", "Mike", "adam", "caleb", "david", "ed",
    "grandma", "john", "linda", "paul", "steph", "travis", "victor", "zac", "Alicia", "belinda",
)
# fmt: on
MAX_WORDS_IN_GROUP = 3


@dataclass(frozen=True)
class Interval:
    """A phone or a word and its span in seconds; NaN where a time is not known."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class WordGroup:
    """Words that share their phones: one word, or up to three that were spoken as one."""

    words: tuple[str, ...]
    phones: tuple[Interval, ...]

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


def read_sentences() -> list[str]:
    """Collect the sentences of fortune files that are spoken as they are written, each once."""
    found: dict[str, str] = {}
    for path in sorted(FORTUNES.glob("*.u8")):
        for fortune in path.read_text(encoding="utf-8", errors="ignore").split("\n%"):
            for sentence in re.split(r"(?<=[.?!])\s+", " ".join(fortune.split())):
                if _PLAIN.fullmatch(sentence) and not _SPOKEN_OTHERWISE.search(sentence):
                    found.setdefault(_key(sentence), sentence)
    return sorted(found.values())


def split_sentences(sentences: list[str], n_held_out: int) -> tuple[list[str], list[str]]:
    """Return sentences to train on, none of which holds or is held by the others; held-out ones."""
    chosen = np.random.default_rng(1234).choice(len(sentences), n_held_out, replace=False)
    held_out = [sentences[i] for i in chosen]
    keys = [_key(sentence) for sentence in held_out]
    train = [s for s in sentences if not any(k in _key(s) or _key(s) in k for k in keys)]
    return train, held_out


def _key(sentence: str) -> str:
    return re.sub(r"[^a-z]", "", sentence.lower())


def _load(name: str, package: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError as exc:
        raise RuntimeError(f"{name} cannot be loaded: apt-get install {package}") from exc


_POINTER, _TEXT, _FLOAT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", _TEXT),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class _Voice(ctypes.Structure):
    _fields_ = (("name", _TEXT), ("features", _POINTER))


_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "flite_synth_text": (_POINTER, (_TEXT, _POINTER)),
    "utt_relation": (_POINTER, (_POINTER, _TEXT)),
    "utt_wave": (ctypes.POINTER(_Wave), (_POINTER,)),
    "relation_head": (_POINTER, (_POINTER,)),
    "item_next": (_POINTER, (_POINTER,)),
    "item_daughter": (_POINTER, (_POINTER,)),
    "item_as": (_POINTER, (_POINTER, _TEXT)),
    "item_feat_string": (_TEXT, (_POINTER, _TEXT)),
    "item_feat_float": (_FLOAT, (_POINTER, _TEXT)),
    "feat_set_float": (None, (_POINTER, _TEXT, _FLOAT)),
    "delete_utterance": (None, (_POINTER,)),
}


class Flite:
    """Flite's library, whose command does not print phone times."""

    def __init__(self) -> None:
        self._library = _load("libflite.so.1", "libflite1")
        for name in ("libflite_usenglish.so.1", "libflite_cmulex.so.1"):
            _load(name, "libflite1")
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._library.flite_init()
        self._voices: dict[str, int] = {}
        for voice in (*FLITE_VOICES, HELD_OUT_VOICE):
            library = _load(f"libflite_cmu_us_{voice}.so.1", "libflite1")
            register = getattr(library, f"register_cmu_us_{voice}")
            register.restype, register.argtypes = _POINTER, (_TEXT,)
            self._voices[voice] = register(None)

    def speak(self, text: str, voice: str, stretch: float) -> Speech | None:
        """Say a sentence with durations times `stretch`.

        Returns:
            None where Flite's tokens are not the words as written.
        """
        handle = self._voices[voice]
        features = ctypes.cast(handle, ctypes.POINTER(_Voice)).contents.features
        self._library.feat_set_float(features, b"duration_stretch", stretch)
        utterance = self._library.flite_synth_text(text.encode(), handle)
        try:
            wave = self._library.utt_wave(utterance).contents
            samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
            words, tokens = text.split(), list(self._tokens(utterance))
        finally:
            self._library.delete_utterance(utterance)
        pairs = list(zip(words, tokens, strict=False))
        if len(words) != len(tokens) or not all(
            name in word and phones and letters_of(word) for word, (name, phones) in pairs
        ):
            return None
        return Speech(samples, tuple(WordGroup((word,), phones) for word, (_, phones) in pairs))

    def _tokens(self, utterance: int) -> Iterator[tuple[str, tuple[Interval, ...]]]:
        """Walk token → word → syllable → segment, and look up each segment's times."""
        library = self._library
        phones: dict[int, Interval] = {}
        end_s = 0.0
        for segment in self._items(utterance, b"Segment"):
            start_s, end_s = end_s, library.item_feat_float(segment, b"end")
            name = library.item_feat_string(segment, b"name").decode()
            phones[segment] = Interval(name, start_s, end_s)
        for token in self._items(utterance, b"Token"):
            words = [library.item_as(w, b"SylStructure") for w in self._daughters(token)]
            syllables = [s for w in words if w for s in self._daughters(w)]
            segments = [x for s in syllables for x in self._daughters(s)]
            found = [phones[library.item_as(x, b"Segment")] for x in segments]
            yield library.item_feat_string(token, b"name").decode(), tuple(found)

    def _items(self, utterance: int, relation: bytes) -> Iterator[int]:
        relation_of = self._library.utt_relation(utterance, relation)
        return self._from(self._library.relation_head(relation_of))

    def _daughters(self, item: int) -> Iterator[int]:
        return self._from(self._library.item_daughter(item))

    def _from(self, item: int | None) -> Iterator[int]:
        while item:
            yield item
            item = self._library.item_next(item)


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


Mark = tuple[float, str | None, int]
"""What eSpeak announces: the second, the name of a phone (None: a word), the place in the text."""


class Espeak:
    """eSpeak NG's library; one instance a process, since the library has one state."""

    def __init__(self) -> None:
        self._library = _load("libespeak-ng.so.1", "libespeak-ng1")
        self._rate_hz: int = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, None, _PHONEME_EVENTS
        )
        self._blocks: list[Waveform] = []
        self._marks: list[Mark] = []
        self._callback = _Callback(self._receive)  # kept: ctypes does not hold a reference
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: str, rate: int, pitch: int, spread: int) -> Speech | None:
        """Say a sentence.

        Args:
            text: One sentence.
            voice: An accent and a variant, as `gmw/en-US+f3`.
            rate: Words a minute.
            pitch: 0 to 100.
            spread: Of the pitch, 0 (monotone) to 100.

        Returns:
            None where phones cannot be told apart by word.
        """
        self._blocks.clear()
        self._marks.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {voice}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, spread)):
            self._library.espeak_SetParameter(parameter, value, 0)
        raw = text.encode()
        self._library.espeak_Synth(raw, len(raw) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        samples = np.concatenate(self._blocks)
        groups = _group(text, self._marks, len(samples) / self._rate_hz)
        if groups is None:
            return None
        resampled = resample_poly(samples.astype(np.float32), SAMPLE_RATE_HZ, self._rate_hz)
        return Speech(np.clip(resampled, -32768, 32767).astype(np.int16), groups)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while (event := events[index]).type != 0:
            if event.type in {_WORD_EVENT, _PHONEME_EVENT}:
                is_phone = event.type == _PHONEME_EVENT
                name = event.id.decode("utf-8", "replace") if is_phone else None
                self._marks.append((event.audio_position_ms / 1000, name, event.text_position - 1))
            index += 1
        return 0


def _group(text: str, marks: list[Mark], end_s: float) -> tuple[WordGroup, ...] | None:
    """Give each word its phones; a word without any joins the word before it."""
    words = list(re.finditer(r"\S+", text))
    phones = _phones_by_word([m.span() for m in words], marks, end_s)
    if phones is None or 0 not in phones or not all(letters_of(m.group()) for m in words):
        return None
    groups: list[WordGroup] = []
    for index, match in enumerate(words):
        joined = () if index in phones else groups.pop().words
        groups.append(WordGroup((*joined, match.group()), tuple(phones[index - len(joined)])))
    starts = [phone.start_s for group in groups for phone in group.phones]
    too_long = any(len(group.words) > MAX_WORDS_IN_GROUP for group in groups)
    return None if too_long or starts != sorted(starts) else tuple(groups)


def _phones_by_word(
    spans: list[tuple[int, int]], marks: list[Mark], end_s: float
) -> dict[int, list[Interval]] | None:
    """Assign each phone to the word announced last; None if a word is not in the text."""
    phones: dict[int, list[Interval]] = {}
    word: int | None = None
    for index, (time_s, name, character) in enumerate(marks):
        if name is None:
            word = next((i for i, (a, b) in enumerate(spans) if a <= character < b), None)
            if word is None:
                return None
        elif word is not None and name and not name.startswith("_"):
            until_s = next((t for t, phone, _ in marks[index + 1 :] if phone is not None), end_s)
            if until_s > time_s:
                phones.setdefault(word, []).append(Interval("espeak " + name, time_s, until_s))
    return phones
