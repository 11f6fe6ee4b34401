"""`docs/operations.md` has every code there is, and none that there is not."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from enum import StrEnum

import pytest

import edge_client
from bucketscribe_contract import FAILURES, Action, FailureCode, WarningCode
from edge_client.errors import EdgeError
from edge_client.jobs.retry_policy import Ending
from tests.unit.docs.tables import codes, rows, section
from worker import memory as peaks
from worker.host.log import JobLog

DOCUMENT = "operations.md"
FAILED, WARNED = "Failures of a job", "Warnings of a job that succeeded"
ENDED, EDGE = "Endings that no worker explains", "Errors of the edge client"
DONE = {
    Action.REPORT: ("nothing", "reported", "stopped", "each job is answered", "the worker stops"),
    Action.SKIP: ("skips",),
    Action.SIGN_AGAIN: ("signs and submits again",),
    Action.SIGN_LONGER: ("signs for",),
    Action.BACK_OFF: ("pauses",),
    Action.SUBMIT_AGAIN: ("edge: submits again",),
    Action.SUBMIT_AGAIN_ONCE: ("submits once more",),
}


def every(kind: type[EdgeError]) -> Iterator[type[EdgeError]]:
    """Walk the tree of errors."""
    yield kind
    for inner in kind.__subclasses__():
        yield from every(inner)


@pytest.mark.parametrize(
    ("heading", "there_are"), [(FAILED, FailureCode), (WARNED, WarningCode), (ENDED, Ending)]
)
def test_each_code_has_one_row_and_nothing_else_has(heading: str, there_are: type[StrEnum]) -> None:
    assert sorted(codes(DOCUMENT, heading)) == sorted(there_are)


def test_each_error_of_the_edge_client_has_one_row_with_its_exit_code() -> None:
    for module in pkgutil.walk_packages(edge_client.__path__, "edge_client."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    told = [(row[0].strip("`"), int(row[1])) for row in rows(DOCUMENT, EDGE)]
    ours = [kind for kind in every(EdgeError) if kind.__module__.startswith("edge_client")]
    assert sorted(told) == sorted({(kind.code, kind.exit_code) for kind in ours})


@pytest.mark.parametrize("row", rows(DOCUMENT, FAILED), ids=lambda row: row[0].strip("`"))
def test_what_the_edge_does_is_what_the_contract_says(row: list[str]) -> None:
    action = FAILURES[FailureCode(row[0].strip("`"))].action
    assert any(words in row[2] for words in DONE[action])


def test_each_key_of_the_job_log_line_has_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"rss_peak_mb": 1, "cuda_torch_peak_mb": 1, "cuda_used_mb": 1}
    monkeypatch.setattr(peaks, "measured_mb", lambda: gpu)
    assert codes(DOCUMENT, "What a worker says") == list(JobLog("job").facts({}))
    for key in gpu:
        assert f'"{key}"' in inspect.getsource(peaks)


@pytest.mark.parametrize("heading", [FAILED, ENDED, WARNED, EDGE])
def test_each_row_says_all_of_it(heading: str) -> None:
    assert all(all(row) for row in rows(DOCUMENT, heading))


def test_exit_codes_are_all_explained() -> None:
    told = {row[1] for row in rows(DOCUMENT, EDGE)}
    line = next(x for x in section(DOCUMENT, EDGE).splitlines() if x.startswith("Exit codes: 0"))
    assert told == {"1", "2", "3", "130"}
    assert all(code in line for code in told)
