"""Reads ``--since``: a date, a time, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from edge_client.errors import BadUsage

_AGO = re.compile(r"(\d{1,6})([dh])")


def parse_since(text: str, now: datetime) -> datetime:
    """Return the moment that ``text`` means.

    Args:
        text: ``2026-11-01``, ``2026-11-01T08:30`` (UTC unless it says otherwise), ``7d``, ``12h``.
        now: Aware.

    Raises:
        BadUsage: It is none of these.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            number = int(ago[1])
            return now - (timedelta(days=number) if ago[2] == "d" else timedelta(hours=number))
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise BadUsage(
            f"--since {text!r}: give a date or time in UTC (2026-11-01, 2026-11-01T08:30), or how "
            "long ago (7d, 12h)"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
