"""The command line: options, help, and the one place where errors become exit codes.

Only click is imported here. What a command needs (boto3 above all) is imported when it runs, so
that ``--help`` and usage errors answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edge_client.batch.command import batch as batch_command
from edge_client.errors import EdgeError
from edge_client.options import (
    as_json_flag,
    env_file_of_group,
    job_options,
    session_argument,
    wait_at_most,
    webhook_option,
)
from edge_client.redaction import configure_logging, scrub
from edge_client.report import Report
from edge_client.webhook.command import webhook as webhook_group


@click.group(
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read settings from FILE instead of .env; the environment wins over both.",
)
@click.option("--debug", is_flag=True, help="Show debug lines, and tracebacks of errors.")
@click.version_option(package_name="bucketscribe", message="%(version)s")
@click.pass_context
def cli(ctx: click.Context, env_file: Path | None, debug: bool) -> None:
    """Transcribe recordings in S3 on rented GPUs.

    SESSION is a prefix as in the bucket (users/USER/audio/sessions/NAME) or a bare NAME, which is
    looked up. Exit codes: 0 all done, 1 some failed, 2 usage, 3 not configured or not reachable.
    """
    configure_logging(debug)
    ctx.obj = env_file


@cli.command()
@session_argument
@click.option(
    "--expires",
    "expires_s",
    type=int,
    metavar="SECONDS",
    help="How long the URLs work, 1 to 604800. Default: PRESIGNED_URL_EXPIRY.",
)
@as_json_flag
@env_file_of_group
def presign(env_file: Path | None, session: str, expires_s: int | None, as_json: bool) -> int:
    """Print the GET and the PUT URL of SESSION, ready for curl."""
    from edge_client import commands

    return commands.presign(env_file, Report(as_json), session, expires_s)


@cli.command()
@session_argument
@job_options
@webhook_option
@click.option(
    "--progress-file",
    is_flag=True,
    help="Have the worker write how far it is into transcription.progress.json, too.",
)
@click.option("--wait", is_flag=True, help="Follow the job to its end, and recover what fails.")
@wait_at_most
@click.option("--force", is_flag=True, help="Submit although SESSION is done or has a job out.")
@as_json_flag
@env_file_of_group
def submit(
    env_file: Path | None,
    /,
    session: str,
    webhook: str | None,
    progress_file: bool,
    wait: bool,
    timeout_s: float | None,
    force: bool,
    as_json: bool,
    **wishes: Any,
) -> int:
    """Submit SESSION, unless it is done or its job is out.

    A submission that RunPod refuses for the moment is tried again: RETRY_ATTEMPTS (3) times in
    all, after RETRY_DELAY_SECONDS (30), then twice that, and so on. With --wait the same count
    holds for jobs that fail in a way that another job can mend; the claim in S3 keeps it, so the
    same command after a crash goes on where it stopped.
    """
    if timeout_s is not None and not wait:
        raise click.UsageError("--timeout says how long to --wait: give both")
    from edge_client import commands

    return commands.submit(
        env_file,
        Report(as_json),
        session,
        wishes,
        webhook=webhook,
        force=force,
        progress_file=progress_file,
        wait=wait,
        timeout_s=timeout_s,
    )


@cli.command()
@session_argument
@wait_at_most
@as_json_flag
@env_file_of_group
def wait(env_file: Path | None, session: str, timeout_s: float | None, as_json: bool) -> int:
    """Follow the job of SESSION to its end, whoever submitted it.

    Recovers what fails as `submit --wait` does. A submission whose answer was lost is looked for,
    and made again once the endpoint has been without any job for LOST_ANSWER_SECONDS (120).
    """
    from edge_client import commands

    return commands.wait(env_file, Report(as_json), session, timeout_s)


@cli.command()
@click.argument("what", metavar="SESSION|JOB")
@as_json_flag
@env_file_of_group
def status(env_file: Path | None, what: str, as_json: bool) -> int:
    """Say what is known of a session or a job."""
    from edge_client import commands

    return commands.status(env_file, Report(as_json), what)


@cli.command()
@click.argument("what", metavar="SESSION|JOB")
@as_json_flag
@env_file_of_group
def cancel(env_file: Path | None, what: str, as_json: bool) -> int:
    """Cancel the job of a session, or a job."""
    from edge_client import commands

    return commands.cancel(env_file, Report(as_json), what)


@cli.command()
@as_json_flag
@env_file_of_group
def health(env_file: Path | None, as_json: bool) -> int:
    """Print how many workers and jobs the endpoint has."""
    from edge_client import commands

    return commands.health(env_file, Report(as_json))


@cli.command()
@as_json_flag
@env_file_of_group
def doctor(env_file: Path | None, as_json: bool) -> int:
    """Check settings, keys, bucket, clock and endpoint; name each fix."""
    from edge_client import commands

    return commands.doctor(env_file, Report(as_json))


@cli.command()
@as_json_flag
@env_file_of_group
def policy(env_file: Path | None, as_json: bool) -> int:
    """Print the least IAM policy that all commands need on this bucket.

    They sign the presigned URLs with the same keys, so it holds what the worker does through
    those, too. A bucket encrypted with a KMS key needs kms:Decrypt and kms:GenerateDataKey on it.
    """
    from edge_client import commands

    return commands.policy(env_file, Report(as_json))


@cli.command()
@session_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["srt", "vtt", "txt"]),
    default="txt",
    show_default=True,
    help="Subtitles, or a line a segment with times and speaker.",
)
@env_file_of_group
def render(env_file: Path | None, session: str, form: str) -> int:
    """Print the transcript of SESSION."""
    from edge_client import commands

    return commands.render(env_file, Report(as_json=False), session, form)


cli.add_command(batch_command)
cli.add_command(webhook_group)


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are one line, never a traceback.

    Args:
        argv: Without the program's name.
    """
    report = Report("--json" in argv)
    try:
        return int(cli.main(list(argv), prog_name="edge-client", standalone_mode=False) or 0)
    except EdgeError as exc:
        _trace(argv)
        report.failure(exc.code, str(exc), exc.exit_code)
        return exc.exit_code
    except click.ClickException as exc:
        context = getattr(exc, "ctx", None)
        path = context.command_path if context is not None else "edge-client"
        report.failure("USAGE", f"{exc.format_message()} (see `{path} --help`)", 2)
        return 2
    except (click.Abort, KeyboardInterrupt):
        report.failure("INTERRUPTED", "interrupted", 130)
        return 130
    except BrokenPipeError:
        return _without_stdout()
    except Exception as exc:  # noqa: BLE001 - the last line of defence: people see no traceback
        _trace(argv)
        text = f"unexpected {type(exc).__name__}: {exc}; --debug shows where: please report it"
        report.failure("INTERNAL", text, 1)
        return 1


def _trace(argv: Sequence[str]) -> None:
    if "--debug" in argv:
        import traceback

        click.echo(scrub(traceback.format_exc()), err=True)


def _without_stdout() -> int:
    """Leave quietly when the reader of stdout (``| head``) is gone."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
