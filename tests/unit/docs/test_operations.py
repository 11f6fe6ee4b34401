"""`docs/operations.md` has every code there is, and none that there is not."""

from __future__ import annotations

import importlib
import pkgutil
import re
from enum import StrEnum
from pathlib import Path

import pytest

import edge_client
from bucketscribe_contract import FailureCode, WarningCode
from edge_client.errors import EdgeError
from edge_client.jobs.retry_policy import Ending
from worker.host.log import JobLog

ITEM = re.compile(r"^(?:\||-) `(\w+)`(?: \((\d+)\))?(?: \||:)", re.MULTILINE)
PAGE = (Path(__file__).parents[3] / "docs/operations.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[tuple[str, int]]:
    """Return the code of each row or list item of a section, with its exit code (1 if untold)."""
    _, found, rest = PAGE.partition(f"\n## {heading}\n")
    assert found, f"operations.md has no section {heading!r}"
    items = ITEM.findall(rest.partition("\n## ")[0])
    return [(code, int(exit_code or 1)) for code, exit_code in items]


def every(kind: type[EdgeError]) -> list[type[EdgeError]]:
    """Return an error and all below it."""
    return [kind, *(each for inner in kind.__subclasses__() for each in every(inner))]


@pytest.mark.parametrize(
    ("heading", "codes"),
    [
        ("Failures of a job", FailureCode),
        ("Warnings of a job that succeeded", WarningCode),
        ("Endings without a failure code", Ending),
        ("The worker's log line", JobLog("job").facts({})),
    ],
)
def test_each_code_has_one_row_and_nothing_else_has(heading: str, codes: type[StrEnum]) -> None:
    told = {code for code, _ in rows(heading)}
    assert set(codes) <= told
    assert len(told) == len(rows(heading))
    # Memory of a GPU is in the log where there is one.
    assert {code for code in told - set(codes) if not code.endswith("_mb")} == set()


def test_each_error_of_the_edge_client_has_one_row_with_its_exit_code() -> None:
    for module in pkgutil.walk_packages(edge_client.__path__, "edge_client."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    text = PAGE.partition("\n## Errors of the edge client\n")[2].partition("\n## ")[0]
    told = [
        (code, int(exit_code or 1))
        for line in text.split("\n- ")[1:]
        for code, exit_code in re.findall(r"`(\w+)`(?: \((\d+)\))?", line.partition(": ")[0])
    ]
    ours = {(kind.code, kind.exit_code) for kind in every(EdgeError) if kind.__name__[0] != "_"}
    assert sorted(told) == sorted(ours)
