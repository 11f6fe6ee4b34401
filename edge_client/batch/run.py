"""``edge-client batch``: puts plan, engine and progress together.

Takes the command line's options; prints, and returns the exit code. Raises `BadUsage` before
anything is done, `Interrupted` at the end, and what concerns every session as `EdgeError`.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from edge_client.api import check
from edge_client.batch.dry_run import dry_run as show_dry_run
from edge_client.batch.engine import Engine
from edge_client.batch.limits import Shutdown, ShutdownLevel
from edge_client.batch.listing import list_sessions
from edge_client.batch.plan import plan
from edge_client.batch.progress import progress_for
from edge_client.batch.results import ReportFile, failed_in
from edge_client.batch.types import Filter, PlannedAction, PlannedSession, RunConfig
from edge_client.doctor import read_by_url, write_by_url
from edge_client.errors import BadUsage, EdgeError, Interrupted
from edge_client.jobs.claim import Claim
from edge_client.jobs.poll import PollInterval
from edge_client.services.edge import Edge
from edge_client.services.presign import LIKELY_FACTOR
from edge_client.session import Session
from edge_client.text import Printer

LONGEST_PAUSE_S = 30.0
RELIST_S = 120.0
"""The bucket is listed again after so long, while a batch works."""
OVERDUE_S = 60.0
"""With webhooks: before the first poll, beside the time that the recording takes."""
LONGEST_OVERDUE_PAUSE_S = 300.0
_AGO = re.compile(r"(\d{1,6})([dh])")


def batch(
    env_file: Path | None,
    printer: Printer,
    *,
    sessions: tuple[str, ...],
    user: str | None,
    since: str | None,
    limit: int | None,
    stale: bool,
    force: bool,
    changed: bool,
    verify: bool,
    watch: bool,
    dry_run: bool,
    max_in_flight: int,
    max_gpu_s: float | None,
    max_cost: float | None,
    report_path: Path | None,
    failed_path: Path | None,
    webhook: str | None,
    **job: Any,
) -> int:
    """Run a batch, or show what it would run; return the exit code.

    Takes the command line's options; what is not named here is a field of `JobInput`.
    """
    _refuse_two({"--session": sessions, "--user": user, "--retry-failed": failed_path})
    _refuse_two({"--dry-run": dry_run, "--report": report_path})
    for name, value in (("--dry-run", dry_run), ("--limit", limit), ("--force", force)):
        _refuse_two({"--watch": watch, name: value})
    _refuse_two({"--max-gpu-seconds": max_gpu_s, "--max-cost": max_cost})
    edge = Edge.load(env_file)
    wanted = check(edge, webhook, progress_file=False, **job)
    failed = failed_in(failed_path, edge.settings.recordings) if failed_path is not None else ()
    how = {"limit": limit, "stale": stale, "force": force, "changed": changed, "verify": verify}
    chosen = choose(edge, (*sessions, *failed), user, since, **how)
    if failed_path is not None and not failed:
        printer.note(f"no session of {failed_path} failed: there is nothing to retry")
        return 0
    if verify:
        listed = [each for each in list_sessions(edge.bucket, chosen) if each.has_transcript]
        gets = sum(1 + (each.claim is not None) for each in listed)
        printer.note(f"--verify reads {len(listed):,} transcripts: {gets:,} GET requests")
    if dry_run:
        return show_dry_run(edge, chosen, printer)
    interval = partial(poll_interval, webhook is not None)
    gpu_s = max_gpu_s if max_cost is None else _affordable_s(edge, max_cost)
    relist_s, floor = None if limit or chosen.sessions else RELIST_S, edge.settings.queue_floor
    config = RunConfig(wanted, interval, max_in_flight, floor, gpu_s, chosen, relist_s, watch)
    return _run(edge, config, report_path, printer)


def _affordable_s(edge: Edge, cost: float) -> float:
    """Return the GPU seconds that a sum pays for."""
    price = edge.settings.price_per_s
    if not price:
        raise BadUsage("--max-cost: set RUNPOD_PRICE_PER_SECOND, or give --max-gpu-seconds")
    return cost / float(price)


def _refuse_two(options: Mapping[str, object]) -> None:
    given = [name for name, value in options.items() if value]
    if len(given) > 1:
        raise BadUsage(f"{' and '.join(given)} contradict each other: give one of them")


def _run(edge: Edge, config: RunConfig, report_path: Path | None, printer: Printer) -> int:
    shutdown, problem = Shutdown(), None
    with ExitStack() as stack:
        report = None
        if report_path is not None:
            report = stack.enter_context(ReportFile(report_path, edge.clock))
        price = edge.settings.price_per_s
        progress = stack.enter_context(progress_for(printer.as_json, edge.clock, price, report))
        stack.enter_context(shutdown.on_signals())
        try:
            engine, tried = Engine(edge, config, progress, shutdown), list[str]()
            engine.run(lambda: _tried_first(edge, plan(edge, config.chosen, closes=True), tried))
        except EdgeError as exc:
            problem = exc
    summary = progress.summary(dict(edge.requests.most_common()))
    summary.show(printer)
    if problem is not None:
        raise problem
    if shutdown.level is not ShutdownLevel.NONE:
        raise Interrupted("interrupted; jobs in flight go on: the same command resumes")
    return summary.exit_code


def _tried_first(
    edge: Edge, sessions: Iterable[PlannedSession], tried: list[str]
) -> Generator[PlannedSession, None, None]:
    """Try what the jobs rely on, once, before the first session that needs one."""
    for planned in sessions:
        if planned.action is PlannedAction.SUBMIT and not tried:
            tried += [read_by_url(edge), write_by_url(edge)]
        yield planned


def poll_interval(webhooks: bool, claim: Claim) -> PollInterval:
    """Return how often a job is polled; with webhooks only when its callback is overdue."""
    if not webhooks:
        return PollInterval(longest_s=LONGEST_PAUSE_S)
    first_s = OVERDUE_S + LIKELY_FACTOR * claim.duration_s
    return PollInterval(first_s, max(first_s, LONGEST_OVERDUE_PAUSE_S))


def choose(
    edge: Edge, sessions: Sequence[Session | str], user: str | None, since: str | None, **how: Any
) -> Filter:
    """Return the filter of these sessions, as users type them, or of a user's, or of all.

    ``how`` are `Filter`'s other fields.
    """
    _refuse_two({"SESSION": sessions, "--user": user})
    earliest = None if since is None else parse_since(since, edge.clock.now())
    return Filter(tuple(map(edge.session, sessions)), user, earliest, **how)


def parse_since(text: str, now: datetime) -> datetime:
    """Return the moment that ``--since`` means; raises `BadUsage`.

    Such as ``2026-11-01``, ``2026-11-01T08:30`` (UTC unless it says otherwise), ``7d``, ``12h``.
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
