"""``edge-client batch``: its options. click alone is imported; see `edge_client.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_client.options import env_file_of_group, job_options, webhook_option
from edge_client.report import Report


@click.command()
@click.option(
    "--session",
    "sessions",
    multiple=True,
    metavar="SESSION",
    help="Only this session; can be given several times. Runs it although it failed before.",
)
@click.option("--user", metavar="USER", help="Only the sessions of this user.")
@click.option(
    "--since",
    metavar="WHEN",
    help="Only recordings stored since then: 2026-11-01, 2026-11-01T08:00 (UTC), 12h or 7d ago.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Run at most N sessions.")
@click.option("--stale/--no-stale", default=True, help="Run those whose recording is newer, too.")
@click.option("--force", is_flag=True, help="Run sessions that are done, too, or have a job out.")
@click.option("--dry-run", is_flag=True, help="Show what would run; submit and write nothing.")
@click.option(
    "--max-in-flight",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="Jobs of this edge box that wait or run at once.",
)
@click.option(
    "--report",
    "report_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Append a line of JSON to FILE for each session.",
)
@click.option(
    "--retry-failed",
    "failed_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Only the sessions that failed, as the --report FILE of an earlier batch has it.",
)
@job_options
@webhook_option
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each session.")
@env_file_of_group
def batch(env_file: Path | None, /, as_json: bool, **options: Any) -> int:
    """Run every session that has a recording and no transcript of it, or an older one.

    Submits while it still lists the bucket, follows all jobs to their end, and recovers what
    fails as `submit --wait` does. Any number of edge boxes can work on one bucket: claims in S3
    keep them from submitting a session twice, and after a crash any of them goes on.

    Ctrl-C once submits no more and waits for the jobs that are out; twice leaves at once, and the
    jobs go on. The same command resumes. Sessions that failed for good are not run again by
    themselves: see --retry-failed.
    """
    from edge_client.batch import run

    return run.batch(env_file, Report(as_json), run.Options(**run.sorted_out(options)))
