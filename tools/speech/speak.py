"""Make the project's spoken fixtures from ``bench/speech/scripts.toml``.

``python -m tools.speech.speak`` writes ``bench/speech/NAME.{flac,ogg,ref.json,rttm}``, the short
speech in ``tests/data`` and ``test_input.json``, all of them committed. It needs flite and
espeak-ng.
"""

from __future__ import annotations

import base64
import json
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from bench.corpus import SPEECH_DIR, Utterance, Waveform, write_recording
from bench.dialogue import Line, Script, record
from tools.speech.voices import speak

ROOT = Path(__file__).parents[2]
GREETING = "greeting"
SHORT = "short"
COMPACT = ("ausflug2",)
"""Measured for speed alone: Opus takes a tenth of the room."""


def main() -> None:
    """Speak every script and write where it belongs."""
    for name, script in load_scripts(SPEECH_DIR / "scripts.toml").items():
        waveform, utterances = record(script, speak)
        print(f"{name}: {len(waveform) / 16_000:.1f} s, {len(utterances)} utterances")
        if name == GREETING:
            write_test_input(ROOT / "test_input.json", waveform)
        else:
            folder = ROOT / "tests" / "data" if name == SHORT else SPEECH_DIR
            encoding = "ogg-opus" if name in COMPACT else "flac"
            write_dialogue(folder, script, waveform, utterances, encoding)


def load_scripts(path: Path) -> dict[str, Script]:
    """Read a file of scripts, one table each."""
    tables = tomllib.loads(path.read_text())
    return {
        name: Script(name, t["seed"], t["voices"], tuple(Line(*line) for line in t["lines"]))
        for name, t in tables.items()
    }


def write_dialogue(
    folder: Path,
    script: Script,
    waveform: Waveform,
    utterances: tuple[Utterance, ...],
    encoding: str = "flac",
) -> None:
    """Write NAME.flac (or NAME.ogg) with NAME.ref.json and NAME.rttm."""
    audio = folder / f"{script.name}.{encoding.split('-')[0]}"
    write_recording(audio, waveform, encoding=encoding)
    audio.with_suffix(".ref.json").write_text(format_references(utterances))
    audio.with_suffix(".rttm").write_text(format_rttm(script.name, utterances))


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


if __name__ == "__main__":
    main()
