"""Figures that soak tests print."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

Tell = Callable[[str], None]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Tell:
    """Print a figure, whatever pytest captures."""

    def say(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{request.node.name}: {line}")
            sys.stdout.flush()

    return say
