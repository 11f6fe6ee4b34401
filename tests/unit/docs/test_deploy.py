"""The shell blocks of `docs/deploy.md`: each one is run, or is at least right in its form."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import botocore.session
from botocore import xform_name

from tests.unit.docs.blocks import blocks

DOCUMENT = Path(__file__).parents[3] / "docs/deploy.md"
ALL = blocks(DOCUMENT)
GLOBAL = {"region", "output", "query", "profile"}


def aws_commands() -> Iterator[list[str]]:
    """Yield each call of `aws` in the blocks that cannot run here, as words."""
    for block in ALL:
        text = block.text.replace("\\\n", " ").replace("<(", "\n").replace(")\n", "\n")
        if block.where == "elsewhere":
            yield from (shlex.split(line) for line in re.findall(r"^\s*aws .+$", text, re.M))


def test_each_block_says_where_it_runs_and_is_bash() -> None:
    """The end-to-end tests run those for here; a fence of another kind has no commands."""
    fences = re.findall(r"^```(.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(ALL) == fences.count("sh") == len(fences) > 10
    for block in ALL:
        assert block.where, block
        assert bool(block.needs) is (block.where == "elsewhere"), block
        subprocess.run(["bash", "-n"], input=block.text, check=True, text=True)


def test_aws_has_these_operations_and_parameters() -> None:
    session = botocore.session.get_session()
    looked_at = 0
    for _, service, operation, *words in aws_commands():
        if service == "s3":  # no API of that name: the command line's own cp
            assert operation == "cp"
            continue
        model = session.get_service_model({"s3api": "s3"}.get(service, service))
        names = {xform_name(name, "-"): name for name in model.operation_names}
        shape = model.operation_model(names[operation]).input_shape
        options = {word[2:] for word in words if word.startswith("--")}
        known = {xform_name(member, "-") for member in shape.members}
        assert options - known - GLOBAL == set()
        assert {xform_name(member, "-") for member in shape.required_members} <= options
        looked_at += 1
    assert looked_at > 3
