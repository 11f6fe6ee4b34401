"""What the shows of the batch stand on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.soak.batch.ground import Ground, ground

Tell = Callable[[str], None]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Ground]:
    """A stack of one's own, with the worker that answers at once."""
    with ground(tmp_path) as place:
        yield place


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Tell:
    """Print a figure, whatever pytest captures."""

    def say(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{request.node.name}: {line}")
            sys.stdout.flush()

    return say
