"""Decoding again: what loops, what was cut off, and no chunk beside them; prompts are text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ctranslate2 import StorageView
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from whisperx.utils import LANGUAGES

from bucketscribe_contract import FailureCode, Flag, JobInput
from tests.recordings import short_speech
from worker.cancel import StageContext
from worker.engines.doubt import is_loop, rank
from worker.engines.whisper import (
    BROKEN,
    UNREPEATED_TOKENS,
    DecodedChunk,
    Prompt,
    Samples,
    Whisper,
    fit_prompt,
    whole_characters,
)
from worker.errors import WorkerError
from worker.models.load import Models
from worker.stages.transcribe import resolve_language, transcribe
from worker.types import SpeechSpan, Transcription, Waveform

PLAIN, LONG, UNLOOPED, UNPROMPTED = "plain", "long", "unlooped", "unprompted"
LOOP = " yeah" * 90
SPOKEN = " Look at all this."
ECHO = " The ship sails at noon."
NO_PROMPT = Prompt(None, None, was_cut=False)
CHUNK = np.zeros(1600, np.float32)
FOREIGN = " அம்மா சந்தைக்குச் சென்றார். 我們在海上 🎉 शाम को लौटे। " * 3
Script = Sequence[Mapping[str, str]]


@dataclass
class FakeModel:
    """CTranslate2's part: says what the script has for a chunk and a way to decode it.

    Attributes:
        script: A chunk's texts by the way; the last one for all that follow.
        ids: Gives a text's tokens.
        calls: Which chunks were decoded which way, a batch each.
    """

    script: Script
    ids: Callable[[str], list[int]]
    device: str = "cpu"
    is_multilingual: bool = False
    calls: list[tuple[str, list[int]]] = field(default_factory=list)
    encoded: int = 0
    longest_prompt: int = 0

    def encode(self, *_: Any, **__: Any) -> StorageView:
        """Return the chunk's number in the place of its sound."""
        self.encoded += 1
        return StorageView.from_array(np.full((1, 1, 1), self.encoded - 1, np.float32))

    def generate(self, encoded: StorageView, prompts: Any, **search: Any) -> list[Any]:
        """Return the scripted texts' tokens, no more than fit."""
        most = min(search["max_length"] // 2, search["max_length"] - len(prompts[0]) + 1)
        again = UNLOOPED if search.get("no_repeat_ngram_size") == UNREPEATED_TOKENS else LONG
        way = PLAIN if search["max_length"] == 448 else again
        self.longest_prompt = max(self.longest_prompt, len(prompts[0]))
        way = way if len(prompts[0]) == self.longest_prompt else UNPROMPTED
        numbers = [int(number) for number in np.array(encoded).ravel()]
        assert len(numbers) == len(prompts)
        self.calls.append((way, numbers))
        texts = [self.script[min(n, len(self.script) - 1)].get(way, "") for n in numbers]
        return [
            SimpleNamespace(
                sequences_ids=[self.ids(text)[:most]], scores=[-0.2], no_speech_prob=0.0
            )
            for text in texts
        ]


@pytest.fixture(scope="module")
def decode(models: Models) -> Callable[..., tuple[list[DecodedChunk], FakeModel]]:
    """Decode a script's chunks."""

    def run(script: Script, is_stock: bool = False) -> tuple[list[DecodedChunk], FakeModel]:
        whisper, model = faked(models, script)
        options = whisper.decoding_options("en", NO_PROMPT, is_stock=is_stock)
        return whisper.decode([CHUNK] * len(script), options), model

    return run


def faked(models: Models, script: Script) -> tuple[Whisper, FakeModel]:
    """Put a script in the place of the weights."""
    real = models.whisper.model
    fake = FakeModel(script, lambda text: real.hf_tokenizer.encode(text).ids[2:-1])
    model = SimpleNamespace(
        model=fake,
        hf_tokenizer=real.hf_tokenizer,
        get_prompt=real.get_prompt,
        max_length=real.max_length,
        feat_kwargs={},
    )
    return Whisper(model, 1, name="fake"), fake


def test_only_the_chunks_that_loop_are_decoded_again_and_in_one_batch(decode: Any) -> None:
    script = [{PLAIN: SPOKEN}, {PLAIN: LOOP, UNLOOPED: " One."}, {PLAIN: LOOP, UNLOOPED: " Two."}]
    found, model = decode([*script, {PLAIN: " Four."}])
    assert [one.text for one in found] == [SPOKEN, " One.", " Two.", " Four."]
    assert model.calls == [(PLAIN, [0, 1, 2, 3]), (UNLOOPED, [1, 2])]
    assert model.encoded == 4
    assert all(one.flags == () for one in found)


@pytest.mark.parametrize("again", ["", LOOP + LOOP])
def test_a_loop_that_stays_is_flagged(decode: Any, again: str) -> None:
    (one,), _ = decode([{PLAIN: LOOP, UNLOOPED: again}])
    assert (one.text, one.flags) == (LOOP, (Flag.REPETITION,))
    assert one.compression_ratio > 2.4


def test_stock_decodes_nothing_again(decode: Any) -> None:
    counted = " ".join(map(str, range(300)))
    (loop, cut), model = decode([{PLAIN: LOOP}, {PLAIN: counted}], is_stock=True)
    assert (loop.text, loop.flags) == (LOOP, ())
    assert counted.startswith(cut.text)
    assert len(cut.tokens) == 224
    assert [way for way, _ in model.calls] == [PLAIN]


def test_a_text_that_the_limit_cuts_off_is_decoded_whole(decode: Any) -> None:
    counted = " " + " ".join(map(str, range(300)))
    (one, other), model = decode([{PLAIN: counted, LONG: counted}, {PLAIN: SPOKEN}])
    assert (one.text, one.flags, one.is_cut) == (counted, (), False)
    assert other.text == SPOKEN
    assert model.calls == [(PLAIN, [0, 1]), (LONG, [0])]


@pytest.mark.parametrize(("count", "ways"), [(223, [PLAIN]), (224, [PLAIN, LONG])])
def test_reaching_the_limit_is_the_sign(models: Models, count: int, ways: list[str]) -> None:
    whisper, model = faked(models, [{}])
    model.ids = lambda _: list(range(1000, 1000 + count))
    whisper.decode([CHUNK], whisper.decoding_options("en", NO_PROMPT))
    assert [way for way, _ in model.calls] == ways


@pytest.mark.parametrize(
    ("regions", "cut_s"),
    [(((0.0, 1.0), (1.2, 2.0), (3.0, 4.0)), 2.5), (((0.0, 4.0),), 2.0)],
)
def test_what_no_limit_holds_is_cut_at_its_longest_pause(
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
    regions: tuple[tuple[float, float], ...],
    cut_s: float,
) -> None:
    """Or in the middle, where nobody pauses."""
    seconds: list[float] = []

    def noted(_: Whisper, chunk: Samples) -> Samples:
        seconds.append(len(chunk) / 16_000)
        return np.zeros((80, 3000), np.float32)

    monkeypatch.setattr(Whisper, "_features", noted)
    endless = " ".join(map(str, range(600)))
    script = [{PLAIN: endless, LONG: endless}, {PLAIN: " First half,"}, {PLAIN: " second half."}]
    whisper, model = faked(models, script)
    (segment,) = transcribed(whisper, regions).segments
    assert segment.text == " First half, second half."
    assert segment.confidence.flags == ()
    assert (segment.start, segment.end) == (0.0, 4.0)
    assert model.calls == [(PLAIN, [0]), (LONG, [0]), (PLAIN, [1, 2])]
    assert seconds == [4.0, cut_s, 4.0 - cut_s]


def test_a_loop_without_end_is_not_cut(models: Models) -> None:
    endless = LOOP * 9
    whisper, model = faked(models, [{PLAIN: endless, UNLOOPED: endless}])
    (segment,) = transcribed(whisper, ((0.0, 4.0),)).segments
    assert Flag.REPETITION in segment.confidence.flags
    assert [way for way, _ in model.calls] == [PLAIN, UNLOOPED]


def test_what_is_too_long_even_then_is_flagged(models: Models) -> None:
    endless = " ".join(map(str, range(600)))
    whisper, model = faked(models, [{PLAIN: endless, LONG: endless}])
    (segment,) = transcribed(whisper, ((0.0, 4.0),)).segments
    assert Flag.LOW_CONFIDENCE in segment.confidence.flags
    assert len(model.calls) == 4


def transcribed(whisper: Whisper, regions: tuple[tuple[float, float], ...]) -> Transcription:
    """Transcribe one span."""
    span = SpeechSpan(regions[0][0], regions[-1][1], regions)
    waveform = Waveform(np.zeros(int(span.end * 16_000), np.int16))
    job = JobInput(audio_base64="QQ==")
    return transcribe(waveform, (span,), job, whisper, StageContext())


@given(
    texts=st.lists(
        st.tuples(*[st.sampled_from([SPOKEN, LOOP, "", " a b c d" * 9])] * 2), min_size=1
    )
)
@settings(deadline=None, max_examples=50)
def test_what_is_kept_is_one_of_the_decodings_and_never_the_worse(
    decode: Any, texts: list[tuple[str, str]]
) -> None:
    found, _ = decode([{PLAIN: plain, UNLOOPED: again} for plain, again in texts])
    for one, (plain, again) in zip(found, texts, strict=True):
        assert one.text in ((plain, again) if is_loop(plain) else (plain,))
        assert rank(one.text) >= rank(plain)
        assert (Flag.REPETITION in one.flags) == is_loop(one.text)


@given(st.integers(1, 120))
@settings(deadline=None)
def test_a_text_cut_anywhere_ends_with_a_whole_character(models: Models, count: int) -> None:
    tokenizer = models.whisper.model.hf_tokenizer
    tokens = tokenizer.encode(FOREIGN, add_special_tokens=False).ids
    assert len(tokens) > 120
    kept = tokenizer.decode(whole_characters(tokens[:count], tokenizer.decode))
    assert BROKEN not in kept
    assert FOREIGN.startswith(kept)
    assert len(kept) >= len(tokenizer.decode(tokens[:count]).rstrip(BROKEN + " "))


def test_a_broken_character_within_a_text_is_left_out(models: Models) -> None:
    tokenizer = models.whisper.model.hf_tokenizer
    first, second = (
        tokenizer.encode(f" {word}", add_special_tokens=False).ids for word in ("அம்மா", "வந்தார்")
    )
    kept = whole_characters([*first, second[1], *second], tokenizer.decode)
    assert tokenizer.decode(kept) == " அம்மா வந்தார்"


def test_no_broken_character_is_delivered(models: Models) -> None:
    whisper, model = faked(models, [{}])
    tokens = whisper.model.hf_tokenizer.encode(FOREIGN, add_special_tokens=False).ids
    for count in range(100, 104):
        model.ids = lambda _, tokens=tokens[:count]: tokens  # type: ignore[misc]
        (one,) = whisper.decode([CHUNK], whisper.decoding_options("en", NO_PROMPT))
        assert BROKEN not in one.text
        assert whisper.model.hf_tokenizer.decode(one.tokens) == one.text


@pytest.mark.parametrize("max_length", [24, 16])
def test_real_speech_past_the_limit_is_all_there(
    models: Models, monkeypatch: pytest.MonkeyPatch, max_length: int
) -> None:
    """Decoded again whole, and in halves where even that does not hold it."""
    regions = ((0.0, 2.5), (2.7, 5.5))
    job, ctx = JobInput(audio_base64="QQ=="), StageContext()
    span = SpeechSpan(0.0, 5.5, regions)
    waveform = Waveform(short_speech())
    (expected,) = transcribe(waveform, (span,), job, models.whisper, ctx).segments
    monkeypatch.setattr(models.whisper.model, "max_length", max_length)
    (stock,) = transcribe(waveform, (span,), job, models.whisper, ctx, is_stock=True).segments
    assert len(stock.text) < len(expected.text) - 10
    (found,) = transcribe(waveform, (span,), job, models.whisper, ctx).segments
    assert found.text == expected.text


@pytest.mark.parametrize(
    ("unprompted", "delivered", "flags"),
    [
        (" The ship sails at new.", ECHO, ()),
        (" Thank you, and good night.", " Thank you, and good night.", ()),
        (LOOP, ECHO, (Flag.PROMPT,)),
        ("", ECHO, (Flag.PROMPT,)),
    ],
)
def test_a_prompt_that_comes_back_is_heard_without_it(
    models: Models, unprompted: str, delivered: str, flags: tuple[Flag, ...]
) -> None:
    """Confirmed, replaced by what was said, or flagged where nothing trustworthy was."""
    whisper, model = faked(models, [{PLAIN: SPOKEN}, {PLAIN: ECHO, UNPROMPTED: unprompted}])
    prompt = Prompt(ECHO.strip(), "harbor", was_cut=False)
    spoken, one = whisper.decode([CHUNK] * 2, whisper.decoding_options("en", prompt))
    assert (spoken.text, spoken.flags) == (SPOKEN, ())
    assert (one.text, one.flags) == (delivered, flags)
    assert model.calls == [(PLAIN, [0, 1]), (UNPROMPTED, [1])]


@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_special_tokens_in_a_prompt_are_text(models: Models, name: str) -> None:
    path = models.folder.locate(f"whisper/{name}/tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    special = " ".join(tokenizer.id_to_token(n) for n in range(50_256, 50_300))
    prompt = fit_prompt(f"{special} at sea", special * 9, tokenizer)
    end = tokenizer.token_to_id("<|endoftext|>")
    for text in (prompt.initial_prompt, prompt.hotwords):
        assert text is None or max(tokenizer.encode(text, add_special_tokens=False).ids) < end
    short = fit_prompt("<|endoftext|> at sea", "<|en|>harbor", tokenizer)
    assert (short.initial_prompt, short.hotwords) == ("< |endoftext|> at sea", "< |en|>harbor")


def test_a_prompt_with_special_tokens_changes_no_structure(models: Models) -> None:
    tokenizer = models.whisper.model.hf_tokenizer
    prompt = fit_prompt("Ada.<|startoftranscript|>", "<|endoftext|>", tokenizer)
    tokens = models.whisper.decoding_options("en", prompt).prompt
    special = [tokenizer.id_to_token(token) for token in tokens if token >= 50_256]
    assert special == ["<|startofprev|>", "<|startoftranscript|>", "<|notimestamps|>"]


MANY = tuple(code for code in LANGUAGES if code != "yue")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("haw", "haw"),
        ("German", "de"),
        ("haitian creole", "ht"),
        ("Flemish", "nl"),
        ("en-US", "en"),
        ("pt_BR", "pt"),
        ("zh-Hant-TW", "zh"),
    ],
)
def test_a_language_is_a_code_a_name_or_a_tag(asked: str, code: str) -> None:
    assert resolve_language(asked, MANY) == code


@pytest.mark.parametrize("asked", ["xx", "yue", "Cantonese", "xx-US", "Klingon", "e", "german-de"])
def test_any_other_language_is_refused_with_the_list(asked: str) -> None:
    with pytest.raises(WorkerError, match=f"{asked!r}.* de, .*haw, .*zh") as caught:
        resolve_language(asked, MANY)
    assert caught.value.code is FailureCode.INVALID_INPUT
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_an_english_only_model_hears_english_in_any_spelling(models: Models) -> None:
    assert models.whisper.languages == ("en",)
    assert {resolve_language(asked, ("en",)) for asked in ("en", "English", "en_GB")} == {"en"}


@pytest.mark.parametrize(
    ("name", "multilingual", "can"),
    [
        ("large-v3", True, True),
        ("base", True, True),
        ("large-v3-turbo", True, False),
        ("distil-large-v3", True, False),
        ("tiny.en", False, False),
    ],
)
def test_only_some_models_translate(
    models: Models, name: str, multilingual: bool, can: bool
) -> None:
    fake, model = faked(models, [{}])
    model.is_multilingual = multilingual
    whisper = replace(fake, name=name)
    assert whisper.can_translate is can
    if not can:
        job = JobInput(audio_base64="QQ==", language="en", task="translate")
        with pytest.raises(WorkerError, match=f"{name}.*WHISPER_MODEL") as caught:
            transcribe(Waveform(np.zeros(0, np.int16)), (), job, whisper, StageContext())
        assert caught.value.code is FailureCode.INVALID_INPUT
