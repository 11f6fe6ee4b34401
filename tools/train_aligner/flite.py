"""Speech from Flite's C library, with the phone times that its command does not print.

Needs Debian's `libflite1`. Functions and relations are those of Flite 2.2's
`include/flite.h` and `cst_item.h`.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tools.train_aligner.speech import SAMPLE_RATE_HZ, Phone, Speech, WordGroup, letters_of

VOICES = ("slt", "awb", "rms")
HELD_OUT_VOICE = "kal16"

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


@dataclass(frozen=True)
class _Token:
    name: str
    phones: tuple[Phone, ...]


class Flite:
    """Flite's library with the voices of this project registered."""

    def __init__(self) -> None:
        self._library = _load("libflite.so.1")
        for name in ("libflite_usenglish.so.1", "libflite_cmulex.so.1"):
            _load(name)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._library.flite_init()
        self._voices = {name: _register(name) for name in (*VOICES, HELD_OUT_VOICE)}

    def speak(self, text: str, voice: str, stretch: float) -> Speech | None:
        """Say a sentence.

        Args:
            text: One sentence.
            voice: One of `VOICES`, or `HELD_OUT_VOICE`.
            stretch: Factor on durations; 1 is the voice's own pace.

        Returns:
            The speech, or None where Flite's tokens are not the words as written.
        """
        handle = self._voices[voice]
        features = ctypes.cast(handle, ctypes.POINTER(_Voice)).contents.features
        self._library.feat_set_float(features, b"duration_stretch", stretch)
        utterance = self._library.flite_synth_text(text.encode(), handle)
        try:
            return self._read(utterance, text.split())
        finally:
            self._library.delete_utterance(utterance)

    def _read(self, utterance: int, words: list[str]) -> Speech | None:
        wave = self._library.utt_wave(utterance).contents
        if wave.sample_rate != SAMPLE_RATE_HZ:
            raise ValueError(f"voice speaks at {wave.sample_rate} Hz, not {SAMPLE_RATE_HZ}")
        tokens = list(self._tokens(utterance))
        if len(tokens) != len(words) or not all(map(_is_said, words, tokens)):
            return None
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
        groups = (WordGroup((w,), t.phones) for w, t in zip(words, tokens, strict=True))
        return Speech(samples, tuple(groups))

    def _tokens(self, utterance: int) -> Iterator[_Token]:
        """Walk token → word → syllable → segment, and look up each segment's times."""
        library, phones = self._library, self._phones(utterance)
        for token in self._chain(utterance, b"Token"):
            found = [
                phones[library.item_as(segment, b"Segment")]
                for word in self._daughters(token)
                for syllable in self._daughters(library.item_as(word, b"SylStructure"))
                for segment in self._daughters(syllable)
            ]
            yield _Token(library.item_feat_string(token, b"name").decode(), tuple(found))

    def _phones(self, utterance: int) -> dict[int, Phone]:
        phones: dict[int, Phone] = {}
        start = 0.0
        for segment in self._chain(utterance, b"Segment"):
            name = self._library.item_feat_string(segment, b"name").decode()
            end = self._library.item_feat_float(segment, b"end")
            phones[segment] = Phone(name, start, end)
            start = end
        return phones

    def _chain(self, utterance: int, relation: bytes) -> Iterator[int]:
        yield from self._siblings(
            self._library.relation_head(self._library.utt_relation(utterance, relation))
        )

    def _daughters(self, item: int | None) -> Iterator[int]:
        yield from self._siblings(self._library.item_daughter(item) if item else None)

    def _siblings(self, item: int | None) -> Iterator[int]:
        while item:
            yield item
            item = self._library.item_next(item)


def _is_said(word: str, token: _Token) -> bool:
    return token.name in word and bool(token.phones) and bool(letters_of(word))


def _load(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError as exc:
        raise RuntimeError(f"{name} cannot be loaded: apt-get install libflite1") from exc


def _register(voice: str) -> int:
    library = _load(f"libflite_cmu_us_{voice}.so.1")
    register = getattr(library, f"register_cmu_us_{voice}")
    register.restype, register.argtypes = _POINTER, (_TEXT,)
    handle: int = register(None)
    return handle
