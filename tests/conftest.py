"""The option of all tests that take pictures."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the folder of the pictures."""
    parser.addoption("--screenshots", type=Path, help="Folder that pictures go to.")
