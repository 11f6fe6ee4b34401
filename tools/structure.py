"""Figures of this checkout's structure, as a Markdown table: ``python -m tools.structure``.

Code has no blank lines, comments and docstrings. Arrows are imports, wherever they stand, between
the entries of a program's folder (a subfolder is one entry); floors are the longest chain of
entries. Raises `CycleError`, with the entries, where imports go round.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

from bench.corpus import ROOT

PROGRAMS = ("edge_client", "worker")
Rows = list[tuple[str, str]]


def sizes() -> Rows:
    """Return the figures of files and lines."""
    command = ["git", "-C", str(ROOT), "ls-files", "*.py"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    texts = {Path(name): (ROOT / name).read_text("utf-8") for name in listed.splitlines()}
    lines = {path: len(text.splitlines()) for path, text in texts.items()}
    ours = [path for path in texts if path.parts[0] != "tests"]
    modules = [path for path in ours if path.name != "__init__.py"]
    folder, most = Counter(str(path.parent) for path in modules).most_common(1)[0]
    rows = [
        ("Python files outside tests", f"{len(ours):,}"),
        ("lines outside tests", f"{sum(lines[path] for path in ours):,}"),
        ("of them code", f"{sum(code_lines(texts[path]) for path in ours):,}"),
        ("files in the fullest folder", f"{most} (`{folder}/`)"),
        ("lines in tests", f"{sum(lines[path] for path in texts.keys() - set(ours)):,}"),
    ]
    for program in PROGRAMS:
        its = [lines[path] for path in ours if path.parts[0] == program]
        rows.append((f"mean lines a file, {program}", f"{sum(its) / len(its):.0f}"))
    return rows


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


def layers(package: str) -> Rows:
    """Return how the imports of a package are layered."""
    graph = grimp.build_graph(package, cache_dir=None)
    links = ((m, i) for m in graph.modules for i in graph.find_modules_directly_imported_by(m))
    entries = ((".".join(m.split(".")[:2]), ".".join(i.split(".")[:2])) for m, i in links)
    arrows = {(upper, lower) for upper, lower in entries if upper != lower}
    below: dict[str, set[str]] = {}
    for upper, lower in arrows:
        below.setdefault(upper, set()).add(lower)
    floor: dict[str, int] = {}
    for entry in TopologicalSorter(below).static_order():
        floor[entry] = 1 + max((floor[lower] for lower in below.get(entry, ())), default=0)
    return [
        (f"import floors of {package}", f"{max(floor.values())}"),
        (f"arrows between what stands in {package}'s top folder", f"{len(arrows)}"),
    ]


def main() -> None:
    """Print the table."""
    rows = [*sizes(), *(row for package in PROGRAMS for row in layers(package))]
    lines = ["| | |", "|---|---:|", *(f"| {what} | {figure} |" for what, figure in rows)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
