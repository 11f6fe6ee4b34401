"""Whisper: chunks of up to 30 s of sound in, their text and scores out, on CTranslate2.

Features, prompt, search and score are those of ``whisperx.asr`` (3.8.6), so the text is too; what
whisperx keeps on its pipeline between calls is an argument here. Rows of a batch do not touch each
other: text and scores are bit-identical for any batch and order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_ctranslate2_storage
from whisperx.audio import N_SAMPLES, log_mel_spectrogram

Samples = npt.NDArray[np.float32]
BEAMS = 5
MAX_PROMPT_TOKENS = 223
"""Half of Whisper's context. faster-whisper cuts prompt and hotwords at so many each, silently,
which leaves no room for the text; here both share one budget, and a cut is told."""
_DEFAULT_MELS = 80


@dataclass(frozen=True)
class Prompt:
    """What is given to Whisper before each chunk."""

    initial_prompt: str | None
    hotwords: str | None
    was_cut: bool


@dataclass(frozen=True)
class DecodedChunk:
    """What Whisper made of one chunk; ``text`` as decoded, leading space included."""

    text: str
    avg_logprob: float


@dataclass(frozen=True)
class DecodingOptions:
    """How one job's chunks are decoded: made for it, gone with it."""

    tokenizer: Tokenizer
    prompt: tuple[int, ...]


@dataclass(frozen=True)
class Whisper:
    """A Whisper model, loaded.

    Attributes:
        model: faster-whisper's; several threads may use it at once.
        runs: Batches that it can run side by side.
        core: What a batch is decoded in: `worker.models.cpu_lanes.CpuLanes.core`.
    """

    model: WhisperModel
    runs: int
    core: Callable[[], AbstractContextManager[object]] = nullcontext

    def decoding_options(self, language: str, prompt: Prompt) -> DecodingOptions:
        """Return how a job in a language, with a prompt, is decoded."""
        multilingual = self.model.model.is_multilingual
        tokenizer = Tokenizer(
            self.model.hf_tokenizer, multilingual, task="transcribe", language=language
        )
        text = prompt.initial_prompt
        before = tokenizer.encode(" " + text.strip()) if text is not None else []
        tokens = self.model.get_prompt(
            tokenizer, before, without_timestamps=True, hotwords=prompt.hotwords
        )
        return DecodingOptions(tokenizer, tuple(tokens))

    def decode(self, chunks: Sequence[Samples], options: DecodingOptions) -> list[DecodedChunk]:
        """Return the text of every chunk.

        Args:
            chunks: Each up to 30 s at 16 kHz, in [-1, 1).
            options: Of the job.
        """
        features = [self._features(chunk) for chunk in chunks]
        with self.core():
            results = self.model.model.generate(
                self._encode_all(features),
                [list(options.prompt)] * len(chunks),
                beam_size=BEAMS,
                max_length=self.model.max_length,
                return_scores=True,
            )
        found = [result.sequences_ids[0] for result in results]
        end = options.tokenizer.eot
        spoken = [[token for token in tokens if token < end] for tokens in found]
        texts = options.tokenizer.tokenizer.decode_batch(spoken)
        return [
            DecodedChunk(text, float(result.scores[0] * len(tokens) / (len(tokens) + 1)))
            for text, tokens, result in zip(texts, found, results, strict=True)
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

    def _encode_all(self, features: Sequence[Samples]) -> object:
        """Encode a batch; on a CPU one by one.

        A chunk's attention alone is heads x 1500 x 1500 x 4 bytes: 432 MB for a batch of 8 of
        the tiny model, and one core is as busy with one chunk as with 8.
        """
        if self.model.model.device != "cpu":
            return self._encode(np.stack(features))
        rows = [np.array(self._encode(one[None])) for one in features]
        return get_ctranslate2_storage(np.concatenate(rows))

    def _encode(self, features: npt.NDArray[np.float32]) -> object:
        return self.model.model.encode(get_ctranslate2_storage(features), to_cpu=False)


def fit_prompt(
    initial_prompt: str | None, hotwords: str | None, tokenizer: tokenizers.Tokenizer
) -> Prompt:
    """Return both texts within `MAX_PROMPT_TOKENS`: hotwords first, then the prompt's end."""
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
