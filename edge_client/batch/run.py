"""What ``edge-client batch`` does: puts listing, engine and view together.

Reads ``--since``: a date, a time, or how long ago.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from edge_client.batch.dry_run import dry_run
from edge_client.batch.engine import Engine, Stopping, Terms, Wish
from edge_client.batch.listing import Scope
from edge_client.batch.plan import Wishes, items
from edge_client.batch.progress import print_summary, view_for_batch
from edge_client.batch.report import ReportFile, failed_in
from edge_client.errors import BadUsage, EdgeError, Interrupted
from edge_client.jobs.callback_url import checked as checked_webhook
from edge_client.jobs.claim import Claim
from edge_client.jobs.poll import PollInterval
from edge_client.jobs.submit import Order, check_job_options
from edge_client.services.edge import Edge
from edge_client.services.presign import LIKELY_FACTOR
from edge_client.text import Printer

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


LONGEST_PAUSE_S = 30.0
STRAGGLER_PAUSE_S = 60.0
"""With webhooks: before the first look, beside the time that the recording takes."""
LONGEST_STRAGGLER_PAUSE_S = 300.0


@dataclass(frozen=True)
class Options:
    """The command line.

    Attributes:
        sessions: Prefixes or bare names; none: the whole bucket.
        job: Fields of `JobInput`.
    """

    sessions: tuple[str, ...]
    user: str | None
    since: str | None
    limit: int | None
    stale: bool
    force: bool
    dry_run: bool
    max_in_flight: int
    report_path: Path | None
    failed_path: Path | None
    webhook: str | None
    job: Mapping[str, Any]

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            BadUsage: Naming the options.
        """
        scopes = {
            "--session": self.sessions,
            "--user": self.user,
            "--retry-failed": self.failed_path,
        }
        given = [name for name, value in scopes.items() if value]
        if len(given) > 1:
            raise BadUsage(f"{' and '.join(given)} each say which sessions: give one of them")
        if self.dry_run and self.report_path is not None:
            raise BadUsage("--dry-run runs nothing that --report could report: give one of them")


def sorted_out(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return click's options with those that become fields of the job's input under ``job``."""
    own = {field.name for field in fields(Options)}
    mine = {name: value for name, value in options.items() if name in own}
    return mine | {"job": {name: v for name, v in options.items() if name not in own}}


def batch(env_file: Path | None, report: Printer, options: Options) -> int:
    """Run a batch, or show what it would run; return the exit code."""
    options.check()
    job = check_job_options(options.job)
    failed = failed_in(options.failed_path) if options.failed_path is not None else ()
    edge = Edge.load(env_file)
    if options.webhook is not None:
        checked_webhook(options.webhook, edge.settings.runpod_url)
    wishes = Wishes(
        stale=options.stale,
        force=options.force,
        since=None if options.since is None else parse_since(options.since, edge.clock.now()),
        limit=options.limit,
    )
    named = tuple(edge.session(text) for text in options.sessions) + failed
    if options.failed_path is not None and not failed:
        report.note(f"nothing failed in {options.failed_path}: there is nothing to try again")
        return 0
    scope = Scope(named, options.user)
    if options.dry_run:
        return dry_run(edge, scope, wishes, report.as_json)
    wanted = Order(job, options.webhook, options.force, report.note).wanted()
    terms = Terms(wanted, partial(pace_of, options.webhook is not None), options.max_in_flight)
    return _run(edge, report, options, terms, lambda: items(edge, scope, wishes))


def _run(edge: Edge, report: Printer, options: Options, terms: Terms, listing: Any) -> int:
    stopping, problem = Stopping(), None
    with ExitStack() as stack:
        path = options.report_path
        file = None if path is None else stack.enter_context(ReportFile(path, edge.clock))
        price = edge.settings.price_per_s
        view = stack.enter_context(view_for_batch(report.as_json, edge.clock, price, file))
        stack.enter_context(stopping.by_signals())
        try:
            Engine(edge, terms, view, stopping).run(listing())
        except EdgeError as exc:
            problem = exc
    summary = view.summary(edge.requests.made())
    print_summary(summary, report.as_json)
    if problem is not None:
        raise problem
    if stopping.wish is not Wish.GO_ON:
        raise Interrupted("interrupted; jobs that are out go on: the same command resumes")
    return summary.exit_code


def pace_of(webhooks: bool, claim: Claim) -> PollInterval:
    """Return how often a job is looked at; with webhooks only when its callback is overdue."""
    if not webhooks:
        return PollInterval(longest_s=LONGEST_PAUSE_S)
    first_s = STRAGGLER_PAUSE_S + LIKELY_FACTOR * claim.duration_s
    return PollInterval(first_s, max(first_s, LONGEST_STRAGGLER_PAUSE_S))
