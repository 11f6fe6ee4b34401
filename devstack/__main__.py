"""Command line: `python -m devstack up --env-file F`."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import click

from devstack.process import remove
from devstack.s3 import StartFailed
from devstack.stack import ROOT, Stack, write_env_file

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def main() -> None:
    """S3 and RunPod's queue on this machine, with real workers."""


@main.command()
@click.option("--env-file", required=True, type=click.Path(path_type=Path, dir_okay=False),
              help="Written when all is up, removed at the end.")  # fmt: skip
@click.option("--workers", default=1, show_default=True, type=click.IntRange(0))
@click.option("--logs", default=ROOT / "logs", type=FOLDER, help="Default: logs/.")
@click.option("--models", default=ROOT / "models", type=FOLDER, help="Default: models/.")
@click.option("--worker-command", help="Run this instead of `python handler.py`.")
def up(env_file: Path, workers: int, logs: Path, models: Path, worker_command: str | None) -> None:
    """Start everything and stay until SIGINT or SIGTERM."""
    received: list[int] = []  # while all starts: an exception would lose a child half-way
    _on_signals(lambda number, _: received.append(number))
    command = shlex.split(worker_command) if worker_command else [sys.executable, "handler.py"]
    try:
        with Stack(workers, logs, models, command) as stack:
            _on_signals(signal.default_int_handler)
            if not received:
                _serve(stack, env_file)
    except KeyboardInterrupt:
        return  # the stack has ended what it started
    except (StartFailed, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def _on_signals(handler: Callable[[int, FrameType | None], Any]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _serve(stack: Stack, env_file: Path) -> None:
    click.echo(f"s3      {stack.s3.url}  bucket {stack.s3.bucket}")
    click.echo(f"queue   {stack.queue.endpoint_url}")
    click.echo(f"workers {len(stack.workers)}  logs {stack.logs}")
    stack.guard.watch_path(env_file)
    try:
        write_env_file(env_file, stack.env)
        click.echo("ready")
        signal.pause()
    finally:
        remove(env_file)
        click.echo("stopping")


if __name__ == "__main__":
    main()
