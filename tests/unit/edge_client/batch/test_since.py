"""--since, as people write it."""

from datetime import datetime, timedelta

import pytest

from edge_client.batch.run import parse_since
from edge_client.errors import BadUsage
from tests.unit.edge_client.samples import NOW


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-10-01", "2026-10-01T00:00:00+00:00"),
        ("2026-10-01T08:30", "2026-10-01T08:30:00+00:00"),
        ("2026-10-01 08:30:05", "2026-10-01T08:30:05+00:00"),
        ("2026-10-01T08:30:00Z", "2026-10-01T08:30:00+00:00"),
        ("2026-10-01T08:30:00+02:00", "2026-10-01T06:30:00+00:00"),
    ],
)
def test_a_date_or_time_is_utc_unless_it_says_otherwise(text: str, moment: str) -> None:
    assert parse_since(text, NOW) == datetime.fromisoformat(moment)
    assert parse_since(text, NOW).tzinfo is not None


def test_how_long_ago_counts_from_now() -> None:
    assert parse_since("7d", NOW) == NOW - timedelta(days=7)
    assert parse_since(" 12h ", NOW) == NOW - timedelta(hours=12)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "7", "7w", "-1d", "2026-13-01", "999999d", "1.5h"]
)
def test_anything_else_names_what_can_be_written(text: str) -> None:
    with pytest.raises(BadUsage, match=r"--since .*7d, 12h"):
        parse_since(text, NOW)
