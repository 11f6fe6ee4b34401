"""Names, messages and amounts on any terminal."""

from bucketscribe_render.words import clock_time
from edge_client.text import safe_line, span, visible


def test_what_cannot_be_seen_is_written_out() -> None:
    unseen = "\x00\x07\x1b\x7f|\x85\x9b|a\u202eb\u200dc\ufeff|\ud800|line\r\nline"
    seen = r"\x00\x07\x1b\x7f|\x85\x9b|a\u202eb\u200dc\ufeff|\ud800|line\r\nline"
    assert visible(f"name+%20 é 漢 {unseen}") == f"name+%20 é 漢 {seen}"


def test_amounts_are_as_people_say_them() -> None:
    assert span(5400) == "90.0 min"
    assert span(7_200_000) == "2,000.0 h"
    assert clock_time(36_061.9) == "10:01:01"
    assert clock_time(-5) == "0:00:00"
    assert safe_line("a  b\nc" + 400 * "x").endswith("…")
