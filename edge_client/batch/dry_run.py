"""``edge-client batch --dry-run``: what would run, a line each as it is found, and the sums.

Reads the bucket as a batch does; writes and posts nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from typing import Any, TextIO

from edge_client.batch.assessment import Wishes
from edge_client.batch.forecast import Forecast
from edge_client.batch.lengths import Planned, with_lengths
from edge_client.batch.printable import clock_time, safe_line, visible
from edge_client.batch.scan import Scope
from edge_client.batch.triage import items
from edge_client.batch.values import Item, Need
from edge_client.edge import Edge
from edge_client.errors import AudioNotFound
from edge_client.posting import measured
from edge_client.recording import Length

SESSION_CHARS = 44
_UNITS = ("B", "kB", "MB", "GB")
_HEADER = f"{'':6}  {'size':>9}  {'audio':>9}  {'session':{SESSION_CHARS}}  why\n"


def dry_run(edge: Edge, scope: Scope, wishes: Wishes, as_json: bool) -> int:
    """Print what a batch would run; return the exit code: 1 if something is refused.

    Raises:
        EdgeError: S3 does not answer, or refuses.
    """
    forecast = Forecast(wishes.limit, edge.settings.price_per_s)
    with (
        closing(items(edge, scope, wishes)) as found,
        closing(with_lengths(found, partial(_length, edge))) as planned,
    ):
        show(planned, forecast, as_json, sys.stdout)
    return 1 if forecast.needs[Need.REFUSED] else 0


def _length(edge: Edge, item: Item) -> Length | None:
    try:
        return measured(edge, item.session.audio_key)[0]
    except AudioNotFound:
        return None


def show(planned: Iterable[Planned], forecast: Forecast, as_json: bool, out: TextIO) -> None:
    """Print sessions as they come, and the sums at the end.

    Args:
        planned: The sessions.
        forecast: Sums them up.
        as_json: A JSON object a line: every session but those done, then ``summary``.
        out: Where to.
    """
    encoding = out.encoding or "utf-8"
    for one in planned:
        forecast.add(one)
        if as_json and one.item.need is not Need.DONE:
            out.write(_json(_facts(one)))
        elif not as_json and one.item.need.is_work:
            out.write(_HEADER if forecast.work == 1 else "")
            out.write(_line(one, encoding))
    if as_json:
        out.write(_json({"summary": forecast.facts()}))
    else:
        out.write(("\n" if forecast.work else "") + forecast.text(encoding) + "\n")


def _line(one: Planned, encoding: str) -> str:
    item = one.item
    size = "" if item.audio is None else _size(item.audio.size_bytes)
    audio = ("~" if one.is_about else "") + clock_time(one.audio_s or 0.0)
    session = visible(item.session.prefix, encoding)
    why = safe_line(item.why, encoding)
    return f"{item.need:6}  {size:>9}  {audio:>9}  {session:{SESSION_CHARS}}  {why}\n"


def _facts(one: Planned) -> dict[str, Any]:
    item, claim = one.item, one.item.held.claim if one.item.held is not None else None
    return {
        "session": item.session.prefix,
        "need": item.need.value,
        "why": item.why,
        "audio_bytes": None if item.audio is None else item.audio.size_bytes,
        "audio_seconds": None if one.audio_s is None else round(one.audio_s, 3),
        "is_estimated": one.is_about,
        "job_id": claim.job_id if claim is not None and item.need is Need.FOLLOW else None,
    }


def _json(facts: dict[str, Any]) -> str:
    return json.dumps(facts) + "\n"


def _size(size_bytes: int) -> str:
    power = min((len(str(size_bytes)) - 1) // 3, len(_UNITS) - 1)
    return f"{size_bytes / 1000**power:,.{1 if power else 0}f} {_UNITS[power]}"
