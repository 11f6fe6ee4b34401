"""What is transcribed against the clock, made from committed speech alone.

Takes the recordings of ``bench/speech``; returns WAV files of 16 kHz mono PCM16, which is what
the edge uploads. The utterances of the short dialogues are cut out and played again, in an order
drawn from a seed, until the recording is long enough: no synthesiser is needed, and every
machine measures the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.audio_files import SAMPLE_RATE_HZ, Waveform, read_recording, write_recording
from bench.dialogue import PAUSES_S, Line, Script, record
from bench.references import SPEECH_DIR, Reference, Utterance, load_reference, telephone_sample

GERMAN_SPEECH = SPEECH_DIR / "ausflug2.ogg"


@dataclass(frozen=True)
class Clip:
    """One utterance, cut out of its recording."""

    speaker: str
    text: str
    speech: Waveform


@dataclass(frozen=True)
class Recipe:
    """How a long dialogue is put together.

    Attributes:
        name: The recording's name.
        sources: Recordings of ``bench/speech`` whose utterances are used.
        duration_s: About that long: until pauses of the mean length would reach it.
        seed: Of the order and of the pauses.
    """

    name: str
    sources: tuple[str, ...]
    duration_s: float
    seed: int


MEETING = Recipe("meeting", ("planning3", "standup2"), 310.0, 7)
PANEL = Recipe("panel", ("handover2", "standup2", "planning3"), 330.0, 8)
TRIAL = Recipe("trial", ("standup2",), 60.0, 6)
LONG = Recipe("half-hour", ("planning3", "handover2", "standup2"), 1805.0, 9)
TELEPHONE = "telephone"
GERMAN = "german"
NAMES = (TELEPHONE, MEETING.name, PANEL.name, TRIAL.name, LONG.name, GERMAN)


def write_input(name: str, folder: Path) -> Path:
    """Write one of `NAMES` into a folder, unless it is there; return the file."""
    path = folder / f"{name}.wav"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_recording(path, _waveform(name))
    return path


def _waveform(name: str) -> Waveform:
    if name == TELEPHONE:
        return read_recording(telephone_sample().audio)
    if name == GERMAN:
        return read_recording(GERMAN_SPEECH)
    recipes = {recipe.name: recipe for recipe in (MEETING, PANEL, LONG, TRIAL)}
    return compose(recipes[name])[0]


def compose(recipe: Recipe) -> tuple[Waveform, tuple[Utterance, ...]]:
    """Play clips one after the other until the recording is long enough.

    Returns:
        int16, shape (n_samples,), 16 kHz, and what is said in it.
    """
    references = [load_reference(SPEECH_DIR / f"{name}.flac") for name in recipe.sources]
    clips = [clip for reference in references for clip in cut(reference)]
    script = _script(recipe, clips)
    waveform, played = record(script, lambda _, index: clips[int(index)].speech)
    return waveform, tuple(replace(one, text=clips[int(one.text)].text) for one in played)


def cut(reference: Reference) -> list[Clip]:
    """Cut a recording's utterances out, in order; those that others talk into stay behind."""
    samples = read_recording(reference.audio)
    alone = [u for u in reference.utterances if not _is_overlapped(u, reference.utterances)]
    return [Clip(u.speaker, u.text, samples[_index(u.start) : _index(u.end)]) for u in alone]


def _script(recipe: Recipe, clips: Sequence[Clip]) -> Script:
    """Return a script whose texts are the clips' numbers: told once in order, then shuffled."""
    rng = np.random.default_rng(recipe.seed)
    order: list[int] = []
    played_s = 0.0
    while played_s < recipe.duration_s:
        turn = rng.permutation(len(clips)) if order else np.arange(len(clips))
        for index in turn.tolist():
            order.append(index)
            played_s += len(clips[index].speech) / SAMPLE_RATE_HZ + sum(PAUSES_S) / 2
            if played_s >= recipe.duration_s:
                break
    lines = tuple(Line(clips[index].speaker, str(index)) for index in order)
    return Script(recipe.name, recipe.seed, {clip.speaker: "" for clip in clips}, lines)


def _is_overlapped(utterance: Utterance, others: Sequence[Utterance]) -> bool:
    return any(
        other is not utterance and other.start < utterance.end and utterance.start < other.end
        for other in others
    )


def _index(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)
