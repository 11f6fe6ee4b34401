"""Text that is safe and short on any terminal, and `Printer`, which prints it.

Keys in S3 are other people's: a name can hold escape sequences that rewrite a terminal, markup,
and characters that turn a line around. Redaction is imported late: pydantic comes with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

MESSAGE_CHARS = 300


def visible(text: str) -> str:
    r"""Return ``text`` with everything that cannot be seen written out, such as ``\x1b``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def safe_line(text: str, limit: int = MESSAGE_CHARS) -> str:
    """Return a message as one safe line, without secrets."""
    from bucketscribe_contract.redact import one_line

    return visible(one_line(text, limit))


def clock_time(seconds: float) -> str:
    """Return a span as ``h:mm:ss``."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def span(seconds: float) -> str:
    """Return a span in minutes, from two hours on in hours."""
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def audio_length(seconds: float) -> str:
    """Return how much audio, as `span` has it."""
    return f"{span(seconds)} of audio"


class Printer:
    """Prints a command's result to stdout, as text or as exactly one object; the rest to stderr."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, facts: Mapping[str, Any], text: str) -> None:
        """Print the result, once."""
        print(json.dumps(facts) if self.as_json else text)  # noqa: T201 - stdout is this class's business

    def note(self, message: str) -> None:
        """Tell the user something, on stderr."""
        from bucketscribe_contract.redact import scrub

        print(scrub(message), file=sys.stderr, flush=True)  # noqa: T201 - as above

    def failure(self, code: str, message: str, exit_code: int) -> None:
        """Print an error: one line on stderr, or the one object on stdout."""
        from bucketscribe_contract.redact import one_line

        line = one_line(message, 800)
        if self.as_json:
            error = {"code": code, "message": line, "exit_code": exit_code}
            self.result({"error": error}, "")
        else:
            self.note(f"edge-client: {line}")
