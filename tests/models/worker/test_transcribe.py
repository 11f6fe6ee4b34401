"""Transcription: whisperx's own text, in batches of any make, each handed on when it is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketscribe_contract import FailureCode, JobInput, WarningCode
from tests.recordings import short_reference, short_speech
from worker.cancel import CancelToken, StageContext
from worker.engines.whisper import Whisper
from worker.errors import JobCancelled, WorkerError
from worker.models.load import Models
from worker.stages.speech import find_speech
from worker.stages.transcribe import plan_batches, transcribe
from worker.types import SAMPLE_RATE_HZ, SpeechSpan, Transcription, Waveform, letters

SPEECH = Waveform(short_speech())
INLINE = JobInput(audio_base64="QQ==")
TIMES = [(0.0, 5.5), (0.0, 2.6), (2.4, 5.5), (1.0, 4.0), (0.5, 1.1), (3.0, 5.0), (0.1, 3.1)]
SPANS = tuple(SpeechSpan(start, end, ((start, end),)) for start, end in TIMES)


def run(models: Models, batch_size: int = 2, **more: Any) -> Transcription:
    """Transcribe parts of the short speech."""
    progress = more.pop("on_progress", lambda _: None)
    ctx = StageContext(progress=progress, batch_size=batch_size)
    return transcribe(SPEECH, SPANS, INLINE, models.whisper, ctx, **more)


@pytest.fixture(scope="module")
def expected(models: Models) -> Transcription:
    """What is found in batches of two."""
    return run(models)


@given(
    lengths=st.lists(st.floats(0.1, 30), max_size=70),
    batch_size=st.integers(1, 33),
    runs=st.integers(1, 5),
)
@settings(deadline=None)  # the first example imports torch
def test_batches_hold_each_span_once_and_the_longest_first(
    lengths: Sequence[float], batch_size: int, runs: int
) -> None:
    spans = [SpeechSpan(0.0, length, ()) for length in lengths]
    batches = plan_batches(spans, range(len(spans)), batch_size, runs)
    assert sorted(number for batch in batches for number in batch) == list(range(len(spans)))
    assert all(0 < len(batch) <= batch_size for batch in batches)
    assert len(batches) % runs == 0 or len(batches) == len(spans)
    for earlier, later in zip(batches, batches[1:], strict=False):
        assert min(spans[n].end for n in earlier) >= max(spans[n].end for n in later)
        assert abs(len(earlier) - len(later)) <= 1


def of_spoken(models: Models, waveform: Waveform = SPEECH, **job: Any) -> Transcription:
    """Find speech and transcribe it."""
    spans = find_speech(waveform.blocks(), models.detector, StageContext(batch_size=32))
    asked = JobInput.model_validate({"audio_base64": "QQ=="} | job)
    return transcribe(waveform, spans, asked, models.whisper, StageContext(batch_size=4))


def test_speech_becomes_its_words(models: Models) -> None:
    said = letters(" ".join(u.text for u in short_reference().utterances)).lower()
    heard = letters("".join(s.text for s in of_spoken(models).segments)).lower()
    assert heard.replace("10", "ten").replace(",", "") == said.replace(",", "")


def test_silence_has_no_text(models: Models) -> None:
    silence = Waveform(np.zeros(16_000 * 20, np.int16))
    assert of_spoken(models, silence) == Transcription((), None, None)


@pytest.mark.parametrize("samples", [1, 400, 1600])
def test_the_shortest_recordings_go_through(models: Models, samples: int) -> None:
    noise = np.random.default_rng(0).normal(0, 5000, samples).astype(np.int16)
    assert len(of_spoken(models, Waveform(noise)).segments) <= 1


def test_a_language_the_model_does_not_know_is_refused(models: Models) -> None:
    with pytest.raises(WorkerError, match="English-only") as caught:
        of_spoken(models, language="de")
    assert caught.value.code is FailureCode.INVALID_INPUT


def test_a_prompt_reaches_whisper_and_stays_in_its_job(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    decode = Whisper.decode

    def spy(whisper: Any, chunks: Any, options: Any) -> Any:
        given = options.tokenizer.tokenizer.decode(options.prompt, skip_special_tokens=False)
        seen.append((given, options.tokenizer.language_code))
        return decode(whisper, chunks, options)

    plain = of_spoken(models)
    monkeypatch.setattr(Whisper, "decode", spy)
    of_spoken(models, initial_prompt="At sea.", hotwords="harbor")
    start = "<|startoftranscript|><|notimestamps|>"
    assert seen == [("<|startofprev|> harbor At sea." + start, "en")]
    assert of_spoken(models) == plain


def test_a_cancelled_job_decodes_nothing(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    token = CancelToken()
    token.cancel()
    monkeypatch.setattr(Whisper, "decode", None)
    with pytest.raises(JobCancelled):
        transcribe(SPEECH, SPANS, INLINE, models.whisper, StageContext(token))


def test_a_job_that_is_cancelled_within_a_batch_ends_before_the_next_chunk(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, encode, encoded = CancelToken(), Whisper._encode, []

    def cancel(whisper: Whisper, features: Any) -> Any:
        token.cancel()
        encoded.append(features)
        return encode(whisper, features)

    monkeypatch.setattr(Whisper, "_encode", cancel)
    with pytest.raises(JobCancelled):
        transcribe(SPEECH, SPANS, INLINE, models.whisper, StageContext(token, batch_size=8))
    assert len(encoded) <= models.whisper.runs


def test_a_long_prompt_is_cut_with_a_warning(models: Models) -> None:
    prompt = "The ship sails at noon. " * 80
    found = of_spoken(models, initial_prompt=prompt, hotwords="harbor")
    assert found.warnings == (WarningCode.PROMPT_TOO_LONG,)
    assert "harbor" in found.segments[0].text


def test_stock_text_and_scores_are_whisperxs_to_the_bit(
    models: Models, expected: Transcription
) -> None:
    import torch
    from faster_whisper.tokenizer import Tokenizer
    from whisperx.asr import load_model
    from whisperx.audio import N_SAMPLES, log_mel_spectrogram

    theirs = load_model(
        str(models.folder.locate(models.folder.whisper.path)),
        "cpu",
        compute_type=models.device.compute_type,
        vad_model=lambda _: None,
        threads=1,
        language="en",
    )
    tokenizer = Tokenizer(theirs.model.hf_tokenizer, False, task="transcribe", language="en")
    chunks = [SPEECH.part(int(a * SAMPLE_RATE_HZ), int(b * SAMPLE_RATE_HZ)) for a, b in TIMES]
    mels = [log_mel_spectrogram(c, n_mels=80, padding=N_SAMPLES - len(c)) for c in chunks]
    found = theirs.model.generate_segment_batched(torch.stack(mels), tokenizer, theirs.options)
    segments = run(models, is_stock=True).segments
    assert [segment.text for segment in segments] == found["text"]
    assert [segment.confidence.avg_logprob for segment in segments] == found["avg_logprob"]
    assert [(segment.start, segment.end) for segment in segments] == TIMES
    assert segments == expected.segments, "plain speech is no doubtful text"


@pytest.mark.parametrize(
    "batch_size", [7, *(pytest.param(size, marks=pytest.mark.soak) for size in (1, 3, 50))]
)
def test_a_batch_changes_nothing_and_every_segment_is_handed_on_once(
    models: Models, expected: Transcription, batch_size: int
) -> None:
    handed: list[Transcription] = []
    shares: list[float] = []
    found = run(models, batch_size, on_text=handed.append, on_progress=shares.append)
    assert found == expected
    segments = [segment for part in handed for segment in part.segments]
    assert Counter(segments) == Counter(found.segments)
    assert {part.language for part in handed} == {"en"}
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_what_was_found_before_memory_ran_out_is_not_decoded_again(
    models: Models, expected: Transcription, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, decoded = Whisper.decode, []

    def limited(whisper: Any, chunks: Any, options: Any) -> Any:
        if decoded:
            raise RuntimeError("CUDA out of memory")
        decoded.append(len(chunks))
        return decode(whisper, chunks, options)

    monkeypatch.setattr(Whisper, "decode", limited)
    sheet: dict[int, Any] = {}
    with pytest.raises(RuntimeError, match="memory"):
        run(models, 2, found=sheet)
    assert 0 < len(sheet) < len(SPANS)
    monkeypatch.undo()
    missing, handed = len(SPANS) - len(sheet), []
    assert run(models, 1, found=sheet, on_text=handed.append) == expected
    assert sum(len(part.segments) for part in handed) == missing


def test_after_a_failure_no_batch_begins(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def broken(*_: Any) -> None:
        begun.append(1)
        raise ValueError("no")

    monkeypatch.setattr(Whisper, "decode", broken)
    with pytest.raises(ValueError, match="no"):
        run(models, 1)
    assert len(begun) < len(SPANS)


def test_a_part_is_the_whole_waveforms_part() -> None:
    samples = np.arange(-32768, 32768).astype(np.int16)
    waveform, scaled = Waveform(samples), samples.astype(np.float32) / np.float32(32768)
    assert np.array_equal(waveform.part(5, 70_000), scaled[5:])
    assert waveform.part(0, 9).dtype == np.float32
