"""Make the project's spoken fixtures from ``bench/speech/scripts.toml``.

``python -m tests.speech`` writes ``bench/speech/NAME.{flac,ogg,ref.json,rttm}``, the short speech
in ``tests/data`` and ``test_input.json``, all of them committed. The voices are those of the
commands flite and espeak-ng (``apt-get install flite espeak-ng``).
"""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench.corpus import (
    ROOT,
    SPEECH_DIR,
    Utterance,
    Waveform,
    read_recording,
)
from tests.dialogue import Line, Script, record
from tests.encodings import write_recording

GREETING = "greeting"
SHORT = "short"
COMPACT = ("ausflug2",)
"""Measured for speed alone: Opus takes a tenth of the room."""
LOUDNESS_RMS = 3500.0
"""Every utterance is brought to this level (int16 units), so that no voice is a whisper."""
FRAME_SAMPLES = 80
SILENCE_OF_PEAK = 0.02
"""A 5 ms frame under this part of the loudest frame, at either end, is not speech."""


def main() -> None:
    """Speak every script and write where it belongs."""
    for name, script in load_scripts(SPEECH_DIR / "scripts.toml").items():
        waveform, utterances = record(script, speak)
        if name == GREETING:
            write_test_input(ROOT / "test_input.json", waveform)
            continue
        folder = ROOT / "tests" / "data" if name == SHORT else SPEECH_DIR
        encoding = "ogg-opus" if name in COMPACT else "flac"
        audio = folder / f"{name}.{encoding.split('-')[0]}"
        write_recording(audio, waveform, encoding=encoding)
        audio.with_suffix(".ref.json").write_text(format_references(utterances))
        audio.with_suffix(".rttm").write_text(format_rttm(name, utterances))


def load_scripts(path: Path) -> dict[str, Script]:
    """Read a file of scripts, one table each."""
    tables = tomllib.loads(path.read_text())
    return {
        name: Script(name, t["seed"], t["voices"], tuple(Line(*line) for line in t["lines"]))
        for name, t in tables.items()
    }


def format_rttm(name: str, utterances: Iterable[Utterance]) -> str:
    """Write each utterance as one RTTM line."""
    return "".join(
        f"SPEAKER {name} 1 {u.start:.3f} {u.end - u.start:.3f} <NA> <NA> {u.speaker} <NA> <NA>\n"
        for u in utterances
    )


def format_references(utterances: Iterable[Utterance]) -> str:
    """Write utterances as ``NAME.ref.json`` holds them, one a line."""
    lines = ",\n".join(json.dumps(asdict(utterance)) for utterance in utterances)
    return f"[\n{lines}\n]\n"


def write_test_input(path: Path, waveform: Waveform) -> None:
    """Write the job that `handler.py` runs on its own, with the audio inside, as Ogg Opus."""
    with tempfile.TemporaryDirectory() as folder:
        opus = Path(folder) / "speech.ogg"
        write_recording(opus, waveform, encoding="ogg-opus")
        audio = base64.b64encode(opus.read_bytes()).decode("ascii")
    job = {"input": {"audio_base64": audio, "language": "en"}}
    path.write_text(json.dumps(job, indent=2) + "\n")


def speak(voice: str, text: str) -> Waveform:
    """Say a sentence.

    Args:
        voice: ``engine:name``, such as ``flite:slt`` or ``espeak-ng:en-us+f3``.
        text: One sentence.

    Returns:
        int16, shape (n_samples,), 16 kHz: no silence at either end, `LOUDNESS_RMS` loud.
    """
    engine, name = voice.split(":")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        commands = {
            "flite": ["flite", "-voice", name, "-t", text, "-o", str(file)],
            "espeak-ng": ["espeak-ng", "-v", name, "-s", "160", "-w", str(file), text],
        }
        subprocess.run(commands[engine], check=True, capture_output=True)
        return _level(_trim(read_recording(file)))


def _trim(waveform: Waveform) -> Waveform:
    """Cut silence off both ends, so that an utterance starts where it is said to start."""
    whole = waveform[: len(waveform) // FRAME_SAMPLES * FRAME_SAMPLES].astype(float)
    loudness = np.sqrt((whole.reshape(-1, FRAME_SAMPLES) ** 2).mean(axis=1))
    spoken = np.flatnonzero(loudness > SILENCE_OF_PEAK * loudness.max())
    first, last = int(spoken[0]), int(spoken[-1])
    return waveform[first * FRAME_SAMPLES : (last + 1) * FRAME_SAMPLES]


def _level(waveform: Waveform) -> Waveform:
    """Bring speech to `LOUDNESS_RMS` without clipping."""
    speech = waveform.astype(float)
    gain = LOUDNESS_RMS / np.sqrt((speech**2).mean())
    quieter = min(gain, 30_000 / np.abs(speech).max())
    leveled: Waveform = (speech * quieter).astype(np.int16)
    return leveled


if __name__ == "__main__":
    main()
