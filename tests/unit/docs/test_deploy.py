"""The shell blocks of `docs/deploy.md`: each is marked; what cannot run here is no nonsense."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from tests.unit.docs.blocks import Block, blocks
from tests.unit.docs.tables import ROOT

DOCUMENT = ROOT / "docs/deploy.md"
ALL = blocks(DOCUMENT)
ELSEWHERE = [block for block in ALL if block.where == "elsewhere"]
NEEDS = {
    "a package registry",
    "an AWS account",
    "a container registry and a Hugging Face token",
    "a RunPod account",
    "a GitHub repository",
    "systemd as the system's init",
    "root",
}
GLOBAL = {"region", "output", "query", "profile"}
LABELS = "line {0.line}".format


def commands(program: str) -> Iterator[list[str]]:
    """Yield each call of a program in the blocks that are for elsewhere, as words."""
    for block in ELSEWHERE:
        text = block.text.replace("\\\n", " ").replace("<(", "\n").replace(")\n", "\n")
        for line in text.splitlines():
            if re.match(rf"\s*{program} ", line):
                yield shlex.split(line)


@pytest.mark.parametrize("block", ALL, ids=LABELS)
def test_each_block_says_where_it_runs(block: Block) -> None:
    assert block.where is not None, block.text
    assert (block.needs in NEEDS) is (block.where == "elsewhere")


def test_no_block_is_overlooked() -> None:
    """A fence of another kind holds no commands."""
    fences = re.findall(r"^```(.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(ALL) == fences.count("sh") == len(fences) > 15


@pytest.mark.parametrize("block", ALL, ids=LABELS)
def test_each_block_is_bash(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_aws_has_these_operations_and_parameters() -> None:
    session = botocore.session.get_session()
    looked_at = 0
    for _, service, operation, *words in commands("aws"):
        if service == "s3":  # no API of that name: the command line's own cp
            assert operation == "cp"
            continue
        model = session.get_service_model({"s3api": "s3"}.get(service, service))
        names = {xform_name(name, "-"): name for name in model.operation_names}
        shape = model.operation_model(names[operation]).input_shape
        options = {word[2:] for word in words if word.startswith("--")}
        known = {xform_name(member, "-") for member in shape.members}
        assert options - known - GLOBAL == set()
        required = {xform_name(member, "-") for member in shape.required_members}
        assert required <= options
        looked_at += 1
    assert looked_at >= 6


def test_make_has_these_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):(?!=)", makefile, re.MULTILINE))
    called = [words[1] for words in commands("make")]
    assert called
    assert set(called) <= targets


def test_files_that_are_installed_are_shipped() -> None:
    named = set(re.findall(r"\b(?:deploy|requirements)/[\w./*-]+", DOCUMENT.read_text("utf-8")))
    assert len(named) >= 3
    for pattern in named:
        assert list(ROOT.glob(pattern.rstrip("."))), pattern


def test_links_lead_somewhere() -> None:
    for name in ("deploy.md", "operations.md", "security.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (ROOT / "docs" / target).exists(), f"{name}: {target}"


def test_figures_are_those_of_the_code() -> None:
    from edge_client.services import presign as lifetimes

    text = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    assert f"{lifetimes.STARTUP_S} s and the recording's length" in text
    assert f"the edge sends {lifetimes.QUEUE_S // 3600} h in the queue and the run" in text
    assert f"URLs that live {lifetimes.MARGIN_S // 60} minutes longer" in text
    hub = json.loads((ROOT / ".runpod/hub.json").read_text(encoding="utf-8"))["config"]
    assert f"| container disk | {hub['containerDiskInGb']} GB |" in text


def test_an_unmarked_block_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("<!-- run: here -->\n```sh\ntrue\n```\n\n```sh\nrm -r /\n```\n")
    assert [(block.line, block.where) for block in blocks(path)] == [(1, "here"), (6, None)]
