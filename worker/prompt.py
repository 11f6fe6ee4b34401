"""Fit a job's prompt and hotwords into what Whisper can take.

Whisper's context is 448 tokens for prompt and text together. faster-whisper cuts the prompt and
the hotwords at 223 tokens each, silently, and both at once leave no room for the text; here they
share one budget, and a cut is told.
"""

from __future__ import annotations

from dataclasses import dataclass

import tokenizers

MAX_PROMPT_TOKENS = 223


@dataclass(frozen=True)
class Prompt:
    """What is given to Whisper before each chunk."""

    initial_prompt: str | None
    hotwords: str | None
    was_cut: bool


def fit_prompt(
    initial_prompt: str | None, hotwords: str | None, tokenizer: tokenizers.Tokenizer
) -> Prompt:
    """Return both texts within `MAX_PROMPT_TOKENS`: hotwords first, then the prompt's end."""
    words = _encode(hotwords, tokenizer)
    context = _encode(initial_prompt, tokenizer)
    room = MAX_PROMPT_TOKENS - min(len(words), MAX_PROMPT_TOKENS)
    if len(words) + len(context) <= MAX_PROMPT_TOKENS:
        return Prompt(initial_prompt or None, hotwords or None, was_cut=False)
    return Prompt(
        initial_prompt=tokenizer.decode(context[len(context) - room :]).strip() or None,
        hotwords=tokenizer.decode(words[:MAX_PROMPT_TOKENS]).strip() or None,
        was_cut=True,
    )


def _encode(text: str | None, tokenizer: tokenizers.Tokenizer) -> list[int]:
    if not text or not text.strip():
        return []
    ids: list[int] = tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids
    return ids
