"""The command line answers at once: nothing heavy is imported before it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

import edge_client

LIMIT_S = 0.3


def imported(statement: str) -> dict[str, float]:
    """Module to seconds, its own imports included, in a fresh interpreter."""
    text = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(edge_client.__file__).parent.parent,
    ).stderr
    rows = [line.split("|") for line in text.splitlines() if line.startswith("import time:")]
    return {name.strip(): int(total) / 1e6 for _, total, name in rows[1:]}


def test_importing_the_cli_takes_under_300_ms() -> None:
    best_s = min(imported("import edge_client.cli")["edge_client.cli"] for _ in range(3))
    assert best_s < LIMIT_S


def test_cli_imports_nothing_heavy() -> None:
    modules = imported("import edge_client.cli, edge_client.__main__")
    heavy = (
        "boto3",
        "botocore",
        "requests",
        "pydantic",
        "rich",
        "stamina",
        "bucketscribe_contract",
    )
    assert [name for name in modules if name.split(".")[0] in heavy] == []


@pytest.mark.parametrize("argv", [["--help"], ["submit", "--help"], ["submit"]])
def test_help_and_usage_errors_never_meet_boto3(argv: list[str]) -> None:
    modules = imported(f"from edge_client.cli import run; run({argv!r})")
    assert [name for name in modules if name.split(".")[0] in ("boto3", "botocore")] == []


def test_whole_client_needs_no_gpu_library() -> None:
    modules = imported("import edge_client.commands")
    foreign = ("torch", "runpod", "numpy", "whisperx", "pyannote", "worker", "devstack")
    assert [name for name in modules if name.split(".")[0] in foreign] == []
