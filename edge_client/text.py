"""Text that is safe and short on any terminal, and `Printer`, which prints it.

Keys in S3 are other people's: a name can hold escape sequences that rewrite a terminal, markup,
and characters that turn a line around. Redaction is imported late: pydantic comes with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, TextIO

MESSAGE_CHARS = 300
NOTE_CHARS = 800


def visible(text: str) -> str:
    """Return text as `redact.visible` makes it."""
    from bucketscribe_contract import redact

    return redact.visible(text)


def safe_line(text: str, limit: int = MESSAGE_CHARS) -> str:
    """Return a message as one safe line, without secrets."""
    from bucketscribe_contract.redact import one_line

    return one_line(text, limit)


def end_of(text: str, room: int, mark: str = "…") -> str:
    """Return text with its beginning cut, so that it takes ``room`` columns of a terminal."""
    from rich.cells import cell_len

    while cell_len(text) > max(room, 1):
        text = mark + text.removeprefix(mark)[1:]
    return text


def session_count(count: int) -> str:
    """Return how many sessions, such as ``1 session``."""
    return f"{count:,} session{'' if count == 1 else 's'}"


def span(seconds: float) -> str:
    """Return a span in minutes, from two hours on in hours."""
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def say(message: str, stream: TextIO | None = None) -> None:
    """Print a message as one safe line, on stderr if nothing else is said."""
    print(safe_line(message, NOTE_CHARS), file=stream or sys.stderr, flush=True)  # noqa: T201


class Printer:
    """Prints a command's result to stdout, as text or as exactly one object; the rest to stderr.

    What it prints may come from outside: nothing in it begins a line, hides one, or is a secret.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json, self.note = as_json, say

    def result(self, facts: Mapping[str, Any], *lines: str, reveals: bool = False) -> None:
        """Print the result, once; with ``reveals`` it is made of secrets that were asked for."""
        if self.as_json:
            self.text(json.dumps(facts if reveals else _scrubbed(facts)))
        else:
            self.text("\n".join(lines if reveals else map(visible, lines)))

    def text(self, text: str) -> None:
        """Print text that is safe, as it is."""
        print(text, flush=True)  # noqa: T201 - stdout is this class's business

    def failure(self, code: str, message: str, exit_code: int) -> None:
        """Print an error: one line on stderr, or the one object on stdout."""
        if self.as_json:
            error = {"code": code, "message": safe_line(message, NOTE_CHARS)}
            self.result({"error": error | {"exit_code": exit_code}})
        else:
            self.note(f"edge-client: {message}")


def _scrubbed(value: Any) -> Any:
    from bucketscribe_contract.redact import scrub

    if isinstance(value, Mapping):
        return {scrub(name): _scrubbed(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(each) for each in value]
    return scrub(value) if isinstance(value, str) else value
