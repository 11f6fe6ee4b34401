"""What was really said: utterances and speaker turns, and the files they are kept in.

Takes ``NAME.ref.json`` (``[{start, end, speaker, text}]``), RTTM and STM files; returns frozen
`Utterance`s and `Turn`s. Times are seconds from the start of the recording.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

SPEECH_DIR = Path(__file__).parent / "speech"


@dataclass(frozen=True)
class Turn:
    """One speaker talking from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    speaker: str


@dataclass(frozen=True)
class Utterance:
    """One sentence or so, as it was said."""

    start: float
    end: float
    speaker: str
    text: str


@dataclass(frozen=True)
class Reference:
    """A recording and what was really said in it.

    Attributes:
        name: The recording's name in tables.
        audio: The audio file.
        utterances: In order of their starts.
        turns: Who speaks when; may be finer or coarser than `utterances`.
    """

    name: str
    audio: Path
    utterances: tuple[Utterance, ...]
    turns: tuple[Turn, ...]

    @property
    def speakers(self) -> frozenset[str]:
        """Everybody who has a turn."""
        return frozenset(turn.speaker for turn in self.turns)


def load_reference(audio: Path) -> Reference:
    """Load ``NAME.flac`` with the ``NAME.ref.json`` and ``NAME.rttm`` beside it."""
    utterances = json.loads(audio.with_suffix(".ref.json").read_text())
    return Reference(
        name=audio.stem,
        audio=audio,
        utterances=tuple(Utterance(**utterance) for utterance in utterances),
        turns=parse_rttm(audio.with_suffix(".rttm").read_text()),
    )


def load_folder(folder: Path) -> list[Reference]:
    """Load every recording of a folder that has a reference, by name."""
    return [
        load_reference(audio)
        for audio in sorted(folder.resolve().glob("*.flac"))
        if audio.with_suffix(".ref.json").exists()
    ]


def telephone_sample() -> Reference:
    """Find the 30 s of real telephone talk that ship in ``pyannote.audio.sample``.

    The folder is looked up, not imported: the import decodes the file through torchcodec.
    """
    spec = importlib.util.find_spec("pyannote.audio")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("pyannote.audio is not installed: install the extra 'demo'")
    folder = Path(spec.submodule_search_locations[0]) / "sample"
    return Reference(
        name="telephone",
        audio=folder / "sample.wav",
        utterances=parse_stm((folder / "sample.stm").read_text()),
        turns=parse_rttm((folder / "sample.rttm").read_text()),
    )


def parse_rttm(text: str) -> tuple[Turn, ...]:
    """Parse ``SPEAKER file 1 start duration <NA> <NA> speaker …`` lines (NIST RT-09)."""
    fields = (line.split() for line in text.splitlines() if line.startswith("SPEAKER "))
    return tuple(Turn(float(f[3]), round(float(f[3]) + float(f[4]), 3), f[7]) for f in fields)


def parse_stm(text: str) -> tuple[Utterance, ...]:
    """Parse ``file channel speaker start end words…`` lines (NIST SCTK)."""
    fields = (line.split(maxsplit=5) for line in text.splitlines() if line.strip())
    return tuple(Utterance(float(f[3]), float(f[4]), f[2], f[5]) for f in fields)


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
