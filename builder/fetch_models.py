#!/usr/bin/env python3
"""Assemble a models folder: `python builder/fetch_models.py --profile demo --into DIR`.

The demo profile is made from installed packages alone, with no network. The folder appears
at once, when it is complete: it is assembled beside its place and then renamed. Exit codes:
0 the folder is complete, 1 it could not be assembled, 2 usage, or a profile that cannot be
assembled yet.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from builder.assemble import PROFILE_JSON, describe, fill
from builder.errors import BuildError, FolderError
from builder.pins import (
    PROFILES,
    HubProfile,
    PackageProfile,
    PinnedModel,
    load_profile,
)
from worker.offline import go_offline


def main(arguments: list[str] | None = None) -> int:
    """Run the command line tool and return its exit code."""
    options = _parser().parse_args(arguments)
    go_offline()
    warnings.filterwarnings("ignore", message=r"\s*torchcodec is not installed")
    try:
        profile = load_profile(options.profile)
        if isinstance(profile, HubProfile):
            print(_refusal(profile), file=sys.stderr)
            return 2
        print(fetch(profile, options.into, multilingual=options.with_multilingual))
    except BuildError as exc:
        print(f"fetch_models: {exc}", file=sys.stderr)
        return 1
    return 0


def fetch(profile: PackageProfile, into: Path, *, multilingual: bool = False) -> str:
    """Make sure that a folder holds a profile's models.

    Args:
        profile: The pinned models.
        into: The folder; replaced if an earlier run of this tool made it and it is not complete.
        multilingual: Also put in the multilingual Whisper model.

    Returns:
        One line that says what was done.

    Raises:
        SourceError: An installed file is missing or is not the pinned one.
        FolderError: The folder holds something else.
    """
    started = time.monotonic()
    models = profile.chosen(multilingual=multilingual)
    if is_complete(into, profile, models):
        return f"{into} is complete already"
    if into.exists() and not (into / PROFILE_JSON).is_file() and any(into.iterdir()):
        raise FolderError(f"{into} is not empty and holds no {PROFILE_JSON}: choose another folder")
    _assemble(into, profile, models)
    seconds = time.monotonic() - started
    return f"{into}: {', '.join(m.name for m in models)} assembled in {seconds:.1f} s"


def is_complete(into: Path, profile: PackageProfile, models: tuple[PinnedModel, ...]) -> bool:
    """Say whether a folder holds these models, from these pins, every file in its full size."""
    try:
        document = json.loads((into / PROFILE_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    wanted = describe(profile, models)["provenance"]
    if any(document.get("provenance", {}).get(k) != v for k, v in wanted.items()):
        return False
    return all(
        (into / name).is_file() and (into / name).stat().st_size == entry["bytes"]
        for name, entry in document["files"].items()
    )


def _assemble(into: Path, profile: PackageProfile, models: tuple[PinnedModel, ...]) -> None:
    """Fill a sibling folder and swap it in, leaving nothing behind whatever happens."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{into.name}-", dir=into.parent) as scratch:
        fresh = Path(scratch, "fresh")
        fresh.mkdir()
        fill(fresh, profile, models)
        if into.exists():
            into.rename(Path(scratch, "old"))
        fresh.rename(into)


def _refusal(profile: HubProfile) -> str:
    unpinned = profile.unpinned()
    detail = f"; no revision is pinned yet for: {', '.join(unpinned)}" if unpinned else ""
    return (
        "fetch_models: downloading the production profile is not built yet; "
        f"use --profile demo{detail}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fetch_models", description="Assemble a folder of pinned models."
    )
    parser.add_argument("--profile", choices=PROFILES, required=True)
    parser.add_argument("--into", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--with-multilingual", action="store_true", help="also Whisper base, 99 languages (145 MB)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
