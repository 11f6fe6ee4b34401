"""Transcripts as text: times, speakers, and nothing that breaks a player."""

from hypothesis import given
from hypothesis import strategies as st

from edge_client.jobs.transcript import Document, Line, as_srt, as_txt, as_vtt

DOC = Document(
    lines=(
        Line(0.0, 1.5, "SPEAKER_00", " Hello & <welcome>."),
        Line(3661.2346, 3662.0, None, "a\n\nb --> c"),
    ),
    speakers=("SPEAKER_00",),
    duration_s=3662.0,
)


def test_txt_is_a_line_a_segment_with_times_and_speaker() -> None:
    assert as_txt(DOC).splitlines() == [
        "00:00:00.00 - 00:00:01.50  SPEAKER_00  Hello & <welcome>.",
        "01:01:01.23 - 01:01:02.00              a b --> c",
    ]


def test_txt_without_speakers_has_no_empty_column() -> None:
    doc = Document((Line(0, 1, None, "a"),), (), 1.0)
    assert as_txt(doc) == "00:00:00.00 - 00:00:01.00  a\n"


def test_srt() -> None:
    assert as_srt(DOC) == (
        "1\n00:00:00,000 --> 00:00:01,500\n[SPEAKER_00] Hello & <welcome>.\n"
        "\n2\n01:01:01,235 --> 01:01:02,000\na b --> c\n"
    )


def test_vtt_has_its_header_and_escapes() -> None:
    assert as_vtt(DOC) == (
        "WEBVTT\n"
        "\n00:00:00.000 --> 00:00:01.500\n<v SPEAKER_00>Hello &amp; &lt;welcome&gt;.\n"
        "\n01:01:01.235 --> 01:01:02.000\na b --&gt; c\n"
    )


def test_no_speech_is_still_a_file() -> None:
    empty = Document((), (), 20.0)
    assert (as_txt(empty), as_srt(empty), as_vtt(empty)) == ("", "", "WEBVTT\n")


@given(st.lists(st.text(), max_size=5))
def test_no_text_makes_another_cue(texts: list[str]) -> None:
    doc = Document(tuple(Line(i, i + 1, None, t) for i, t in enumerate(texts)), (), 9.0)
    assert as_vtt(doc).count("-->") == len(texts)
    assert len(as_txt(doc).splitlines()) == len(texts)
