#!/usr/bin/env python3
"""Assemble a models folder: `python builder/fetch_models.py --profile demo --into DIR`.

The demo profile is made from installed packages alone, with no network; the production profile
is downloaded, every file checked. The folder appears at once, when it is complete: it is
assembled beside its place and then renamed. Exit codes: 0 the folder is complete, 1 it could
not be assembled (wrong bytes, a full disk), 2 usage, or a model that is not pinned, 3 a server
cannot be reached or wants a token.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from builder.assemble import describe, fill
from builder.errors import BuildError
from builder.folders import check_ours, fresh_folder, read_document
from builder.pins import (
    MODELS_TOML,
    PROFILES,
    HubProfile,
    PackageProfile,
    PinnedModel,
    load_profile,
)
from builder.production import Bake
from builder.selection import DEFAULT_LANGUAGES, DEFAULT_WHISPER, choose
from worker.offline import go_offline


def main(arguments: list[str] | None = None) -> int:
    """Run the command line tool and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        profile = load_profile(options.profile, options.pins)
        if isinstance(profile, HubProfile):
            print(_bake(profile, options).run())
        else:
            go_offline()
            warnings.filterwarnings("ignore", message=r"\s*torchcodec is not installed")
            print(fetch(profile, options.into, multilingual=options.with_multilingual))
    except BuildError as exc:
        print(f"fetch_models: {exc}", file=sys.stderr)
        return exc.exit_code
    except OSError as exc:
        print(
            f"fetch_models: {exc.filename or options.into}: {exc.strerror}: choose another place "
            "with --into and --downloads",
            file=sys.stderr,
        )
        return 1
    return 0


def fetch(profile: PackageProfile, into: Path, *, multilingual: bool = False) -> str:
    """Make sure that a folder holds the models of a profile of installed packages.

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
    check_ours(into)
    with fresh_folder(into) as fresh:
        fill(fresh, profile, models)
    seconds = time.monotonic() - started
    return f"{into}: {', '.join(m.name for m in models)} assembled in {seconds:.1f} s"


def is_complete(into: Path, profile: PackageProfile, models: tuple[PinnedModel, ...]) -> bool:
    """Say whether a folder holds these models, from these pins, every file in its full size."""
    document = read_document(into)
    if document is None:
        return False
    wanted = describe(profile, models)["provenance"]
    if any(document.get("provenance", {}).get(k) != v for k, v in wanted.items()):
        return False
    return all(
        (into / name).is_file() and (into / name).stat().st_size == entry["bytes"]
        for name, entry in document["files"].items()
    )


def _bake(profile: HubProfile, options: argparse.Namespace) -> Bake:
    models = choose(profile, options.whisper, options.languages, options.allow_unpinned)
    return Bake(
        profile, models, options.into, os.environ, downloads=options.downloads, jobs=options.jobs
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fetch_models", description="Assemble a folder of pinned models."
    )
    parser.add_argument("--profile", choices=PROFILES, required=True)
    parser.add_argument("--into", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--with-multilingual",
        action="store_true",
        help="demo: also Whisper base, 99 languages (145 MB)",
    )
    _add_production(parser.add_argument_group("production"))
    return parser


def _add_production(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--whisper",
        type=_names,
        default=DEFAULT_WHISPER,
        metavar="NAME,…",
        help=f"what WHISPER_MODEL may choose, the default first ({','.join(DEFAULT_WHISPER)})",
    )
    group.add_argument(
        "--languages",
        type=_names,
        default=DEFAULT_LANGUAGES,
        metavar="en,de,…",
        help=f"those to have word times ({','.join(DEFAULT_LANGUAGES)})",
    )
    group.add_argument(
        "--allow-unpinned",
        action="append",
        default=[],
        metavar="NAME",
        help="take this model as it is today; the build log says what to pin",
    )
    group.add_argument(
        "--downloads",
        type=Path,
        metavar="DIR",
        help="keep downloads here for the next build (a cache mount)",
    )
    group.add_argument("--jobs", type=_count, default=4, metavar="N", help="files at a time (4)")
    group.add_argument(
        "--pins", type=Path, default=MODELS_TOML, metavar="FILE", help="another models.toml"
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _count(text: str) -> int:
    if not (text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError("a number above 0 is wanted")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
