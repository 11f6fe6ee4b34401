"""The lines of counts and endings that the live table and the plain lines share. Pure."""

from __future__ import annotations

from edge_client.batch.printable import audio_length, safe_line, visible
from edge_client.batch.tally import Tally
from edge_client.batch.values import Need, Record
from edge_client.verdict import Result
from edge_client.views import remaining

_ALWAYS = ("queued", "running", Result.DONE.value, Result.FAILED.value)


def counts_line(tally: Tally) -> str:
    """Return how many sessions are where, such as ``3 queued, 2 running, 40 done, 0 failed``."""
    running = sum(job.is_running for job in tally.jobs.copy().values())
    counts = {
        "waiting": len(tally.waiting),
        "queued": len(tally.jobs) - running,
        "running": running,
        Result.DONE.value: 0,
        Result.FAILED.value: 0,
        **tally.results.copy(),
        "already done": tally.needs[Need.DONE],
    }
    shown = {kind: count for kind, count in counts.items() if count or kind in _ALWAYS}
    return ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in shown.items())


def totals_line(tally: Tally) -> str:
    """Return what there is in all, and how long it still takes."""
    listing = "so far, listing" if tally.listing else "in all"
    parts = [f"{tally.found:,} sessions {listing}", f"{audio_length(tally.audio_s)} done"]
    left_s = tally.left_s()
    if left_s is not None:
        parts.append(remaining(left_s) + (" for these" if tally.listing else ""))
    return ", ".join(parts)


def ending_line(record: Record, encoding: str = "utf-8") -> str:
    """Return how a session came out, as one line."""
    head = f"{visible(record.result)}: {visible(record.session, encoding)}: "
    if record.result != Result.DONE.value:
        code = f"{record.code}: " if record.code else ""
        return head + safe_line(code + record.message, encoding)
    parts = [
        "" if record.audio_s is None else audio_length(record.audio_s),
        "" if record.segments is None else f"{record.segments:,} segments",
        "" if record.speakers is None else f"{record.speakers} speakers",
        f"warnings: {' '.join(record.warnings)}" if record.warnings else "",
    ]
    return head + (safe_line(", ".join(filter(None, parts)), encoding) or "done")
