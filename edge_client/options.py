"""Options that several commands have, and what carries a command out.

Only click is imported here. Global options may stand anywhere on the line: click keeps them for
the command that runs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr
from functools import partial, reduce, wraps
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_client.text import Printer

F = TypeVar("F", bound=Callable[..., Any])
flag = partial(click.option, is_flag=True)
file_option = partial(click.option, type=click.Path(path_type=Path), metavar="FILE")
amount = partial(click.option, type=click.FloatRange(min=0))
wait_at_most = amount(
    "--timeout", "timeout_s", metavar="SECONDS", help="Wait no longer than this. The job goes on."
)
webhook_option = click.option(
    "--webhook",
    metavar="URL",
    help="https URL that RunPod posts the ended job to, with {session}, {secret} (WEBHOOK_SECRET).",
)
session_argument = click.argument("session")
number = partial(click.option, show_default=True, metavar="N")
user_option = click.option("--user", metavar="USER", help="Only the sessions of this user.")
since_option = click.option(
    "--since",
    metavar="WHEN",
    help="Only recordings stored since then: 2026-11-01, 2026-11-01T08:00 (UTC), 12h or 7d ago.",
)
format_option = partial(
    click.option,
    "--format",
    type=click.Choice(["srt", "vtt", "txt", "md", "json", "tsv", "rttm", "ctm", "html"]),
    show_default=True,
)
JSON_HELP = "Print JSON, where the command has this option."
session_or_job = click.argument("what", metavar="SESSION|JOB")


def _remember(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    """Keep a global option for the command, wherever on the line it stands."""
    if value:
        ctx.meta[option.name or ""] = value


def together(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return the decorator that adds these options."""
    return lambda command: reduce(lambda inner, add: add(inner), reversed(decorators), command)


def global_options(*, hidden: bool, json_help: str | None) -> Callable[[F], F]:
    """Add the options that the program and every command take; with ``json_help`` ``--json``, too.

    ``hidden`` ones are not shown again in a command's help.
    """
    said = partial(flag, expose_value=False, callback=_remember)
    options = [
        file_option(
            "--env-file",
            expose_value=False,
            callback=_remember,
            hidden=hidden,
            help="Read settings from FILE instead of .env; the environment wins over both.",
        ),
        said("--quiet", hidden=hidden, help="Print results and errors, no notes and no progress."),
        said("--verbose", hidden=hidden, help="Show every request, its answer, what is retried."),
        said("--debug", hidden=hidden, help="Show debug lines, and tracebacks of errors."),
    ]
    if json_help is not None:
        options.append(said("--json", "as_json", help=json_help))
    return together(*options)


def done_by(
    module: str, json_help: str | None = "Print one JSON object."
) -> Callable[[Callable[[], None]], Callable[..., int]]:
    """Have a module's function of the same name do a command; it is imported when that runs.

    It takes the env file, the `Printer` that ``--json`` asks for, and the options by name, and
    returns the exit code. What is decorated has the other options and the help.
    """

    def decorate(described: Callable[[], None]) -> Callable[..., int]:
        @click.pass_context
        @wraps(described)
        def command(ctx: click.Context, /, **options: Any) -> int:
            from bucketscribe_contract.redact import configure_logging

            said, as_json = ctx.meta, ctx.meta.get("as_json", False)
            if as_json and json_help is None:
                raise click.NoSuchOption("--json", ctx=ctx)
            level = logging.ERROR if "quiet" in said else logging.WARNING
            level = logging.INFO if "verbose" in said else level
            configure_logging(logging.DEBUG if "debug" in said else level)
            work = getattr(import_module(f"edge_client.{module}"), described.__name__)
            with ExitStack() as stack:
                if "quiet" in said:  # errors are printed when this has ended
                    nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                    stack.enter_context(redirect_stderr(nowhere))
                return int(work(said.get("env_file"), Printer(as_json), **options))

        return global_options(hidden=True, json_help=json_help)(command)

    return decorate


speakers = partial(click.option, type=click.IntRange(1, 100), metavar="N")
job_options = together(
    # those that become fields of the job's input, under its names
    click.option("--language", help="Such as en, english or en-US. Default: detected."),
    click.option(
        "--task",
        type=click.Choice(["transcribe", "translate"]),
        default="transcribe",
        help="translate: the text is English, where the worker's model can.",
    ),
    click.option("--diarize/--no-diarize", default=True, help="Say who spoke (default)."),
    speakers("--num-speakers", help="Exactly this many speakers."),
    speakers("--min-speakers", help="At least this many speakers."),
    speakers("--max-speakers", help="At most this many speakers."),
    click.option("--initial-prompt", help="Context for Whisper: names, subject."),
    click.option("--hotwords", help="Words that Whisper should favour."),
    flag("--drop-flagged", help="Leave doubtful text out; the document lists it."),
    flag("--strict", help="Fail where alignment or diarization fails, instead of a warning."),
)
layout_options = together(
    number(
        "--line-width",
        type=click.IntRange(16, 200),
        default=42,
        help="Columns of a subtitle's line; a Chinese or Japanese character takes two.",
    ),
    number("--lines", type=click.IntRange(1, 3), default=2, help="Lines of a subtitle."),
)
filters = together(
    click.argument("sessions", nargs=-1, metavar="[SESSION]..."),
    user_option,
    since_option,
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N sessions."),
)
