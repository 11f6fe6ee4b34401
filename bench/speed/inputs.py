"""What is transcribed against the clock, and the loopback storage that it is fetched from.

Takes the committed recordings of bench/speech; returns WAV files of 16 kHz mono PCM16, as the edge
uploads them. Long dialogues are the short ones' utterances, played again in an order drawn from a
seed, so that every machine measures the same samples. ``python -m bench.speed.inputs FOLDER``
serves a folder.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import numpy as np

from bench.corpus import (
    SAMPLE_RATE_HZ,
    SPEECH_DIR,
    Reference,
    Utterance,
    Waveform,
    load_reference,
    read_recording,
    telephone_sample,
    write_recording,
)
from bench.dialogue import PAUSES_S, Line, Script, record

GERMAN_SPEECH = SPEECH_DIR / "ausflug2.ogg"
BLOCK_BYTES = 1 << 17
LOG = "requests.jsonl"


@dataclass(frozen=True)
class Bench:
    """Where and how much is measured.

    Attributes:
        models: The models folder of the demo profile, with the multilingual model.
        folder: For everything that is written on the way.
        pairs: How many times each side runs, in turns.
    """

    models: Path
    folder: Path
    pairs: int


def derive_models(models: Path, into: Path, changes: dict[str, Any]) -> Path:
    """Make a models folder that shares another one's files and changes its profile.

    Args:
        models: The folder to start from.
        into: The new folder; what is in it stays.
        changes: Entries that replace those of ``profile.json``.
    """
    into.mkdir(parents=True, exist_ok=True)
    for entry in models.resolve().iterdir():
        link = into / entry.name
        if entry.name != "profile.json" and not link.exists():
            link.symlink_to(entry)
    profile = json.loads((models / "profile.json").read_text()) | changes
    (into / "profile.json").write_text(json.dumps(profile))
    return into


@dataclass(frozen=True)
class Clip:
    """One utterance, cut out of its recording."""

    speaker: str
    text: str
    speech: Waveform


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
TELEPHONE = "telephone"
GERMAN = "german"


def write_input(name: str, folder: Path) -> Path:
    """Write a recording into a folder, unless it is there; return the file.

    Args:
        name: Of a `Dialogue`, or `TELEPHONE` or `GERMAN`.
        folder: Made where it does not exist.
    """
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
    dialogues = {dialogue.name: dialogue for dialogue in (MEETING, PANEL, LONG)}
    return compose(dialogues[name])[0]


def compose(dialogue: Dialogue) -> tuple[Waveform, tuple[Utterance, ...]]:
    """Play clips one after the other until the recording is long enough.

    Returns:
        int16, shape (n_samples,), 16 kHz, and what is said in it.
    """
    references = [load_reference(SPEECH_DIR / f"{name}.flac") for name in dialogue.sources]
    clips = [clip for reference in references for clip in cut(reference)]
    script = _script(dialogue, clips)
    waveform, played = record(script, lambda _, index: clips[int(index)].speech)
    return waveform, tuple(replace(one, text=clips[int(one.text)].text) for one in played)


def cut(reference: Reference) -> list[Clip]:
    """Cut a recording's utterances out, in order; those that others talk into stay behind."""
    samples = read_recording(reference.audio)
    alone = [u for u in reference.utterances if not _is_overlapped(u, reference.utterances)]
    return [Clip(u.speaker, u.text, samples[_index(u.start) : _index(u.end)]) for u in alone]


def _script(dialogue: Dialogue, clips: Sequence[Clip]) -> Script:
    """Return a script whose texts are the clips' numbers: told once in order, then shuffled."""
    rng = np.random.default_rng(dialogue.seed)
    order: list[int] = []
    played_s = 0.0
    while played_s < dialogue.duration_s:
        turn = rng.permutation(len(clips)) if order else np.arange(len(clips))
        for index in turn.tolist():
            order.append(index)
            played_s += len(clips[index].speech) / SAMPLE_RATE_HZ + sum(PAUSES_S) / 2
            if played_s >= dialogue.duration_s:
                break
    lines = tuple(Line(clips[index].speaker, str(index)) for index in order)
    return Script(dialogue.name, dialogue.seed, {clip.speaker: "" for clip in clips}, lines)


def _is_overlapped(utterance: Utterance, others: Sequence[Utterance]) -> bool:
    return any(
        other is not utterance and other.start < utterance.end and utterance.start < other.end
        for other in others
    )


def _index(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)


class Storage:
    """Storage on loopback, in a process of its own; a context manager.

    ``GET /NAME`` serves a file (``?rate=N`` at N bytes a second), ``PUT /NAME`` keeps one. Every
    request is a line of the folder's `LOG`, with Unix times of begin and end.

    Args:
        folder: What it serves and fills.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str]
        self._port = ""

    def __enter__(self) -> Self:
        (self.folder / LOG).unlink(missing_ok=True)
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

    def url(self, name: str, rate: int | None = None) -> str:
        """Return a file's URL.

        Args:
            name: In the folder.
            rate: Bytes a second; None: as fast as it goes.
        """
        return f"http://127.0.0.1:{self._port}/{name}" + (f"?rate={rate}" if rate else "")

    def requests(self) -> list[dict[str, float | str]]:
        """Return what was asked so far: ``method``, ``name``, ``began`` and ``ended``."""
        log = self.folder / LOG
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        began = time.time()
        path, rate = self._target()
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        first, last = _range(self.headers.get("Range"), size)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(last - first))
        self.send_header("Accept-Ranges", "bytes")
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {first}-{last - 1}/{size}")
        self.end_headers()
        self._send(path, first, last, rate)
        self._log(path.name, began)

    def do_PUT(self) -> None:
        began = time.time()
        path, _ = self._target()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path.write_bytes(body)
        self._log(path.name, began)  # before the answer: whoever got it finds the line
        self.send_response(200)
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.send_header("ETag", f'"{digest}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet: `_log` writes what is needed."""

    def _target(self) -> tuple[Path, float | None]:
        parts = urlsplit(self.path)
        rate = parse_qs(parts.query).get("rate")
        return self.folder / Path(parts.path).name, float(rate[0]) if rate else None

    def _send(self, path: Path, first: int, last: int, rate: float | None) -> None:
        """Send a part of a file; each block waits for its time."""
        began = time.monotonic()
        with path.open("rb") as file:
            file.seek(first)
            sent = 0
            while block := file.read(min(BLOCK_BYTES, last - first - sent)):
                self.wfile.write(block)
                sent += len(block)
                if rate:
                    time.sleep(max(0.0, began + sent / rate - time.monotonic()))

    def _log(self, name: str, began: float) -> None:
        line = {"method": self.command, "name": name, "began": began, "ended": time.time()}
        with (self.folder / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")


def _range(header: str | None, size: int) -> tuple[int, int]:
    """Return the first byte that is asked for and one past the last."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "")
    if found is None:
        return 0, size
    return int(found[1]), min(int(found[2]) + 1, size) if found[2] else size


def main() -> None:
    """Serve until terminated; the first line printed is the port."""
    _Handler.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
