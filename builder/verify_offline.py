"""Prove that a models folder needs no network: `python -m builder.verify_offline DIR`.

Takes a folder; checks every file against `profile.json`, then loads the models as the worker does,
with the network refused, and runs one second of sound through each. Prints a line for each
Whisper, with the worker's other models, and for each aligner; exit code 1, and the remedy, when
anything is missing, broken or tried to leave the machine.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from builder.errors import BuildError
from builder.folders import PROFILE_JSON, changed_files, read_document
from worker.host.log import quiet_libraries
from worker.models.imports import go_offline, weights_only

SAMPLE_RATE_HZ = 16_000


def check_worker(folder: Path, whisper: str) -> None:
    """Load what a worker with this Whisper loads, and run each model."""
    from worker.models.folder import find_models
    from worker.models.load import load_models
    from worker.settings import WorkerSettings

    settings = WorkerSettings(
        models_dir=folder, models_volume=folder / "none", whisper_model=whisper, device="cpu"
    )
    load_models(settings, find_models(settings)).rehearse()


def check_aligner(folder: Path, entry: dict[str, str], language: str) -> None:
    """Align two sentences with noise, by `whisperx.align`, which splits them by NLTK's tables."""
    import whisperx

    path = str(folder / entry["path"])
    where = (
        {"model_name": entry["name"], "model_dir": path}
        if entry["kind"] == "torchaudio"
        else {"model_name": path, "model_cache_only": True}
    )
    segment = {"start": 0.0, "end": 1.0, "text": "Ta. Da."}
    noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE_HZ).astype(np.float32)
    with weights_only():
        model, metadata = whisperx.load_align_model(language, "cpu", **where)
    result = whisperx.align([segment], model, metadata, noise, "cpu")
    # Languages without spaces give back characters, the others words.
    given_back = "".join(word["word"] for word in result["word_segments"])
    if given_back.replace(" ", "") != "Ta.Da.":
        raise BuildError(f"{entry['name']} does not give back the words it was given")


class NetworkUsed(RuntimeError):
    """Something tried to leave this machine.

    Not an `OSError`: those are caught and retried by the libraries under test.
    """


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse every connection and every name look-up beyond loopback.

    It hears Python's audit events (PEP 578), which every Python socket raises, whoever made it;
    code that opens sockets in another language is kept offline by its own settings.

    Yields:
        The hosts that were tried, growing as they are; also those whose refusal was swallowed.
    """
    attempts: list[str] = []
    refuses = True  # an audit hook cannot be taken away again

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        host = _remote_host(event, arguments) if refuses else None
        if host:
            attempts.append(host)
            raise NetworkUsed(f"tried to reach {host}")

    sys.addaudithook(hear)
    go_offline()
    try:
        yield attempts
    finally:
        refuses = False


def _remote_host(event: str, arguments: tuple[Any, ...]) -> str | None:
    """Return the host beyond loopback that a socket's event is about, if it is about one."""
    host = arguments[0] if event == "socket.getaddrinfo" else None
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        host = arguments[1][0] if isinstance(arguments[1], tuple) else None
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "localhost")
    with suppress(ValueError):
        return None if ipaddress.ip_address(name).is_loopback else name
    return None if name == "localhost" else name


def main(arguments: list[str] | None = None) -> int:
    """Run the command line tool and return its exit code."""
    parser = argparse.ArgumentParser(prog="verify_offline", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder: Path = parser.parse_args(arguments).folder.resolve()
    quiet_libraries()
    warnings.simplefilter("ignore")  # the libraries' own, such as of old checkpoints
    document = read_document(folder)
    if document is None:
        failures = [f"{folder / PROFILE_JSON} cannot be read"]
    elif changed := changed_files(folder, document):
        failures = [f"missing from {folder}, or changed: {', '.join(changed)}"]
    else:
        go_offline(folder / document["nltk_data"])
        checks = {
            f"whisper {name}": partial(check_worker, folder, name)
            for name in document["whisper"]["models"]
        } | {
            f"align {language} {entry['name']}": partial(check_aligner, folder, entry, language)
            for language, entry in document["align"].items()
        }
        failures = [found for check in checks.items() if (found := run_check(*check))]
    profile = document["profile"] if document else "demo"
    remedy = f"run `python -m builder.fetch_models --profile {profile} --into {folder}`"
    for failure in failures:
        print(f"verify_offline: {failure}: {remedy}", file=sys.stderr)
    return 1 if failures else 0


def run_check(name: str, check: Callable[[], None]) -> str | None:
    """Run one check with the network refused, and print its line; return what is wrong, or None."""
    started = time.monotonic()
    failure = None
    with no_network() as attempts:
        try:
            check()
        except Exception as exc:  # whatever a library raises is the finding that is reported
            failure = f"{name} does not work: {type(exc).__name__}: {exc}"
    if attempts:
        failure = f"{name} tried to reach {', '.join(sorted(set(attempts)))}"
    verdict = "FAILED" if failure else "ok"
    print(f"{name:34s} {verdict:6s} {time.monotonic() - started:5.1f} s", flush=True)
    return failure


if __name__ == "__main__":
    sys.exit(main())
