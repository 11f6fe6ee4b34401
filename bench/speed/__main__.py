"""``python -m bench.speed``: measure ours against stock, write docs/benchmarks.{json,md}.

Every part of `PARTS`, or those named with ``--only``; what a part measured replaces what
docs/benchmarks.json has of it, and the rest stays with its own date. ``--dry-run`` prints and
writes nothing; ``--only quick --pairs 1 --dry-run`` is for work on the engine. Figures are worth
something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.corpus import ROOT
from bench.speed.inputs import Bench
from bench.speed.measure import describe
from bench.speed.report import markdown, merge
from bench.speed.whole_job import (
    measure_cold_start,
    measure_english,
    measure_german,
    measure_memory,
    measure_quick,
    measure_stages,
)

QUICK = "quick"
"""The telephone sample alone: for work on the engine, never written."""
PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "english": measure_english,
    "german": measure_german,
    "stages": measure_stages,
    "memory": measure_memory,
    "cold_start": measure_cold_start,
    QUICK: measure_quick,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", default=[])
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each comparison")
    parser.add_argument("--models", type=Path, default=ROOT / "models", metavar="DIR")
    parser.add_argument("--dry-run", action="store_true", help="print figures, write nothing")
    options = parser.parse_args(arguments)
    file = ROOT / "docs" / "benchmarks.json"
    document: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        bench = Bench(options.models, Path(made), options.pairs)
        for name in options.only or [name for name in PARTS if name != QUICK]:
            document = merge(document, name, _measure(name, bench))
            if not options.dry_run and name != QUICK:
                file.write_text(json.dumps(document, indent=1) + "\n")
                file.with_suffix(".md").write_text(markdown(document))
    print(json.dumps(document, indent=1) if options.dry_run else markdown(document))
    return 0


def _measure(name: str, bench: Bench) -> dict[str, Any]:
    print(f"{name}:")
    started = time.monotonic()
    measured = PARTS[name](bench)
    seconds = round(time.monotonic() - started)
    print(f"{name}: {seconds} s")
    today = datetime.now(UTC).date().isoformat()
    return measured | {"date": today, "machine": describe(), "bench_s": seconds}


if __name__ == "__main__":
    sys.exit(main())
