"""The version is in one place."""

from __future__ import annotations

import re
import subprocess

from image.build import ROOT, version


def test_no_other_file_has_the_version() -> None:
    """But pins, where another package may have the same number, documents and tests."""
    kinds = ("*.py", "*.toml", "*.yml", "*.json", "*.service", "*file", ".runpod", ":!tests")
    number = rf"(?<![\d.]){version().replace('.', '[.]')}(?![\d.])"
    command = ["git", "grep", "--untracked", "-hP", number, "--", *kinds]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line for line in found.splitlines() if not re.search("==|{ version = ", line)]
    assert lines == [f'version = "{version()}"']
