"""A transcript as text for people and players: txt, srt, vtt.

Takes a `Document`; returns the whole text, ending in a newline. Sources: W3C WebVTT; SubRip as
players read it (blank line after each cue, comma before the milliseconds).
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from edge_client.transcripts import Document, Line


def as_txt(doc: Document) -> str:
    """One line a segment: start and end, speaker, text."""
    width = max((len(line.speaker or "") for line in doc.lines), default=0)
    return "".join(
        f"{_stamp(line.start_s, '.')[:-1]} - {_stamp(line.end_s, '.')[:-1]}  "
        + (f"{line.speaker or '':{width}}  " if width else "")
        + f"{_flat(line.text)}\n"
        for line in doc.lines
    )


def as_srt(doc: Document) -> str:
    """SubRip, the speaker in brackets before the text."""
    return "\n".join(
        f"{number}\n{_span(line, ',')}\n"
        + (f"[{line.speaker}] " if line.speaker else "")
        + f"{_flat(line.text)}\n"
        for number, line in enumerate(doc.lines, start=1)
    )


def as_vtt(doc: Document) -> str:
    """WebVTT, the speaker as a voice span."""
    return "WEBVTT\n" + "".join(
        f"\n{_span(line, '.')}\n"
        + (f"<v {escape(line.speaker, quote=False)}>" if line.speaker else "")
        + f"{escape(_flat(line.text), quote=False)}\n"
        for line in doc.lines
    )


FORMATS: dict[str, Callable[[Document], str]] = {"srt": as_srt, "vtt": as_vtt, "txt": as_txt}


def _span(line: Line, point: str) -> str:
    return f"{_stamp(line.start_s, point)} --> {_stamp(line.end_s, point)}"


def _stamp(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"


def _flat(text: str) -> str:
    """Return text on one line: a blank line inside a cue would end it."""
    return " ".join(text.split())
