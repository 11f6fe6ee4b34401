"""A stored transcript in every format that ``render`` has.

Takes a `Source`; returns text. What was said and who said it comes from outside and is data: it
is escaped where a format knows markup, and never makes another line. Sources: W3C WebVTT; SubRip
as players read it; WhisperX's tsv; NIST's RTTM (RT-09 evaluation plan) and CTM (SCTK).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import groupby

from bucketscribe_render.breaks import ends_sentence
from bucketscribe_render.cues import Cue, Layout, cues_of
from bucketscribe_render.document import Document
from bucketscribe_render.page import as_html
from bucketscribe_render.words import UNSEEN, Spoken, clock_time, flat, joined, words_of

PAUSE_S, LONG_S = 3.0, 60.0
"""A pause that ends a paragraph, and how long one is when it ends with its sentence."""
TURN_PAUSE_S = 0.5
"""A longer pause ends a turn, as it does in the document's ``uncovered``."""


@dataclass(frozen=True)
class Source:
    """A transcript, its bytes as they are stored, its recording's name, and the room for cues."""

    document: Document
    body: bytes
    name: str
    layout: Layout = Layout()


def as_srt(source: Source) -> str:
    """SubRip; where another speaker begins, the name stands in brackets."""
    return "\n".join(
        f"{number}\n{_span(cue, ',')}\n" + "".join(f"{_srt_line(text)}\n" for _, text in cue.lines)
        for number, cue in enumerate(cues_of(source.document, source.layout, named=True), start=1)
    )


_NAME = re.compile(r"(?:- )?\[[^]]*\] ")
_MARKUP = re.compile(r"\{(?=[\w\\])|--(?=>)|\d:(?=\d\d:\d\d[.,]\d)")


def _srt_line(text: str) -> str:
    """Replace ``<``; part what else players take for markup or times; embed right-to-left text.

    Players that take each line for left-to-right move its full stop to the wrong end otherwise.
    """
    spoken = _NAME.sub("", text, count=1)
    text = _MARKUP.sub("\\g<0>\u2060", text.replace("<", "‹"))
    strong = (unicodedata.bidirectional(c) for c in spoken)
    is_rtl = next((kind for kind in strong if kind in ("L", "R", "AL")), "L") != "L"
    return f"\u202b{text}\u202c" if is_rtl else text


def as_vtt(source: Source) -> str:
    """WebVTT, the speakers as voice spans."""
    return "WEBVTT\n" + "".join(
        f"\n{_span(cue, '.')}\n" + "".join(f"{text}\n" for text in _voices(cue))
        for cue in cues_of(source.document, source.layout)
    )


def _voices(cue: Cue) -> Iterator[str]:
    for speaker, lines in groupby(cue.lines, key=lambda line: line[0]):
        text = escape("\n".join(text for _, text in lines), quote=False)
        yield f"<v {escape(speaker, quote=False)}>{text}</v>" if speaker else text


def as_txt(source: Source) -> str:
    """Return a line for each paragraph of a speaker, with the time that it begins."""
    return "".join(
        f"[{clock_time(words[0].start_s)}] {_before(words)}{joined(words)}\n"
        for words in _paragraphs(source.document)
    )


def as_md(source: Source) -> str:
    """Markdown: title, length, language, speakers, and paragraphs with times."""
    document = source.document
    speakers = ", ".join(dict.fromkeys(map(str, map(document.name_of, document.speakers))))
    facts = [clock_time(document.duration_s), document.language, speakers]
    head = [f"# {_md(source.name)}", _md(" · ".join(fact for fact in facts if fact))]
    text = (
        f"**[{clock_time(words[0].start_s)}] {_md(_before(words)).strip()}** {_md(joined(words))}"
        for words in _paragraphs(document)
    )
    return "\n\n".join([*head, *text]) + "\n"


def as_json(source: Source) -> str:
    """Return the document as it is stored, and what a terminal would act on as JSON escapes."""
    return source.body.decode().translate({c: f"\\u{c:04x}" for c in UNSEEN if c > 0x20})


def as_tsv(source: Source) -> str:
    """Return a row for each segment: start and end in ms, text, speaker."""
    rows = ("start\tend\ttext\tspeaker",) + tuple(
        f"{round(line.start_s * 1000)}\t{round(line.end_s * 1000)}\t{flat(line.text)}\t"
        + flat(source.document.name_of(line.speaker) or "")
        for line in source.document.lines
    )
    return "".join(f"{row}\n" for row in rows)


def as_rttm(source: Source) -> str:
    """Return a SPEAKER line for each turn, as the words have it."""
    turns: dict[str, list[list[float]]] = {}
    for word in _by_time(source.document):
        if word.speaker is not None:
            mine = turns.setdefault(word.speaker, [])
            if mine and word.start_s - mine[-1][1] <= TURN_PAUSE_S:
                mine[-1][1] = max(mine[-1][1], word.end_s)
            else:
                mine.append([word.start_s, word.end_s])
    name = _field(source.name)
    rows = sorted((a, b, speaker) for speaker, spoken in turns.items() for a, b in spoken)
    return "".join(
        f"SPEAKER {name} 1 {start_s:.3f} {end_s - start_s:.3f} <NA> <NA> "
        f"{_field(speaker)} <NA> <NA>\n"
        for start_s, end_s, speaker in rows
    )


def as_ctm(source: Source) -> str:
    """Return a line for each word: file, channel, start, duration, word, and how sure it is."""
    name = _field(source.name)
    return "".join(
        f"{name} 1 {word.start_s:.3f} {word.end_s - word.start_s:.3f} {_field(word.text)}"
        + (f" {word.score:.3f}\n" if word.score is not None else "\n")
        for word in _by_time(source.document)
    )


FORMATS: dict[str, Callable[[Source], str]] = {
    "srt": as_srt,
    "vtt": as_vtt,
    "txt": as_txt,
    "md": as_md,
    "json": as_json,
    "tsv": as_tsv,
    "rttm": as_rttm,
    "ctm": as_ctm,
    "html": lambda source: as_html(source.body, source.name),  # without the sound
}


def _paragraphs(document: Document) -> Iterator[list[Spoken]]:
    part: list[Spoken] = []
    for word in words_of(document):
        if part and _ends_paragraph(part, word):
            yield part
            part = []
        part.append(word)
    if part:
        yield part


def _ends_paragraph(part: list[Spoken], following: Spoken) -> bool:
    last = part[-1]
    is_long = last.end_s - part[0].start_s >= LONG_S and ends_sentence(last.text)
    return is_long or following.speaker != last.speaker or following.start_s - last.end_s >= PAUSE_S


def _before(words: list[Spoken]) -> str:
    return f"{words[0].speaker}: " if words[0].speaker else ""


def _by_time(document: Document) -> list[Spoken]:
    return sorted(words_of(document), key=lambda word: word.start_s)


def _field(text: str) -> str:
    return re.sub(r"[\s;]+", "_", flat(text)) or "_"


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>&~|$])", r"\\\1", flat(text))


def _span(cue: Cue, point: str) -> str:
    return f"{_stamp(cue.start_ms, point)} --> {_stamp(cue.end_ms, point)}"


def _stamp(ms: int, point: str) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
