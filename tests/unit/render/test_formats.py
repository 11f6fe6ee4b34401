"""Formats: what other programs read back is what was said, whatever that was."""

import html
import io
import json
import re
from collections.abc import Iterator

import pysubs2
import pytest
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketscribe_render.cues import Layout, cues_of
from bucketscribe_render.formats import FORMATS, Source
from edge_client.cli import cli
from tests.unit.render.documents import (
    ENGLISH,
    HOSTILE,
    OTHERS,
    body,
    documents,
    meeting,
    segment,
    source_of,
    with_words,
)

SAID = source_of(
    body(
        with_words("Hello & <welcome>.", 0, 1.5, "SPEAKER_00"),
        segment(" We\n\nbegin.\t", 1.75, 3, "SPEAKER_00"),
        segment("a *b* --> c", 3661.2346, 3662, "Bo"),
        language="en",
    ),
    "users/u1 s_1",
)


def pysubs2_reads(text: str, form: str) -> Iterator[tuple[int, int, str]]:
    for event in pysubs2.SSAFile.from_string(text, format_=form):
        yield event.start, event.end, event.text.replace("\\N", "\n")


def webvtt_reads(text: str, form: str) -> Iterator[tuple[int, int, str]]:
    """It takes a file without cues for a broken one."""
    for caption in webvtt.from_buffer(io.BytesIO(text.encode()), format=form) if text else ():
        times = (caption.start_time, caption.end_time)
        yield *(time.in_milliseconds() for time in times), caption.text


def check_readers(source: Source) -> None:
    for form, named in (("vtt", False), ("srt", True)):
        cues = cues_of(source.document, Layout(), named)
        told = [(c.start_ms, c.end_ms, "\n".join(text for _, text in c.lines)) for c in cues]
        for reads in (pysubs2_reads, webvtt_reads):
            read = reads(FORMATS[form](source), form)
            plain = html.unescape if form == "vtt" else without_ours
            assert [(*times, plain(text)) for *times, text in read] == told


def without_ours(text: str) -> str:
    return re.sub("[\u2060\u202b\u202c]", "", text).replace("‹", "<")


@settings(deadline=None)
@given(documents(ENGLISH + OTHERS + HOSTILE))
def test_two_parsers_read_back_whatever_was_said(stored: bytes) -> None:
    check_readers(source_of(stored))


@pytest.mark.parametrize("name", ["planning3", "ausflug2"])
def test_two_parsers_read_a_meeting_back(name: str) -> None:
    check_readers(source_of(meeting(name), name))


def test_formats_have_their_times_speakers_and_escapes() -> None:
    assert FORMATS["srt"](SAID) == (
        "1\n00:00:00,000 --> 00:00:03,000\n[SPEAKER_00] Hello & ‹welcome>. We begin.\n"
        "\n2\n01:01:01,235 --> 01:01:02,235\n[Bo] a *b* --\u2060> c\n"
    )
    assert FORMATS["vtt"](SAID) == (
        "WEBVTT\n"
        "\n00:00:00.000 --> 00:00:03.000\n"
        "<v SPEAKER_00>Hello &amp; &lt;welcome&gt;. We begin.</v>\n"
        "\n01:01:01.235 --> 01:01:02.235\n<v Bo>a *b* --&gt; c</v>\n"
    )
    assert FORMATS["txt"](SAID) == (
        "[0:00:00] SPEAKER_00: Hello & <welcome>. We begin.\n[1:01:01] Bo: a *b* --> c\n"
    )
    assert FORMATS["md"](SAID) == (
        "# users/u1 s\\_1\n\n1:01:02 · en · Bo, SPEAKER\\_00\n\n"
        "**[0:00:00] SPEAKER\\_00:** Hello \\& \\<welcome\\>. We begin.\n\n"
        "**[1:01:01] Bo:** a \\*b\\* --\\> c\n"
    )
    assert FORMATS["tsv"](SAID) == (
        "start\tend\ttext\tspeaker\n0\t1500\tHello & <welcome>.\tSPEAKER_00\n"
        "1750\t3000\tWe begin.\tSPEAKER_00\n3661235\t3662000\ta *b* --> c\tBo\n"
    )
    assert FORMATS["rttm"](SAID) == (
        "SPEAKER users/u1_s_1 1 0.000 3.000 <NA> <NA> SPEAKER_00 <NA> <NA>\n"
        "SPEAKER users/u1_s_1 1 3661.235 0.765 <NA> <NA> Bo <NA> <NA>\n"
    )
    assert FORMATS["ctm"](SAID).splitlines()[:4] == [
        "users/u1_s_1 1 0.000 0.469 Hello 0.500",
        "users/u1_s_1 1 0.469 0.094 & 0.500",
        "users/u1_s_1 1 0.562 0.938 <welcome>. 0.500",
        "users/u1_s_1 1 1.750 0.312 We",
    ]


def test_json_is_the_document_as_it_is_stored_and_safe_on_a_terminal() -> None:
    stored = json.dumps({"segments": [], "more": ["\u202e\x9b é"]}, ensure_ascii=False, indent=1)
    shown = FORMATS["json"](source_of(stored.encode()))
    assert json.loads(shown) == json.loads(stored)
    assert shown == stored.replace("\u202e", "\\u202e").replace("\x9b", "\\u009b")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_offered_and_can_have_nothing_to_say(form: str) -> None:
    (option,) = (p for p in cli.commands["render"].params if p.name == "form")
    assert list(option.type.choices) == list(FORMATS)
    assert form == "html" or FORMATS[form](source_of(body())).count("\n") <= 3


@settings(deadline=None)
@given(documents(HOSTILE), st.text())
def test_nothing_said_makes_a_line(stored: bytes, name: str) -> None:
    source = source_of(stored, name)
    segments = len(source.document.lines)
    assert len(FORMATS["tsv"](source).splitlines()) == segments + 1
    assert {len(line.split(" ")) for line in FORMATS["rttm"](source).splitlines()} <= {10}
    assert {len(line.split(" ")) for line in FORMATS["ctm"](source).splitlines()} <= {5, 6}
    assert all(line.startswith("[") for line in FORMATS["txt"](source).splitlines())


def test_a_paragraph_ends_with_its_speaker_a_pause_or_its_minute() -> None:
    segments = (*((t, t + 2.9, "A") for t in range(0, 90, 3)), (93, 94, "A"), (94, 95, "B"))
    lines = FORMATS["txt"](source_of(body(*(segment("So.", *each) for each in segments))))
    assert [line[:12] for line in lines.splitlines()] == [
        *("[0:00:00] A:", "[0:01:03] A:", "[0:01:33] A:", "[0:01:34] B:"),
    ]


def test_right_to_left_lines_are_embedded_in_subrip() -> None:
    source = source_of(body(segment("مرحبا 2024.", 0, 1, "A"), segment("Yes.", 1, 2, "B")))
    lines = FORMATS["srt"](source).splitlines()
    assert (lines[2], lines[6]) == ("\u202b[A] مرحبا 2024.\u202c", "[B] Yes.")
