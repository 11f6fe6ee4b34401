"""Options and arguments that several commands share, or that are many. click alone is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
as_json_flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
wait_at_most = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait no longer than this. The job goes on.",
)
webhook_option = click.option(
    "--webhook",
    metavar="URL",
    help="https URL that RunPod posts the ended job to; {session} in it becomes the session.",
)
session_argument = click.argument("session")
env_file_of_group = click.pass_obj


def job_options(command: F) -> F:
    """Add the options that become fields of the job's input, under its names."""
    speakers = {
        "--num-speakers": "Exactly this many speakers.",
        "--min-speakers": "At least this many speakers.",
        "--max-speakers": "At most this many speakers.",
    }
    for decorator in reversed(
        [
            click.option("--language", help="ISO 639-1, such as en. Default: detected."),
            click.option("--diarize/--no-diarize", default=True, help="Say who spoke (default)."),
            *(
                click.option(name, type=click.IntRange(1, 100), metavar="N", help=text)
                for name, text in speakers.items()
            ),
            click.option("--initial-prompt", help="Context for Whisper: names, subject."),
            click.option("--hotwords", help="Words that Whisper should favour."),
            click.option(
                "--strict",
                is_flag=True,
                help="Fail where alignment or diarization fails, instead of a warning.",
            ),
        ]
    ):
        command = decorator(command)
    return command
