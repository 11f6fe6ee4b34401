"""Chooses what a batch shows: a live table on a terminal, plain lines if not, JSON lines.

stdout is for results alone; everything else goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TextIO

from edge_client.batch.counting_view import CountingView
from edge_client.batch.plain_view import JsonLinesView, PlainView
from edge_client.batch.printable import visible
from edge_client.batch.report_file import ReportFile
from edge_client.batch.summary import Summary
from edge_client.clock import Clock


@contextmanager
def view_for_batch(
    as_json: bool,
    clock: Clock,
    price_per_s: Decimal | None = None,
    report: ReportFile | None = None,
    stream: TextIO | None = None,
) -> Iterator[CountingView]:
    """Choose a view, and take it away again.

    Args:
        as_json: The output is for a program.
        clock: Real, or a test's.
        price_per_s: Of a GPU second, for the summary.
        report: Gets a line for each session that ends.
        stream: Instead of stderr.
    """
    stream = stream or sys.stderr
    if as_json:
        yield JsonLinesView(sys.stdout, stream, clock, price_per_s, report)
    elif stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        from rich.console import Console  # rich costs 0.1 s: only who has a terminal pays

        from edge_client.batch.live_view import LiveView

        view = LiveView(Console(file=stream), clock, price_per_s, report)
        with view.live():
            yield view
    else:
        yield PlainView(stream, clock, price_per_s, report)


def print_summary(summary: Summary, as_json: bool, out: TextIO | None = None) -> None:
    """Print what a batch came to: people's lines, or an object under the key ``summary``.

    Args:
        summary: After the view was taken away.
        as_json: The last of the JSON lines.
        out: Instead of stdout.
    """
    out = out or sys.stdout
    if as_json:
        out.write(json.dumps({"summary": summary.facts()}) + "\n")
    else:
        lines = summary.text().split("\n")
        out.writelines(f"{visible(line, out.encoding or 'utf-8')}\n" for line in lines)
    out.flush()
