"""Names, messages and amounts on any terminal."""

import pytest

from edge_client.text import audio_length, clock_time, safe_line, visible


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain name+%20 é 漢", "plain name+%20 é 漢"),
        ("\x00\x07\x1b\x7f", r"\x00\x07\x1b\x7f"),
        ("\x85\x9b", r"\x85\x9b"),
        ("a\u202eb\u200dc\ufeff", r"a\u202eb\u200dc\ufeff"),
        ("\ud800", r"\ud800"),
        ("line\r\nline", r"line\r\nline"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, seen: str) -> None:
    assert visible(text) == seen


def test_amounts_are_as_people_say_them() -> None:
    assert audio_length(5400) == "90.0 min of audio"
    assert audio_length(7_200_000) == "2,000.0 h of audio"
    assert clock_time(36_061.9) == "10:01:01"
    assert clock_time(-5) == "0:00:00"
    assert safe_line("a  b\nc" + 400 * "x").endswith("…")
