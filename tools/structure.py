"""Figures of a checkout's structure, as a Markdown table: ``python -m tools.structure``.

Takes any checkout, whatever its modules are called. Sizes and imports are read from its files;
calls are counted in real runs (`tools.crossings`), which need its demo models and a minute.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import io
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from pathlib import Path
from typing import Any

import grimp

from bench.corpus import ROOT, read_recording, write_recording
from tools.crossings import REPEATS, crossings_of

NOTES = f"""
- Code has no blank lines, comments and docstrings. `__init__.py` is none of its folder's files.
- Arrows are imports, wherever they stand, between the entries of a program's folder (a subfolder
  is one entry). Those that run back up are the fewest without which the entries have no circle; of
  equal sets the one with the fewest run-time imports, then the one that leaves the fewest floors.
- Floors are the longest chain of entries without those arrows. Circles are of single modules.
- A file is entered when a function of it is called, but not by an import. A call crosses a file
  when the nearest of the product's frames above it, past those of libraries, is in another file; a
  generator that resumes is called.
- The client's worker answers at once, since each look at a job adds calls. Of {REPEATS} runs the
  one with the fewest calls is shown.
"""
PROGRAMS = ("edge_client", "worker")
RECORDING = ROOT / "tests" / "data" / "short.flac"
RUNS = {
    "submit": "`submit --wait`, first job good",
    "batch": "`batch` over three sessions",
    "warm_job": "one warm job in the worker",
}
Arrow = tuple[str, str]


def git(checkout: Path, *arguments: str) -> str:
    """Return what git says of the checkout; raises `SystemExit` if it is none."""
    command = ["git", "-C", str(checkout), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603  git alone
    if done.returncode != 0:
        raise SystemExit(f"git: {done.stderr.strip()}; name a checkout of bucketscribe")
    return done.stdout.strip()


def python_files(checkout: Path) -> list[str]:
    """Return the Python files, relative to the checkout, that git tracks or would."""
    names = git(checkout, "ls-files", "--cached", "--others", "--exclude-standard", "*.py")
    return sorted(name for name in set(names.splitlines()) if (checkout / name).is_file())


def code_lines(text: str) -> int:
    """Count the lines that are neither blank nor comment nor docstring."""
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in empty:
            code.update(range(token.start[0], token.end[0] + 1))
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            code.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return sum(at in code for at, line in enumerate(text.splitlines(), 1) if line.strip())


def sizes(checkout: Path) -> dict[str, Any]:
    """Return the figures of files and lines."""
    texts = {name: (checkout / name).read_text(encoding="utf-8") for name in python_files(checkout)}
    lines = {name: len(text.splitlines()) for name, text in texts.items()}
    ours = [name for name in texts if not name.startswith("tests/")]
    modules = [Path(name) for name in ours if Path(name).name != "__init__.py"]
    folder, most = Counter(str(path.parent) for path in modules).most_common(1)[0]
    programs = {one: [lines[n] for n in ours if n.startswith(f"{one}/")] for one in PROGRAMS}
    return {
        "files": len(ours),
        "lines": sum(lines[name] for name in ours),
        "code_lines": sum(code_lines(texts[name]) for name in ours),
        "mean_lines": {one: round(sum(its) / len(its)) for one, its in programs.items()},
        "fullest_folder": folder,
        "files_in_it": most,
        "test_lines": sum(lines[name] for name in texts.keys() - set(ours)),
    }


def layers(checkout: Path, package: str) -> dict[str, Any]:
    """Return how the imports of a package are layered."""
    found = importlib.util.find_spec(package)
    if found is None or Path(found.origin or "").parent != checkout / package:
        raise SystemExit(f"{checkout} has no package {package}: name a checkout of bucketscribe")
    graph = grimp.build_graph(package, cache_dir=None)
    if len(graph.modules) != sum(name.startswith(f"{package}/") for name in python_files(checkout)):
        raise SystemExit(
            f"a folder of {package} has no __init__.py: without it, imports are missed"
        )
    lean = grimp.build_graph(package, cache_dir=None, exclude_type_checking_imports=True)
    above = {module: graph.find_upstream_modules(module) for module in graph.modules}
    circles = {
        tuple(sorted({module, *(one for one in its if module in above[one])}))
        for module, its in above.items()
    }
    arrows = arrows_of(graph)
    upward = back_up(arrows, arrows_of(lean))
    return {
        "floors": floors(arrows - set(upward)),
        "arrows": len(arrows),
        "circles": sum(len(circle) > 1 for circle in circles),
        "back_up": len(upward),
    }


def arrows_of(graph: Any) -> set[Arrow]:
    """Return which entry of a package's folder imports which."""
    links = ((m, i) for m in graph.modules for i in graph.find_modules_directly_imported_by(m))
    entries = ((".".join(m.split(".")[:2]), ".".join(i.split(".")[:2])) for m, i in links)
    return {(upper, lower) for upper, lower in entries if upper != lower}


def floors(arrows: set[Arrow]) -> int:
    """Return how many entries the longest chain has; raises `CycleError` if it has no end."""
    below: dict[str, set[str]] = {}
    for upper, lower in arrows:
        below.setdefault(upper, set()).add(lower)
    floor: dict[str, int] = {}
    for entry in TopologicalSorter(below).static_order():
        floor[entry] = 1 + max((floor[lower] for lower in below.get(entry, ())), default=0)
    return max(floor.values(), default=1)


def back_up(arrows: set[Arrow], run_time: set[Arrow]) -> list[Arrow]:
    """Return the arrows that run back up, as NOTES has it."""
    inner, before = arrows, set[Arrow]()
    while inner != before:  # what leads to the circles, or away from them, is none of them
        before, uppers, lowers = inner, {upper for upper, _ in inner}, {lower for _, lower in inner}
        inner = {(upper, lower) for upper, lower in inner if upper in lowers and lower in uppers}
    for size in range(len(inner) + 1):
        found = []
        for some in combinations(sorted(inner), size):
            with suppress(CycleError):
                found.append((len(run_time & set(some)), floors(arrows - set(some)), some))
        if found:
            return list(min(found)[2])
    raise AssertionError("without arrows there is no circle")


def runs(checkout: Path, models: Path) -> dict[str, Any]:
    """Return what the three runs come through, with the lines of the files that they enter."""
    with tempfile.TemporaryDirectory(prefix="structure-") as name:
        recording = Path(name, "recording.wav")
        write_recording(recording, read_recording(RECORDING))
        counted = crossings_of(checkout, models, recording.read_bytes(), Path(name))
    for one, run in counted.items():
        texts = [(checkout / file).read_text(encoding="utf-8") for file in run["files"]]
        if not texts:
            raise SystemExit(f"{one} enters no file of {checkout}: another checkout's code ran")
        run["lines"] = sum(len(text.splitlines()) for text in texts)
    return counted


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown table."""
    size, layers_of = figures["sizes"], figures["layers"]
    rows: list[tuple[str, str]] = [
        ("Python files outside tests", f"{size['files']:,}"),
        ("lines outside tests", f"{size['lines']:,}"),
        ("of them code", f"{size['code_lines']:,}"),
        *((f"mean lines a file, {one}", f"{mean}") for one, mean in size["mean_lines"].items()),
        ("files in the fullest folder", f"{size['files_in_it']} (`{size['fullest_folder']}/`)"),
    ]
    for one, its in layers_of.items():
        rows += [
            (f"import floors of {one}", f"{its['floors']}"),
            (f"arrows between what stands in {one}'s top folder", f"{its['arrows']}"),
            (f"circles, arrows that run back up, {one}", f"{its['circles']}, {its['back_up']}"),
        ]
    for one, run in figures.get("runs", {}).items():
        rows += [
            (f"files entered by {RUNS[one]}", f"{len(run['files'])} ({run['lines']:,} lines)"),
            ("calls that cross a file, same run", f"{run['calls']}"),
        ]
    rows.append(("lines in tests", f"{size['test_lines']:,}"))
    lines = [f"| | {figures['checkout']} |", "|---|---:|"]
    return "\n".join([*lines, *(f"| {what} | {figure} |" for what, figure in rows), NOTES])


def main(arguments: Sequence[str]) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.structure")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="default: this one")
    parser.add_argument("--models", type=Path, help="demo models; default: the checkout's models/")
    parser.add_argument("--static-only", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    checkout = options.checkout.resolve()
    changed = " and changes" if git(checkout, "status", "--porcelain") else ""
    sys.path.insert(0, str(checkout))
    figures: dict[str, Any] = {
        "checkout": git(checkout, "rev-parse", "--short", "HEAD") + changed,
        "sizes": sizes(checkout),
        "layers": {package: layers(checkout, package) for package in PROGRAMS},
    }
    if not options.static_only:
        figures["runs"] = runs(checkout, (options.models or checkout / "models").resolve())
    sys.stdout.write(table(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
