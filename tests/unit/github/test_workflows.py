"""What CI runs is what everybody runs: every step is a make target or a fixed action."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):(?!=)", MAKEFILE, re.MULTILINE))


TARGETS_RUN = ["lint", "types", "unit", "e2e", "image", "test-image", "release-notes", "push"]


def load(path: Path) -> dict[Any, Any]:
    """Read a workflow; its `on` is the key True, as YAML 1.1 has it."""
    document: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


JOBS = [
    pytest.param(job, id=f"{path.stem}-{name}")
    for path in WORKFLOWS
    for name, job in load(path)["jobs"].items()
]


def test_there_are_lint_tests_image_and_release() -> None:
    ran = " ".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    for target in TARGETS_RUN:
        assert f"run: make {target}" in ran


@pytest.mark.parametrize("job", JOBS)
def test_every_run_is_a_make_target_that_exists(job: dict[str, Any]) -> None:
    for step in job["steps"]:
        if "run" in step:
            program, target, *variables = shlex.split(step["run"])
            assert program == "make"
            assert target in TARGETS
            assert all(re.fullmatch(r"[A-Z_]+=[\w.-]+", variable) for variable in variables)


@pytest.mark.parametrize("job", JOBS)
def test_every_action_has_a_fixed_version(job: dict[str, Any]) -> None:
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+(\.\d+)*|[0-9a-f]{40})", action), action


@pytest.mark.parametrize("job", JOBS)
def test_every_job_ends(job: dict[str, Any]) -> None:
    assert 0 < job["timeout-minutes"] <= 180


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_pull_requests_get_neither_rights_nor_secrets(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in workflow[True]
    if "pull_request" in workflow[True]:
        assert "secrets." not in path.read_text(encoding="utf-8")
        assert all("permissions" not in job for job in workflow["jobs"].values())


def test_a_release_is_checked_before_anything_is_pushed() -> None:
    jobs = load(ROOT / ".github/workflows/release.yml")["jobs"]
    ran = {name: [s.get("run", "").split()[:2] for s in job["steps"]] for name, job in jobs.items()}
    assert jobs["publish"]["needs"] == "check"
    assert ["make", "check"] in ran["check"]
    order = [ran["publish"].index(["make", t]) for t in ("release-notes", "image", "push")]
    assert order == sorted(order)


def test_only_what_publishes_may_write() -> None:
    jobs = load(ROOT / ".github/workflows/release.yml")["jobs"]
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
