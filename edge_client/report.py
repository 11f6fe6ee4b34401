"""Writes results to stdout and everything else to stderr, as text or as one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from edge_client.redaction import one_line, scrub


class Report:
    """Where a command's words go.

    Args:
        as_json: stdout gets exactly one object; people's text is left out.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, facts: Mapping[str, Any], text: str) -> None:
        """Print the result, once."""
        print(json.dumps(facts, ensure_ascii=False) if self.as_json else text)  # noqa: T201 - stdout is this class's business

    def note(self, message: str) -> None:
        """Tell the user something, on stderr."""
        print(scrub(message), file=sys.stderr, flush=True)  # noqa: T201 - as above

    def failure(self, code: str, message: str, exit_code: int) -> None:
        """Print an error: one line on stderr, or the one object on stdout."""
        line = one_line(message, 800)
        if self.as_json:
            error = {"code": code, "message": line, "exit_code": exit_code}
            self.result({"error": error}, "")
        else:
            self.note(f"edge-client: {line}")
