"""One set of small aligners, and libraries that say nothing of the text they cannot align."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.worker.alignment.aligners import Aligners, make_aligners


@pytest.fixture(scope="session")
def aligners() -> Iterator[Aligners]:
    """The demo's aligner, and others with random weights."""
    from worker.host.log import quieten

    quieten()
    yield make_aligners()
    make_aligners.cache_clear()
