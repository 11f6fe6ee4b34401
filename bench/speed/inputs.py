"""What is transcribed against the clock, and the loopback storage that it is fetched from.

Takes the committed recordings of bench/speech; returns WAV files of 16 kHz mono PCM16, as the edge
uploads them. Long dialogues are the short ones' utterances, played again in an order drawn from a
seed, so that every machine measures the same samples. ``python -m bench.speed.inputs FOLDER``
serves a folder.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bench.corpus import (
    SAMPLE_RATE_HZ,
    SPEECH_DIR,
    Reference,
    Waveform,
    load_reference,
    read_recording,
    telephone_sample,
    write_recording,
)

GERMAN_SPEECH = SPEECH_DIR / "ausflug2.ogg"
LEAD_S = 0.5
TAIL_S = 0.6
PAUSES_S = (0.2, 1.0)
NOISE_RMS = 12.0
SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000


@dataclass(frozen=True)
class Bench:
    """Where and how much is measured: each side `pairs` times, in turns.

    The models are the demo profile's, with the multilingual one; what is written on the way goes
    into the folder.
    """

    models: Path
    folder: Path
    pairs: int


def derive_models(models: Path, into: Path, changes: dict[str, Any]) -> Path:
    """Make a models folder that shares another one's files, with other entries in its profile."""
    into.mkdir(parents=True, exist_ok=True)
    for entry in models.resolve().iterdir():
        link = into / entry.name
        if entry.name != "profile.json" and not link.exists():
            link.symlink_to(entry)
    profile = json.loads((models / "profile.json").read_text()) | changes
    (into / "profile.json").write_text(json.dumps(profile))
    return into


@dataclass(frozen=True)
class Dialogue:
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


MEETING = Dialogue("meeting", ("planning3", "standup2"), 310.0, 7)
PANEL = Dialogue("panel", ("handover2", "standup2", "planning3"), 330.0, 8)
LONG = Dialogue("half-hour", ("planning3", "handover2", "standup2"), 1805.0, 9)
DIALOGUES = {dialogue.name: dialogue for dialogue in (MEETING, PANEL, LONG)}
TELEPHONE = "telephone"
GERMAN = "german"


def write_input(name: str, folder: Path) -> Path:
    """Write a recording into a folder, unless it is there; return the file."""
    path = folder / f"{name}.wav"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        recordings = {TELEPHONE: telephone_sample().audio, GERMAN: GERMAN_SPEECH}
        known = recordings.get(name)
        write_recording(path, read_recording(known) if known else compose(DIALOGUES[name]))
    return path


def compose(dialogue: Dialogue) -> Waveform:
    """Play utterances one after the other until the recording is long enough.

    Returns:
        int16, shape (n_samples,), 16 kHz; utterances begin at whole milliseconds, in light noise.
    """
    references = [load_reference(SPEECH_DIR / f"{name}.flac") for name in dialogue.sources]
    clips = [clip for reference in references for clip in cut(reference)]
    order = _order(dialogue, [len(clip) / SAMPLE_RATE_HZ for clip in clips])
    rng = np.random.default_rng(dialogue.seed)
    pauses_s = [LEAD_S, *rng.uniform(*PAUSES_S, len(order))[1:]]
    parts = []
    for index, pause_s in zip(order, pauses_s, strict=True):
        parts += [_silence(pause_s), np.pad(clips[index], (0, -len(clips[index]) % SAMPLES_PER_MS))]
    speech = np.concatenate([*parts, _silence(TAIL_S)])
    mixed = np.rint(room_noise(len(speech), rng) + speech)
    samples: Waveform = np.clip(mixed, -32768, 32767).astype(np.int16)
    return samples


def room_noise(n_samples: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Make noise that falls towards high frequencies, as in a quiet room."""
    white = rng.standard_normal(n_samples + 3)
    soft = np.convolve(white, np.full(4, 0.25), mode="valid")
    return np.asarray(NOISE_RMS * 2.0 * soft, dtype=np.float64)


def _silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * 1000) * SAMPLES_PER_MS, np.int16)


def cut(reference: Reference) -> list[Waveform]:
    """Cut a recording's utterances out, in order; those that others talk into stay behind."""
    samples, said = read_recording(reference.audio), reference.utterances
    alone = (u for u in said if sum(u.start < o.end and o.start < u.end for o in said) == 1)
    times = ((round(u.start * SAMPLE_RATE_HZ), round(u.end * SAMPLE_RATE_HZ)) for u in alone)
    return [samples[start:end] for start, end in times]


def _order(dialogue: Dialogue, lengths_s: Sequence[float]) -> list[int]:
    """Return the clips to play, by index: once in order, then shuffled again and again."""
    rng = np.random.default_rng(dialogue.seed)
    order: list[int] = []
    left = list(range(len(lengths_s)))
    played_s = 0.0
    while played_s < dialogue.duration_s:
        left = left or rng.permutation(len(lengths_s)).tolist()
        order.append(left.pop(0))
        played_s += lengths_s[order[-1]] + sum(PAUSES_S) / 2
    return order


class Storage:
    """Storage of a folder's files on loopback, in a process of its own; a context manager.

    ``GET /NAME`` serves a file, ``PUT /NAME`` keeps one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str]
        self._port = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.speed.inputs", str(self.folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None  # noqa: S101 -- as asked for above
        self._port = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def url(self, name: str) -> str:
        """Return a file's URL."""
        return f"http://127.0.0.1:{self._port}/{name}"


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Path(self.translate_path(self.path)).write_bytes(body)
        self.send_response(200)
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.send_header("ETag", f'"{digest}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def main() -> None:
    """Serve until terminated; the first line printed is the port."""
    handler = partial(_Handler, directory=sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
