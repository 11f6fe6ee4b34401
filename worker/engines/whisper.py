"""Whisper: chunks of up to 30 s of sound in, their text and scores out, on CTranslate2.

Features, prompt, search and score are those of ``whisperx.asr`` (3.8.6), so the text is too; what
whisperx keeps on its pipeline between calls is an argument here. Rows of a batch do not touch each
other: text and scores are bit-identical for any batch and order. Unless stock's text is wanted,
what was cut off or goes round in circles is decoded again, and what stays doubtful is flagged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from ctranslate2 import DataType, Device, StorageView
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_ctranslate2_storage
from whisperx.audio import N_SAMPLES, log_mel_spectrogram
from whisperx.utils import LANGUAGES

from bucketscribe_contract import Flag
from worker.engines.attention import LAG_S, shifted, time_words
from worker.engines.doubt import compression_ratio, flags, is_confirmed, is_echo, is_loop, rank
from worker.types import TimedWord

Samples = npt.NDArray[np.float32]
BEAMS = 5
MAX_PROMPT_TOKENS = 223
"""Half of Whisper's context. faster-whisper cuts prompt and hotwords at so many each, silently,
which leaves no room for the text; here both share one budget, and a cut is told."""
UNREPEATED_TOKENS = 5
"""No so many tokens come twice where a loop is decoded again."""
BROKEN = "\ufffd"
_TOKENS_OF_CHARACTERS = 8
"""More than the tokens that can end within a character before one ends with it."""
_DEFAULT_MELS = 80


@dataclass(frozen=True)
class Prompt:
    """What is given to Whisper before each chunk."""

    initial_prompt: str | None
    hotwords: str | None
    was_cut: bool


@dataclass(frozen=True)
class DecodedChunk:
    """What Whisper made of one chunk.

    Attributes:
        text: As decoded, leading space included.
        tokens: The text's.
        avg_logprob: Mean log-probability of the tokens and the end.
        no_speech_prob: How probable it is that nobody speaks.
        is_cut: Whether the tokens ran out before the text ended.
        flags: Why the text is doubtful.
        words: In seconds from the chunk's start; none where no times were wanted.
    """

    text: str
    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float
    is_cut: bool = False
    flags: tuple[Flag, ...] = ()
    words: tuple[TimedWord, ...] = ()

    @property
    def compression_ratio(self) -> float:
        """How many times smaller zlib makes the text."""
        return compression_ratio(self.text)

    def then(self, other: DecodedChunk, after_s: float) -> DecodedChunk:
        """Return both as one chunk, this one first, the other so many seconds after its start."""
        counts = len(self.tokens) + 1, len(other.tokens) + 1
        logprobs = self.avg_logprob, other.avg_logprob
        return DecodedChunk(
            text=self.text + other.text,
            tokens=self.tokens + other.tokens,
            avg_logprob=sum(n * one for n, one in zip(counts, logprobs, strict=True)) / sum(counts),
            no_speech_prob=max(self.no_speech_prob, other.no_speech_prob),
            is_cut=self.is_cut or other.is_cut,
            flags=tuple(dict.fromkeys(self.flags + other.flags)),
            words=self.words + shifted(other.words, after_s, math.inf),
        )


@dataclass(frozen=True)
class DecodingOptions:
    """How one job's chunks are decoded: made for it, gone with it.

    Attributes:
        tokenizer: Of the job's language and task.
        prompt: The tokens before each chunk's text.
        is_stock: Whether whisperx's text is wanted.
        prompt_text: What of the prompt the user gave.
        needs_times: Tells which texts' words are timed by attention.
        check: Called before every chunk and search; may raise to stop.
    """

    tokenizer: Tokenizer
    prompt: tuple[int, ...]
    is_stock: bool = False
    prompt_text: str = ""
    needs_times: Callable[[str], bool] = lambda _: False
    check: Callable[[], None] = lambda: None

    @property
    def unprompted(self) -> DecodingOptions:
        """The same without the user's prompt."""
        start = self.prompt.index(self.tokenizer.sot)
        return replace(self, prompt=self.prompt[start:], prompt_text="")


@dataclass(frozen=True)
class Whisper:
    """A Whisper model, loaded.

    Attributes:
        model: faster-whisper's; several threads may use it at once.
        runs: Batches that it can run side by side.
        core: What a batch is decoded in: `worker.models.cpu_lanes.CpuLanes.core`.
        name: What the profile calls it.
    """

    model: WhisperModel
    runs: int
    core: Callable[[], AbstractContextManager[object]] = nullcontext
    name: str = ""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model can hear."""
        if not self.model.model.is_multilingual:
            return ("en",)
        token = self.model.hf_tokenizer.token_to_id
        return tuple(code for code in LANGUAGES if token(f"<|{code}|>") is not None)

    @property
    def can_translate(self) -> bool:
        """Whether the model has learnt it: turbo and the distilled ones have not."""
        has_learnt = not any(kind in self.name for kind in ("turbo", "distil"))
        return has_learnt and bool(self.model.model.is_multilingual)

    def decoding_options(
        self, language: str, prompt: Prompt, task: str = "transcribe", is_stock: bool = False
    ) -> DecodingOptions:
        """Return how a job in a language, with a prompt, is decoded."""
        multilingual = self.model.model.is_multilingual
        tokenizer = Tokenizer(self.model.hf_tokenizer, multilingual, task=task, language=language)
        text = prompt.initial_prompt
        before = tokenizer.encode(" " + text.strip()) if text is not None else []
        tokens = self.model.get_prompt(
            tokenizer, before, without_timestamps=True, hotwords=prompt.hotwords
        )
        prompt_text = f"{prompt.hotwords or ''} {text or ''}"
        return DecodingOptions(tokenizer, tuple(tokens), is_stock, prompt_text)

    def decode(self, chunks: Sequence[Samples], options: DecodingOptions) -> list[DecodedChunk]:
        """Return the text of every chunk.

        Args:
            chunks: Each up to 30 s at 16 kHz, in [-1, 1).
            options: Of the job.
        """
        features = [self._features(chunk) for chunk in chunks]
        with self.core():
            encoded = self._encode_all(features, options.check)
            found = self._generate(encoded, len(chunks), options, self.model.max_length)
            if not options.is_stock:
                found = self._timed(encoded, self._mend(encoded, found, options), chunks, options)
        return found

    def _timed(
        self,
        encoded: StorageView,
        found: Sequence[DecodedChunk],
        chunks: Sequence[Samples],
        options: DecodingOptions,
    ) -> list[DecodedChunk]:
        """Time the words of those texts that need it."""
        tokens = [one.tokens if options.needs_times(one.text) else () for one in found]
        lag_s = LAG_S.get(self.name, 0.0)
        words = time_words(self.model, encoded, options.tokenizer, tokens, chunks, lag_s)
        return [replace(one, words=said) for one, said in zip(found, words, strict=True)]

    def _mend(
        self, encoded: StorageView, found: Sequence[DecodedChunk], options: DecodingOptions
    ) -> list[DecodedChunk]:
        """Decode again what was cut off, then what loops; keep the better, flag what is doubtful.

        By beam search too, so that a job gives the same text each time.
        """
        best = list(found)
        cut = [n for n, one in enumerate(best) if one.is_cut and not is_loop(one.text)]
        for n, whole in zip(cut, self._again(encoded, cut, options), strict=True):
            best[n] = whole
        loops = [n for n, one in enumerate(best) if is_loop(one.text)]
        unlooped = self._again(encoded, loops, options, no_repeat_ngram_size=UNREPEATED_TOKENS)
        for n, other in zip(loops, unlooped, strict=True):
            best[n] = max(best[n], other, key=lambda one: rank(one.text))
        judged = [_judged(one, options.tokenizer) for one in best]
        return self._without_echoes(encoded, judged, options)

    def _without_echoes(
        self, encoded: StorageView, found: Sequence[DecodedChunk], options: DecodingOptions
    ) -> list[DecodedChunk]:
        """Hear without the prompt what seems to be the prompt come back: was it truly said?"""
        best = list(found)
        echoes = [n for n, one in enumerate(best) if is_echo(one.text, options.prompt_text)]
        for n, one in zip(echoes, self._again(encoded, echoes, options.unprompted), strict=True):
            other = _judged(one, options.tokenizer)
            if is_confirmed(best[n].text, other.text):
                continue
            if other.text.strip() and not other.flags:
                best[n] = other
            else:
                best[n] = replace(best[n], flags=(*best[n].flags, Flag.PROMPT))
        return best

    def _again(
        self,
        encoded: StorageView,
        numbers: Sequence[int],
        options: DecodingOptions,
        **search: int,
    ) -> list[DecodedChunk]:
        """Decode some of the batch's chunks with all the room that Whisper's context has."""
        if not numbers:
            return []
        rows = np.array(encoded.to(DataType.float32).to_device(Device.cpu))[list(numbers)]
        room = 2 * (self.model.max_length - len(options.prompt))  # CTranslate2 halves it
        room = max(room, self.model.max_length)
        return self._generate(get_ctranslate2_storage(rows), len(numbers), options, room, **search)

    def _generate(
        self,
        encoded: StorageView,
        count: int,
        options: DecodingOptions,
        max_length: int,
        **search: int,
    ) -> list[DecodedChunk]:
        options.check()
        results = self.model.model.generate(
            encoded,
            [list(options.prompt)] * count,
            beam_size=BEAMS,
            max_length=max_length,
            return_scores=True,
            return_no_speech_prob=True,
            **search,
        )
        most = min(max_length // 2, max_length - len(options.prompt) + 1)  # as CTranslate2 counts
        found = [result.sequences_ids[0] for result in results]
        end = options.tokenizer.eot
        spoken = [[token for token in tokens if token < end] for tokens in found]
        texts = options.tokenizer.tokenizer.decode_batch(spoken)
        return [
            DecodedChunk(
                text=text,
                tokens=tuple(said),
                avg_logprob=float(result.scores[0] * len(tokens) / (len(tokens) + 1)),
                no_speech_prob=float(result.no_speech_prob),
                is_cut=len(tokens) >= most,
            )
            for text, said, tokens, result in zip(texts, spoken, found, results, strict=True)
        ]

    def language_probabilities(self, chunk: Samples) -> dict[str, float]:
        """Return every language's probability for up to 30 s of sound."""
        found = self.model.model.detect_language(self._encode(self._features(chunk)[None]))[0]
        return {token.strip("<|>"): float(probability) for token, probability in found}

    def _features(self, chunk: Samples) -> Samples:
        """Return the chunk's log mel spectrogram, silence added up to 30 s: (n_mels, 3000)."""
        n_mels = self.model.feat_kwargs.get("feature_size") or _DEFAULT_MELS
        with torch.inference_mode():
            mel = log_mel_spectrogram(chunk, n_mels=n_mels, padding=N_SAMPLES - len(chunk))
        features: Samples = mel.numpy()
        return features

    def _encode_all(self, features: Sequence[Samples], check: Callable[[], None]) -> StorageView:
        """Encode a batch; on a CPU one by one.

        A chunk's attention alone is heads x 1500 x 1500 x 4 bytes: 432 MB for a batch of 8 of
        the tiny model, and one core is as busy with one chunk as with 8.
        """
        if self.model.model.device != "cpu":
            return self._encode(np.stack(features))
        rows = []
        for one in features:
            check()
            rows.append(np.array(self._encode(one[None])))
        return get_ctranslate2_storage(np.concatenate(rows))

    def _encode(self, features: npt.NDArray[np.float32]) -> StorageView:
        return self.model.model.encode(get_ctranslate2_storage(features), to_cpu=False)


def _judged(one: DecodedChunk, tokenizer: Tokenizer) -> DecodedChunk:
    """Flag what is doubtful; leave out what is left of a character that was cut off."""
    if BROKEN in one.text:
        tokens = whole_characters(one.tokens, tokenizer.decode)
        one = replace(one, tokens=tokens, text=tokenizer.decode(list(tokens)))
    return replace(one, flags=flags(one.text, one.avg_logprob, one.no_speech_prob, one.is_cut))


def whole_characters(
    tokens: Sequence[int], decode: Callable[[Sequence[int]], str]
) -> tuple[int, ...]:
    """Return the tokens without those of characters that are not all there."""
    kept: list[int] = []
    start = 0
    while start < len(tokens):
        for stop in range(start + 1, start + 1 + _TOKENS_OF_CHARACTERS):
            if BROKEN not in decode(tokens[start:stop]):
                kept += tokens[start:stop]
                start = stop
                break
        else:
            start += 1
    return tuple(kept)


def fit_prompt(
    initial_prompt: str | None, hotwords: str | None, tokenizer: tokenizers.Tokenizer
) -> Prompt:
    """Return both texts within `MAX_PROMPT_TOKENS`: hotwords first, then the prompt's end.

    A prompt is text: what looks like one of Whisper's special tokens is taken apart.
    """
    initial_prompt, hotwords = (
        text and text.replace("<|", "< |") for text in (initial_prompt, hotwords)
    )
    words = _token_ids(hotwords, tokenizer)
    context = _token_ids(initial_prompt, tokenizer)
    room = MAX_PROMPT_TOKENS - min(len(words), MAX_PROMPT_TOKENS)
    if len(words) + len(context) <= MAX_PROMPT_TOKENS:
        return Prompt(initial_prompt or None, hotwords or None, was_cut=False)
    return Prompt(
        initial_prompt=tokenizer.decode(context[len(context) - room :]).strip() or None,
        hotwords=tokenizer.decode(words[:MAX_PROMPT_TOKENS]).strip() or None,
        was_cut=True,
    )


def _token_ids(text: str | None, tokenizer: tokenizers.Tokenizer) -> list[int]:
    if not text or not text.strip():
        return []
    ids: list[int] = tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids
    return ids
