"""Documents to render: generated ones, hostile ones, and what was really said in a meeting."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from bench.corpus import SPEECH_DIR
from bucketscribe_render.document import parse
from bucketscribe_render.formats import Source
from bucketscribe_render.words import spread

HOSTILE = (
    *("-->", "<v x>", "</v>", "<b>bold</b>", "{\\an8}", "&lt;", "&", "<!--", "WEBVTT", "NOTE", "7"),
    *(
        "a\n\nb",
        "\r\n2\n00:00:01,000 --> 00:00:02,000\n",
        "\u202eabc",
        "\u2067x",
        "\x1b[2J",
        "\x00",
    ),
    *("w" * 90, "漢" * 50, "é\u0301" * 9, "(" * 50, "\u200d" * 9 + "x", "\ufeff", " ", ""),
)
ENGLISH = (
    *("I", "the", "a", "of", "we", "think", "that", "festival", "however,", "so;", "yes.", "Why?"),
    *(
        "Henry",
        "Miller",
        "New",
        "York",
        "3.5",
        "million",
        "12",
        "000",
        "$",
        "5",
        "%",
        "Mr.",
        "“so”",
    ),
)
OTHERS = (
    *"今日は天気がいい。、コンピューター「」２年",
    "สวัสดีครับ",
    "เราจะ",
    "مرحبا",
    "שלום.",
    "2024",
    "한국어를",
)


def segment(
    text: str, start_s: float, end_s: float, speaker: str | None = None, **more: Any
) -> dict[str, Any]:
    return {"start": start_s, "end": end_s, "text": text, "speaker": speaker} | more


def body(*segments: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"segments": segments} | more).encode()


def source_of(stored: bytes, name: str = "x") -> Source:
    return Source(parse(stored), stored, name)


def with_words(text: str, start_s: float, end_s: float, speaker: str | None) -> dict[str, Any]:
    """Return a segment of words that are spoken evenly."""
    parts = text.split()
    words = [
        {"word": part, "start": a, "end": b, "score": 0.5}
        for part, (a, b) in zip(parts, spread(start_s, end_s, parts), strict=True)
    ]
    return segment(text, start_s, end_s, speaker, words=words)


def meeting(name: str) -> bytes:
    """Return what was said in a recording of `bench.speech`."""
    said = json.loads((SPEECH_DIR / f"{name}.ref.json").read_text(encoding="utf-8"))
    return body(*(with_words(u["text"], u["start"], u["end"], u["speaker"]) for u in said))


@st.composite
def documents(draw: st.DrawFn, vocabulary: tuple[str, ...]) -> bytes:
    """Return segments one after another or over each other, some of them without words."""
    segments, now_s = [], draw(st.floats(0, 5))
    speakers = st.sampled_from(("Ada", "Bo [x] & <b>", None))
    for _ in range(draw(st.integers(0, 6))):
        texts = draw(st.lists(st.sampled_from(vocabulary), min_size=1, max_size=30))
        joint = draw(st.sampled_from((" ", "")))
        start_s = max(0.0, now_s + draw(st.floats(-1, 4)))
        words, now_s = [], start_s
        for text in texts:
            end_s = now_s + draw(st.floats(0, 0.8))
            words.append({"word": text, "start": now_s, "end": end_s})
            if draw(st.integers(0, 5)) == 0:
                words[-1]["start"] = None
            now_s = end_s + draw(st.sampled_from((0.0, 0.0, 0.05, 2.5)))
        more = {"words": words} if draw(st.booleans()) else {}
        segments.append(segment(joint.join(texts), start_s, now_s, draw(speakers), **more))
    return body(*segments)
