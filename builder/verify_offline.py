"""Prove that a models folder needs no network: `python -m builder.verify_offline DIR`.

Takes a folder; checks every file against `profile.json`, then loads each model with the network
refused and runs one second of audio through it. Prints one line a model; exit code 1, and the
remedy, when anything is missing, broken or tried to leave the machine.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from builder.errors import BuildError
from builder.folders import PROFILE_JSON, changed_files, read_document
from worker.models.imports import go_offline, weights_only

SAMPLE_RATE_HZ = 16_000

Second = NDArray[np.float32]


def one_second() -> Second:
    """Make a second of sound, float32 (16000,): a tone that swells, in faint noise."""
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE_HZ)
    swell = 0.3 * np.sin(np.pi * time_s) * np.sin(2 * np.pi * 220 * time_s)
    return np.asarray(swell + noise, dtype=np.float32)


def check_whisper(folder: Path, sound: Second) -> None:
    """Transcribe the second with a CTranslate2 Whisper model."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    language = None if model.model.is_multilingual else "en"
    segments, _ = model.transcribe(sound, language=language, beam_size=1, max_new_tokens=8)
    list(segments)


def check_segmentation(checkpoint: Path, sound: Second) -> None:
    """Score the second with a pyannote.audio segmentation model."""
    from pyannote.audio import Model

    model = Model.from_pretrained(checkpoint)
    with torch.inference_mode():
        _finite(model.eval()(torch.from_numpy(sound)[None, None]), checkpoint)


def check_aligner(folder: Path, entry: dict[str, str], language: str, sound: Second) -> None:
    """Align two sentences with the second through `whisperx.align`, sentence splitter included."""
    import whisperx

    path = str(folder / entry["path"])
    where = (
        {"model_name": entry["name"], "model_dir": path}
        if entry["kind"] == "torchaudio"
        else {"model_name": path, "model_cache_only": True}
    )
    model, metadata = whisperx.load_align_model(language, "cpu", **where)
    segment = {"start": 0.0, "end": 1.0, "text": "Ta. Da."}
    result = whisperx.align([segment], model, metadata, sound, "cpu")
    # Languages without spaces give back characters, the others words.
    given_back = "".join(word["word"] for word in result["word_segments"])
    if given_back.replace(" ", "") != "Ta.Da.":
        raise BuildError(f"{entry['name']} does not give back the words it was given")


def check_diarization(folder: Path, sound: Second) -> None:
    """Diarize the second, and embed it: a second may hold too little speech to be embedded."""
    from pyannote.audio import Model, Pipeline

    waveform = torch.from_numpy(sound)[None]
    Pipeline.from_pretrained(folder)({"waveform": waveform, "sample_rate": SAMPLE_RATE_HZ})
    embedding = Model.from_pretrained(folder / "embedding").eval()
    with torch.inference_mode():
        _finite(embedding(waveform[None], weights=torch.ones(1, 50)), folder)


def check_splitters(folder: Path) -> None:
    """Split a text with every language's sentence splitter."""
    import nltk

    if str(folder) not in nltk.data.path:
        nltk.data.path.insert(0, str(folder))
    for tables in sorted((folder / "tokenizers" / "punkt_tab").iterdir()):
        splitter = nltk.tokenize.PunktTokenizer(tables.name)
        if len(list(splitter.span_tokenize("Ab cd efg. Hij kl mno."))) != 2:
            raise BuildError(f"the {tables.name} tables do not split two sentences")


def _finite(output: torch.Tensor, path: Path) -> None:
    if not torch.isfinite(output).all():
        raise BuildError(f"{path.name} gives numbers that are not finite")


class NetworkUsed(RuntimeError):
    """Something tried to leave this machine.

    Not an `OSError`: those are caught and retried by the libraries under test.
    """


_attempts: list[str] | None = None


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse every connection and every name look-up beyond loopback.

    It hears Python's audit events (PEP 578), which every Python socket raises, whoever made it;
    code that opens sockets in another language is kept offline by its own settings.

    Yields:
        The hosts that were tried, growing as they are; also those whose refusal was swallowed.
    """
    global _attempts  # noqa: PLW0603  # an audit hook cannot be taken away again
    _listen()
    go_offline()
    _attempts = []
    try:
        yield _attempts
    finally:
        _attempts = None


@cache
def _listen() -> None:
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _attempts is None or not event.startswith("socket."):
        return
    host: str | bytes | None = None
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        host = arguments[1][0] if isinstance(arguments[1], tuple) else None
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name and not _is_loopback(name):
        _attempts.append(name)
        raise NetworkUsed(f"tried to reach {name}")


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line tool and return its exit code."""
    parser = argparse.ArgumentParser(prog="verify_offline", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder: Path = parser.parse_args(arguments).folder.resolve()
    document = read_document(folder)
    failures = _check_files(folder, document)
    if document is not None and not failures:
        go_offline(folder / document["nltk_data"])
        checks = list_checks(folder, document).items()
        failures = [failure for check in checks if (failure := run_check(*check))]
    profile = document["profile"] if document else "demo"
    remedy = f"run `python -m builder.fetch_models --profile {profile} --into {folder}`"
    for failure in failures:
        print(f"verify_offline: {failure}: {remedy}", file=sys.stderr)
    return 1 if failures else 0


def _check_files(folder: Path, document: dict[str, Any] | None) -> list[str]:
    if document is None:
        return [f"{folder / PROFILE_JSON} cannot be read"]
    changed = changed_files(folder, document)
    return [f"missing from {folder}, or changed: {', '.join(changed)}"] if changed else []


def list_checks(folder: Path, document: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Return a check for each model that `profile.json` names, by the model's name."""
    sound, vad, diarization = one_second(), document["vad"], document["diarization"]
    checks = {"nltk_data": partial(check_splitters, folder / document["nltk_data"])}
    for name, model in document["whisper"]["models"].items():
        checks[f"whisper {name}"] = partial(check_whisper, folder / model["path"], sound)
    checks[f"vad {vad['name']}"] = partial(check_segmentation, folder / vad["path"], sound)
    for language, model in document["align"].items():
        name = f"align {language} {model['name']}"
        checks[name] = partial(check_aligner, folder, model, language, sound)
    name = f"diarization {diarization['name']}"
    checks[name] = partial(check_diarization, folder / diarization["path"], sound)
    return dict(checks)


def run_check(name: str, check: Callable[[], None]) -> str | None:
    """Run one check with the network refused, and print its line.

    Returns:
        What is wrong, or None.
    """
    started = time.monotonic()
    failure = None
    with no_network() as attempts, _quiet():
        try:
            with weights_only():  # as the worker loads them
                check()
        except Exception as exc:  # whatever a library raises is the finding that is reported
            failure = f"{name} does not work: {type(exc).__name__}: {exc}"
    if attempts:
        failure = f"{name} tried to reach {', '.join(sorted(set(attempts)))}"
    verdict = "FAILED" if failure else "ok"
    print(f"{name:34s} {verdict:6s} {time.monotonic() - started:5.1f} s", flush=True)
    return failure


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' remarks, such as lightning's on old checkpoints, out of the report."""
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


if __name__ == "__main__":
    sys.exit(main())
