"""Attention on a real Whisper: near the aligner, whatever the batch, and not a must."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import median

from faster_whisper import WhisperModel

from tests.recordings import short_speech
from worker.cancel import StageContext
from worker.engines.whisper import DecodedChunk, Prompt, Whisper
from worker.models.load import Models
from worker.stages.align import align
from worker.types import TextSegment, Transcription, Waveform, letters

SPEECH = Waveform(short_speech())
CHUNKS = [SPEECH.part(a, b) for a, b in ((0, 88_000), (0, 42_000), (38_000, 88_000), (0, 159))]


def decode(whisper: Whisper, *chunks: int, wanted: bool = True) -> list[DecodedChunk]:
    options = whisper.decoding_options("en", Prompt(None, None, was_cut=False))
    options = replace(options, needs_times=lambda _: wanted)
    return whisper.decode([CHUNKS[i] for i in chunks], options)


def test_words_are_the_same_in_any_batch_and_change_no_text(models: Models) -> None:
    together = decode(models.whisper, 0, 1, 2, 3)
    assert [decode(models.whisper, i)[0] for i in range(4)] == together
    plain = decode(models.whisper, 0, 1, 2, 3, wanted=False)
    assert [replace(chunk, words=()) for chunk in together] == plain
    for chunk in together:
        assert letters("".join(word.word for word in chunk.words)) == letters(chunk.text)


def test_words_begin_near_where_the_aligner_has_them(models: Models) -> None:
    (chunk,) = decode(models.whisper, 0)
    text = Transcription((TextSegment(0.0, 5.5, chunk.text),), "en", None)
    aligned = align(SPEECH, text, models.aligner("en"), StageContext(), is_stock=True)
    words = [word for sentence in aligned.segments for word in sentence.words]
    pairs = zip(chunk.words, words, strict=True)
    assert median(abs(one.start - other.start) for one, other in pairs) < 0.06


def test_a_model_that_names_no_heads_gives_no_times(models: Models, tmp_path: Path) -> None:
    folder = models.folder.locate(models.folder.whisper.path)
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file.resolve())
    config = json.loads((tmp_path / "config.json").read_text())
    del config["alignment_heads"]
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = WhisperModel(str(tmp_path), device="cpu", compute_type="int8", cpu_threads=1)
    (chunk,) = decode(Whisper(model, 1), 1)
    assert chunk.text
    assert chunk.words == ()
