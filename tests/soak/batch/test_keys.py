"""Names that break signatures, listings and paths, through the whole way."""

from __future__ import annotations

import unicodedata

import pytest

from edge_client.session import Session
from tests.soak.batch.conftest import Tell
from tests.soak.batch.ground import Ground

pytestmark = pytest.mark.e2e
MAX_KEY_BYTES = 1024
LONGEST_FILE = "/transcription.progress.json"
# No backslash: SeaweedFS stores it as a slash.
NAMES = [
    "with a space",
    " spaces around ",
    "two  spaces",
    "plus+plus",
    "100%",
    "a%20b",
    "a%2Fb",
    "a&b=c",
    "quo'te\"s",
    "semi;colon,comma:colon",
    "(star*) ~ ! $ @",
    "hash#query?x=1",
    "<xml>&amp;",
    "[brackets]{braces}|^`",
    "tab\tand\nnew line",
    unicodedata.normalize("NFC", "übung café"),
    unicodedata.normalize("NFD", "übung café"),
    "日本語の録音",
    "🎙 emoji 👩‍🔬",
    "..hidden",
    "x" * 200,
    "ü" * 100,
]


def longest(user: str) -> str:
    """Return a name with which the longest key of the session is as long as S3 takes."""
    room = MAX_KEY_BYTES - len(Session(user, "").prefix.encode()) - len(LONGEST_FILE)
    return "y" * room


@pytest.mark.parametrize("user", ["u1", "user +%41 ü&'"])
def test_every_name_becomes_a_transcript(place: Ground, tell: Tell, user: str) -> None:
    """A batch over all of them, and again: nothing is left to do."""
    all_sessions = [Session(user, name) for name in [*NAMES, longest(user)]]
    place.record(all_sessions)
    done = place.client("batch")
    assert done.returncode == 0, done.stdout + done.stderr
    place.check_each_once(all_sessions)
    again = place.client("batch")
    assert again.returncode == 0
    assert len(place.submissions()) == len(all_sessions)
    size = len(all_sessions[-1].prefix.encode()) + len(LONGEST_FILE)
    tell(f"{len(all_sessions)} names, the longest key {size} bytes")


def test_every_name_can_be_given_on_the_command_line(place: Ground) -> None:
    """As a bare name that is looked up; names that differ in normalisation are not mixed up."""
    all_sessions = [Session("u1", name) for name in NAMES]
    place.record(all_sessions)
    named = [word for session in all_sessions for word in ("--session", session.name)]
    done = place.client("batch", *named)
    assert done.returncode == 0, done.stdout + done.stderr
    place.check_each_once(all_sessions)
