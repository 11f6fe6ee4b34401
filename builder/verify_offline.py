#!/usr/bin/env python3
"""Prove that a models folder needs no network: `python builder/verify_offline.py DIR`.

Checks every file against `profile.json`, then loads each model with the network refused and
runs one second of audio through it. Prints one line a model; exit code 1 when anything is
missing, broken or tried to leave the machine, with the remedy.
"""

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from builder.digests import sha256_of
from builder.errors import BuildError, ModelBroken
from builder.folders import PROFILE_JSON
from builder.network_guard import no_network
from worker.offline import go_offline


@dataclass(frozen=True)
class Check:
    """What to call a model, and how to find out whether it works."""

    name: str
    run: Callable[[], None]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line tool and return its exit code."""
    parser = argparse.ArgumentParser(prog="verify_offline", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder: Path = parser.parse_args(arguments).folder.resolve()
    profile = "demo"
    try:
        document = read_profile(folder)
        profile = document["profile"]
        check_files(folder, document)
    except BuildError as exc:
        print(f"verify_offline: {exc}: {_remedy(profile, folder)}", file=sys.stderr)
        return 1
    go_offline(folder / document["nltk_data"])
    failures = [f for check in list_checks(folder, document) if (f := run_check(check))]
    for failure in failures:
        print(f"verify_offline: {failure}: {_remedy(profile, folder)}", file=sys.stderr)
    return 1 if failures else 0


def read_profile(folder: Path) -> dict[str, Any]:
    """Read a folder's `profile.json`.

    Raises:
        ModelBroken: There is none, or it is not JSON.
    """
    try:
        document: dict[str, Any] = json.loads((folder / PROFILE_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelBroken(f"{folder / PROFILE_JSON} cannot be read ({exc})") from exc
    return document


def check_files(folder: Path, document: dict[str, Any]) -> None:
    """Compare every file with its recorded SHA-256.

    Raises:
        ModelBroken: Names the files that are missing or changed.
    """
    entries = document["files"].items()
    missing = [name for name, _ in entries if not (folder / name).is_file()]
    if missing:
        raise ModelBroken(f"missing from {folder}: {', '.join(missing)}")
    changed = [name for name, entry in entries if sha256_of(folder / name) != entry["sha256"]]
    if changed:
        raise ModelBroken(f"changed in {folder}: {', '.join(changed)}")


def list_checks(folder: Path, document: dict[str, Any]) -> list[Check]:
    """List a check for each model that `profile.json` names."""
    with _quiet():
        from builder import checks
    sound = checks.one_second()
    whisper = document["whisper"]["models"]
    vad, diarization = document["vad"], document["diarization"]
    return [
        Check("nltk_data", partial(checks.check_splitters, folder / document["nltk_data"])),
        *(
            Check(f"whisper {name}", partial(checks.check_whisper, folder / model["path"], sound))
            for name, model in whisper.items()
        ),
        Check(
            f"vad {vad['name']}", partial(checks.check_segmentation, folder / vad["path"], sound)
        ),
        *(
            Check(
                f"align {language} {model['name']}",
                partial(checks.check_aligner, folder, model, language, sound),
            )
            for language, model in document["align"].items()
        ),
        Check(
            f"diarization {diarization['name']}",
            partial(checks.check_diarization, folder / diarization["path"], sound),
        ),
    ]


def run_check(check: Check) -> str | None:
    """Run one check with the network refused, and print its line.

    Returns:
        What is wrong, or None.
    """
    started = time.monotonic()
    failure = None
    with no_network() as attempts, _quiet():
        try:
            check.run()
        except Exception as exc:  # whatever a library raises is the finding that is reported
            failure = f"{check.name} does not work: {type(exc).__name__}: {exc}"
    if attempts:
        failure = f"{check.name} tried to reach {', '.join(sorted(set(attempts)))}"
    verdict = "FAILED" if failure else "ok"
    print(f"{check.name:34s} {verdict:6s} {time.monotonic() - started:5.1f} s", flush=True)
    return failure


def _remedy(profile: str, folder: Path) -> str:
    return f"run `python builder/fetch_models.py --profile {profile} --into {folder}`"


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
