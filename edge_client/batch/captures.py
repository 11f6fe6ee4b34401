"""Puts what a batch prints into its guide: ``python -m edge_client.batch.captures docs/batch.md``.

The file's blocks between ``<!-- capture: NAME -->`` and ``<!-- /capture -->`` are written anew, of
the real views, on a scripted batch with a scripted clock.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from rich.console import Console

from edge_client.batch.counting_view import CountingView
from edge_client.batch.dry_run import show
from edge_client.batch.forecast import Forecast
from edge_client.batch.lengths import with_lengths
from edge_client.batch.live_view import LiveView
from edge_client.batch.plain_view import JsonLinesView, PlainView
from edge_client.batch.scenario import (
    REQUESTS,
    ScriptedTime,
    first_half,
    length_of,
    listing,
    second_half,
)
from edge_client.batch.view import print_summary
from edge_client.clock import Clock

WIDTH, HEIGHT = 100, 24
_PRICE = Decimal("0.00031")
_BLOCK = re.compile(r"(<!-- capture: ([a-z-]+) -->\n).*?(<!-- /capture -->)", re.DOTALL)


def live() -> str:
    """Return the terminal in the middle of a batch."""
    clock, out = ScriptedTime(), io.StringIO()
    console = Console(
        file=out,
        width=WIDTH,
        height=HEIGHT,
        force_terminal=True,
        color_system=None,
        legacy_windows=False,
    )
    view = LiveView(console, clock)
    first_half(view, clock)
    console.print(view)
    return out.getvalue()


def dry() -> str:
    """Return what a dry run of the same bucket prints."""
    out = io.StringIO()
    show(with_lengths(listing(), length_of), Forecast(price_per_s=_PRICE), as_json=False, out=out)
    return out.getvalue()


def plain() -> str:
    """Return the log of the same batch, to its end."""
    out = io.StringIO()
    _played(lambda clock: PlainView(out, clock))
    return out.getvalue()


def summary() -> str:
    """Return what is printed last."""
    out = io.StringIO()
    view = _played(lambda clock: CountingView(clock, _PRICE))
    print_summary(view.summary(REQUESTS), as_json=False, out=out)
    return out.getvalue()


def json_lines() -> str:
    """Return what a program reads: the failure's line; the others look the same."""
    out = io.StringIO()
    _played(lambda clock: JsonLinesView(out, io.StringIO(), clock))
    return "".join(line for line in out.getvalue().splitlines(True) if '"failed"' in line)


CAPTURES: dict[str, Callable[[], str]] = {
    "dry-run": dry,
    "live": live,
    "plain": plain,
    "summary": summary,
    "json-line": json_lines,
}


def with_captures(guide: str) -> str:
    """Return the guide with its blocks written anew.

    Raises:
        KeyError: A block has a name that is none of `CAPTURES`.
    """

    def block(match: re.Match[str]) -> str:
        lines = CAPTURES[match[2]]().strip("\n").split("\n")
        text = "\n".join(line.rstrip() for line in lines)
        return f"{match[1]}```\n{text}\n```\n{match[3]}"

    return _BLOCK.sub(block, guide)


def _played(view_at: Callable[[Clock], CountingView]) -> CountingView:
    clock = ScriptedTime()
    view = view_at(clock)
    first_half(view, clock)
    second_half(view, clock)
    return view


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_captures(path.read_text(encoding="utf-8")), encoding="utf-8")
