"""docs/guarantees.md, on 200,000 schedules, in two processes; shows what they reached."""

import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.box import SETTINGS
from tests.simulation.history import History
from tests.simulation.schedule import check

SCHEDULES, CHUNK = 200_000, 1_000


@pytest.mark.timeout(4 * 3600)
def test_no_schedule_breaks_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    """The smallest one that does is shown with its seed."""
    seen = History(SETTINGS.retry_attempts)
    with ProcessPoolExecutor(2) as pool:
        chunks = [range(first, first + CHUNK) for first in range(0, SCHEDULES, CHUNK)]
        for history in pool.map(check, chunks):
            seen.add(history)
    with capsys.disabled():
        sys.stdout.write(f"\n{SCHEDULES:,} schedules: {seen.text()}\n")
