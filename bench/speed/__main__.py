"""``python -m bench.speed``: measure ours against stock, write docs/benchmarks.{json,md}.

Everything, or the parts named with ``--only``; what a part measured replaces what
``docs/benchmarks.json`` has of it, and the rest stays with its own date. ``--dry-run`` prints and
writes nothing; ``--only quick --pairs 1 --dry-run`` is for work on the engine. Figures are worth
something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.speed import PARTS, QUICK
from bench.speed.inputs import Bench
from bench.speed.report import markdown, merge
from bench.speed.turns import PART as THREADS
from bench.speed.turns import is_known
from bench.whole_path import ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    options = _parser().parse_args(arguments)
    written = _read(options.docs / "benchmarks.json")
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder = options.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(options.models, folder, options.pairs, dict(written.get("parts", {})))
        document = written
        for name in options.only or choose(written.get("parts", {})):
            document = merge(document, name, _measure(PARTS[name](), name, bench))
            if not options.dry_run and name != QUICK:
                _write(document, options.docs)
    print(json.dumps(document, indent=1) if options.dry_run else markdown(document))
    return 0


def choose(found: Mapping[str, Any]) -> list[str]:
    """Name what is measured unless asked otherwise: all but `QUICK`, threads only if unknown."""
    return [name for name in PARTS if name != QUICK and not (name == THREADS and is_known(found))]


def _measure(part: Callable[[Bench], dict[str, Any]], name: str, bench: Bench) -> dict[str, Any]:
    from bench.speed.measure import describe

    print(f"{name}:")
    started = time.monotonic()
    measured = part(bench)
    bench.found[name] = measured
    seconds = time.monotonic() - started
    print(f"{name}: {seconds:.0f} s")
    today = datetime.now(UTC).date().isoformat()
    return measured | {"date": today, "machine": describe(), "bench_s": round(seconds)}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _write(document: Mapping[str, Any], docs: Path) -> None:
    (docs / "benchmarks.json").write_text(json.dumps(document, indent=1) + "\n")
    (docs / "benchmarks.md").write_text(markdown(document))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", default=[])
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each comparison")
    parser.add_argument("--models", type=Path, default=ROOT / "models", metavar="DIR")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep recordings and answers")
    parser.add_argument("--dry-run", action="store_true", help="print figures, write nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
