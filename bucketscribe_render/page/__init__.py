"""A transcript as one HTML page that needs no server and no network.

Takes ``transcription.json``; returns the page, whose parts are in ``src/`` and which
``python -m tools.page`` puts together. Text from the transcript is data in it: its policy runs the
page's own script alone, and allows no request but for the sound that it was given.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from bucketscribe_contract import PresignedUrl

PAGE = Path(__file__).parent / "page.html"
_PLACE = re.compile("%(TITLE|MEDIA|DOCUMENT|LINK)%")
_MARKUP = {ord(char): f"\\u{ord(char):04x}" for char in "<>&"}


def as_html(
    document: bytes,
    title: str,
    audio_url: PresignedUrl | None = None,
    audio_expires_at: datetime | None = None,
) -> str:
    """Return the page of a transcript.

    Args:
        document: The JSON of a transcript that `bucketscribe_render.document.parse` accepts.
        title: Shown as the heading, and the name of what is downloaded.
        audio_url: Embedded in the page, which is a secret then; None: whoever reads chooses a file.
        audio_expires_at: When the URL ends; the page says so.
    """
    link = origin = None
    if audio_url is not None and audio_expires_at is not None:
        link = {"url": audio_url.reveal(), "expires_at": audio_expires_at.isoformat()}
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(audio_url.reveal()))
    heading = "".join(char if char.isprintable() else " " for char in title)
    parts = {
        "TITLE": escape(heading),
        "MEDIA": f" {escape(origin)}" if origin else "",
        "DOCUMENT": _data(json.loads(document, parse_constant=lambda _: None)),
        "LINK": _data(link),
    }
    return _PLACE.sub(lambda place: parts[place[1]], PAGE.read_text(encoding="utf-8"))


def _data(value: object) -> str:
    """Return JSON in ASCII that cannot end a script element."""
    return json.dumps(value, separators=(",", ":")).translate(_MARKUP)
