"""The command line: options, help, and the one place where errors become exit codes.

Only click is imported here. What a command needs (boto3 above all) is imported when it runs, so
that ``--help`` and usage errors answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

import click

from edge_client.errors import EdgeError
from edge_client.options import (
    JSON_HELP,
    amount,
    done_by,
    file_option,
    filters,
    flag,
    format_option,
    global_options,
    job_options,
    layout_options,
    number,
    session_argument,
    session_or_job,
    since_option,
    user_option,
    wait_at_most,
    webhook_option,
)
from edge_client.text import Printer, visible


@click.command()
@click.option(
    "--session",
    "sessions",
    multiple=True,
    metavar="SESSION",
    help="Only this session; can be given several times. Runs it although it failed before.",
)
@user_option
@since_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Run at most N sessions.")
@click.option("--stale/--no-stale", default=True, help="Run those whose recording is newer, too.")
@flag("--force", help="Run sessions that are done or in flight, too.")
@flag("--changed", help="Run those whose recording has another ETag, too.")
@flag("--verify", help="Read every transcript, and run those that are bad.")
@flag("--watch", help="Go on for ever with what is recorded meanwhile.")
@flag("--dry-run", help="Show what would run; submit and write nothing.")
@number(
    "--max-in-flight",
    type=click.IntRange(1, 10_000),
    default=100,
    help="Jobs of this edge box that wait or run at once.",
)
@amount(
    "--max-gpu-seconds",
    "max_gpu_s",
    metavar="S",
    help="Submit no more before this is exceeded; what is in flight counts as expected.",
)
@amount("--max-cost", metavar="X", help="The same in money, where RUNPOD_PRICE_PER_SECOND is set.")
@file_option("--report", "report_path", help="Append a line of JSON to FILE for each session.")
@file_option(
    "--retry-failed",
    "failed_path",
    help="Only the sessions that failed, as the --report FILE of an earlier batch has it.",
)
@job_options
@webhook_option
@done_by("batch.run", json_help="Print a line of JSON for each session.")
def batch() -> None:
    """Run every session that has a recording and no transcript of it, or an older one.

    Submits while it still lists the bucket, follows all jobs to their end, and recovers what
    fails as `submit --wait` does. Any number of edge boxes can work on one bucket: claims in S3
    keep them from submitting a session twice, and after a crash any of them goes on.

    Ctrl-C once submits no more and waits for the jobs in flight; twice leaves at once, and the
    jobs go on. The same command resumes. Sessions that failed for good are not run again by
    themselves: see --retry-failed.
    """


@click.group(no_args_is_help=False)
@global_options(hidden=True, json_help=JSON_HELP)
def webhook() -> None:
    """Receive RunPod's callbacks when jobs end."""


@webhook.command()
@click.option(
    "--listen",
    default="127.0.0.1:8787",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the TLS proxy forwards to. Port 0: any free one.",
)
@file_option(
    "--secret-file", help="Holds the secret of the URL. Default: the setting WEBHOOK_SECRET."
)
@done_by("webhook", json_help=None)
def serve() -> None:
    """Finish each session that RunPod calls about.

    Serves plain HTTP for a TLS proxy, POST /…/SECRET/SESSION and GET /health, until SIGTERM or
    Ctrl-C. A callback only says where to look: RunPod's /status and S3 decide, and what fails is
    recovered as by `wait`. Nothing is lost while it is down: `batch` and `wait` find every job
    in S3.
    """


@webhook.command()
@click.option(
    "--base",
    default="https://HOST/PATH",
    show_default=True,
    metavar="URL",
    help="Where the TLS proxy answers.",
)
@done_by("webhook")
def secret() -> None:
    """Print a fresh secret, and the --webhook to use with it."""


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@global_options(hidden=False, json_help=JSON_HELP)
@click.version_option(package_name="bucketscribe", message="%(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Transcribe recordings in S3 on rented GPUs.

    SESSION is a prefix as in the bucket (users/USER/audio/sessions/NAME), a bare NAME, which is
    looked up, or s3://BUCKET/KEY; with RECORDING_PATTERN set, it is a recording's key. Exit codes:
    0 all done, 1 some failed, 2 usage, 3 not configured or not reachable. The options below may
    stand anywhere on the line.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command()
@session_argument
@click.option(
    "--expires",
    "expires_s",
    type=int,
    metavar="SECONDS",
    help="How long the URLs work, 1 to 604800. Default: PRESIGNED_URL_EXPIRY.",
)
@done_by("commands")
def presign() -> None:
    """Print the GET and the PUT URL of SESSION, ready for curl."""


@cli.command()
@click.argument("session", metavar="SESSION|FILE")
@click.option("--user", metavar="USER", help="Whose recording the FILE is. Default: local.")
@click.option(
    "--session", "name", metavar="NAME", help="The session of the FILE. Default: the file's name."
)
@job_options
@webhook_option
@flag(
    "--progress-file",
    help="Have the worker write how far it is into transcription.progress.json, too.",
)
@flag("--wait", help="Follow the job to its end, and recover what fails.")
@wait_at_most
@flag("--force", help="Submit although SESSION is done or its job in flight.")
@done_by("commands")
def submit() -> None:
    """Submit SESSION, unless it is done or its job is in flight; a FILE is uploaded first.

    RECORDING_PATTERN says which key a FILE gets, whatever its ending: the worker looks into it.
    An upload that was cut off goes on where it was; a recording that is there is never replaced.

    A service that does not answer is asked again for five minutes. With --wait a job that fails
    in a way that another can mend is submitted again. In all a recording is submitted
    RETRY_ATTEMPTS (3) times, whoever does it: its claim in S3 counts; --force starts anew.
    """


@cli.command()
@session_argument
@wait_at_most
@done_by("commands")
def wait() -> None:
    """Follow the job of SESSION to its end, whoever submitted it.

    Recovers what fails as `submit --wait` does. A submission whose answer was lost is looked for,
    and made again once the endpoint has been without any job for LOST_ANSWER_SECONDS (120).
    """


@cli.command()
@session_or_job
@done_by("find")
def status() -> None:
    """Say what is known of a session or a job.

    Exit codes: 0 done, 1 failed or unknown, 4 queued or running, 5 not submitted, or no recording.
    """


@cli.command("list")
@filters
@flag("--details", help="Read claims and transcripts: length, speakers, language, warnings.")
@done_by("find", json_help="Print a line of JSON for each session.")
def list_sessions() -> None:
    """List sessions with state, date and size, as the bucket's listing tells them."""


@cli.command()
@session_or_job
@done_by("commands")
def cancel() -> None:
    """Cancel the job of a session, or a job."""


@cli.command()
@done_by("commands")
def health() -> None:
    """Print how many workers and jobs the endpoint has."""


@cli.command()
@done_by("commands")
def doctor() -> None:
    """Check settings, keys, bucket, clock and endpoint; name each fix."""


@cli.command()
@flag("--with-upload", help="Allow `submit FILE`, too: to store recordings.")
@done_by("commands")
def policy() -> None:
    """Print the least IAM policy that all commands need on this bucket.

    They sign the presigned URLs with the same keys, so it holds what the worker does through
    those, too. A bucket encrypted with a KMS key needs kms:Decrypt and kms:GenerateDataKey on it.
    """


@cli.command()
@session_argument
@format_option("form", default="txt")
@layout_options
@file_option("--output", "-o", help="Write FILE instead of stdout.")
@done_by("commands", json_help=None)
def render() -> None:
    """Print the transcript of SESSION.

    srt and vtt are subtitles; txt and md have a paragraph for each speaker's turn; json is the
    document as it is stored; tsv has a row for each segment, rttm a line for each turn and ctm
    one for each word.
    """


@cli.command()
@filters
@format_option("forms", multiple=True, default=["txt"], help="Can be given several times.")
@file_option("--output-dir", "-o", metavar="DIR", default=".", help="Folder. Default: this one.")
@layout_options
@done_by("find", json_help="Print a line of JSON for each session.")
def export() -> None:
    """Write the transcripts of many sessions into files, as DIR/USER/SESSION.FORMAT.

    The same command goes on where it stopped: files as new as their transcript are left alone.
    """


@cli.command()
@session_argument
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--speaker", "given", multiple=True, metavar="LABEL=NAME", help="SPEAKER_00=Ann, …")
@done_by("commands")
def name_speakers() -> None:
    """Write names of speakers into the transcript of SESSION.

    FILE is what the page of `view` saves as speakers' names. A transcript that is not the page's,
    or that somebody changes meanwhile, stays as it is.
    """


@cli.command()
@session_argument
@file_option("-o", "--output", "into", help="Write the page into this file or folder.")
@click.option("--open/--no-open", "opens", default=True, help="Open it in the browser (default).")
@flag("--link", help="Embed a presigned URL of the recording: the page is a secret until it ends.")
@done_by("commands")
def view() -> None:
    """Make a page of the transcript of SESSION, to read and hear.

    One HTML file that needs no server: the text follows the sound word by word. The sound is a file
    that you choose in the page; with --link it is the recording in S3, for PRESIGNED_URL_EXPIRY
    seconds.
    """


cli.add_command(batch)
cli.add_command(webhook)


def run(argv: Sequence[str]) -> int:
    """Run a command line, without its program's name; return the exit code.

    Errors are one line, never a traceback.
    """
    printer = Printer("--json" in argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever the terminal's encoding lacks
    try:
        return int(cli.main(list(argv), prog_name="edge-client", standalone_mode=False) or 0)
    except EdgeError as exc:
        _trace(argv)
        printer.failure(exc.code, str(exc), exc.exit_code)
        return exc.exit_code
    except click.ClickException as exc:
        context = getattr(exc, "ctx", None)
        path = context.command_path if context is not None else "edge-client"
        printer.failure("USAGE", f"{exc.format_message()} (see `{path} --help`)", 2)
        return 2
    except (click.Abort, KeyboardInterrupt):
        printer.failure("INTERRUPTED", "interrupted", 130)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # as in ``| head``
        return 1
    except Exception as exc:  # noqa: BLE001 - the last line of defence: people see no traceback
        _trace(argv)
        text = f"unexpected {type(exc).__name__}: {exc}; --debug shows where: please report it"
        printer.failure("INTERNAL", text, 1)
        return 1


def _trace(argv: Sequence[str]) -> None:
    if "--debug" in argv:
        import traceback

        click.echo("\n".join(map(visible, traceback.format_exc().split("\n"))), err=True)
