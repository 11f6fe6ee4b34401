"""``python -m worker meeting.m4a --format srt``: transcribe one recording on this machine.

Runs a job's pipeline without a queue, a URL or S3; the recording is read where it is. The result
goes to stdout or into a file; a failure is one line on stderr, with its code and remedy.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from bucketscribe_contract import FailureCode, JobOptions
from bucketscribe_contract.redact import one_line
from bucketscribe_render.document import parse
from bucketscribe_render.formats import FORMATS, Source
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.host.progress import ProgressReporter

INTERRUPTED = 130
_INTERVAL_S = 0.2
_GRACE_S = 3.0  # of an interrupted job, to end between two batches and to remove its files
_LINE_CHARS = 700


def _options(arguments: Sequence[str] | None) -> dict[str, Any]:
    """Read the command line: the fields of `JobOptions` that are given, and three of its own."""
    parser = argparse.ArgumentParser(
        "python -m worker",
        description="Transcribe one recording on this machine's GPU, or its CPU. MODELS_DIR names "
        "the models; the environment has the worker's other settings, too.",
    )
    parser.add_argument("recording", type=Path, help="Any file that FFmpeg reads.")
    parser.add_argument("--format", dest="form", choices=FORMATS, default="json")
    parser.add_argument(
        "--output", "-o", dest="into", type=Path, metavar="FILE", help="Write FILE, not stdout."
    )
    for name, field in JobOptions.model_fields.items():
        how: dict[str, Any] = {"help": field.description, "default": argparse.SUPPRESS}
        if isinstance(field.default, bool):
            how["action"] = argparse.BooleanOptionalAction
        elif name == "clip":
            how |= {"nargs": 2, "metavar": ("START_S", "END_S")}
        parser.add_argument(f"--{name.replace('_', '-')}", **how)
    options = vars(parser.parse_args(arguments))
    into = options["into"]
    if into is not None and (into.is_dir() or not os.access(into.absolute().parent, os.W_OK)):
        parser.error(f"--output {into}: give a file that can be written")
    if "clip" in options:
        options["clip"] = dict(zip(("start_s", "end_s"), options["clip"], strict=True))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _options(arguments)
    recording, form, into = (options.pop(name) for name in ("recording", "form", "into"))
    try:
        body, warnings = _transcribe(recording, options)
        text = FORMATS[form](Source(parse(body), body, recording.stem)).rstrip("\n") + "\n"
        _write(text.encode(), into)
    except KeyboardInterrupt:
        return INTERRUPTED
    except WorkerError as exc:
        return _failed(f"{exc.code}: {exc}")
    except Exception as exc:  # noqa: BLE001 - the last line of defence: people see no traceback
        return _failed(f"{FailureCode.INTERNAL}: {type(exc).__name__}: {exc}")
    for warning in warnings:
        _say(f"warning: {warning}")
    return 0


def _transcribe(recording: Path, options: dict[str, Any]) -> tuple[bytes, list[str]]:
    """Return the document's JSON and its warnings; leave the process if it is interrupted."""
    from worker.host.log import configure_logging
    from worker.runtime import Runtime
    from worker.stages.deliver import encode

    configure_logging()
    logging.getLogger().setLevel(logging.WARNING)
    token = CancelToken()
    progress = ProgressReporter([_show] if sys.stderr.isatty() else [], _INTERVAL_S)
    runtime = Runtime()
    pool = ThreadPoolExecutor(1)  # so that this thread can be interrupted
    job = pool.submit(runtime.run_local, recording, options, token, progress)
    try:
        output = job.result()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever presses it again waits no longer
        token.cancel()
        wait([job], _GRACE_S)
        _clear()
        _say("interrupted")
        os._exit(INTERRUPTED)  # no forward pass, and no model that is being loaded, is waited for
    finally:
        progress.close()
        _clear()
    return encode(output), output["warnings"]


def _show(update: dict[str, Any]) -> None:
    """Draw the progress on one line; whatever is written next begins where it does."""
    stage, percent = update["stage"], update["percent"]
    bar = "#" * round(percent / 4)
    sys.stderr.write(f"{stage:<10} [{bar:<25}] {percent:3.0f} %\x1b[K\r")
    sys.stderr.flush()


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[K")


def _write(body: bytes, into: Path | None) -> None:
    """Write the whole result, or nothing."""
    if into is None:
        sys.stdout.buffer.write(body)
        sys.stdout.flush()
        return
    part = into.with_name(f".{into.name}.{os.getpid()}")
    try:
        part.write_bytes(body)
        part.replace(into)
    finally:
        part.unlink(missing_ok=True)


def _failed(message: str) -> int:
    _say(message)
    return 1


def _say(message: str) -> None:
    print(one_line(message, _LINE_CHARS), file=sys.stderr, flush=True)  # noqa: T201 - a program


if __name__ == "__main__":
    sys.exit(main())
