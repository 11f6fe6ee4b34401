"""`docs/transcript.md` shows every field there is, in a document that could be real."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bucketscribe_contract import DroppedText, Flag, Segment, Transcript, Word, WordTiming
from tests.transcript_rules import broken_rules

PAGE = (Path(__file__).parents[3] / "docs/transcript.md").read_text(encoding="utf-8")
WHOLE, ADDED = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))


def test_the_example_is_a_document_as_the_worker_writes_it() -> None:
    document = Transcript.model_validate(WHOLE)
    assert document.model_dump(mode="json") == WHOLE
    assert broken_rules(document) == []
    added = Transcript.model_validate(WHOLE | ADDED).model_dump(mode="json")
    assert {name: added[name] for name in ADDED} == ADDED


def test_the_examples_show_every_field() -> None:
    segments = WHOLE["segments"]
    for model, shown in (
        (Transcript, [WHOLE, ADDED]),
        (Segment, segments),
        (Word, [word for segment in segments for word in segment["words"]]),
        (DroppedText, ADDED["dropped"]),
    ):
        assert {name for part in shown for name in part} == set(model.model_fields)


@pytest.mark.parametrize(
    ("heading", "model"),
    [("Document", Transcript), ("Segment", Segment), ("Word", Word)],
)
def test_each_field_is_explained_and_marked_where_it_may_be_absent(
    heading: str, model: type[Transcript | Segment | Word]
) -> None:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    names = [line.partition(":")[0] for line in re.findall(r"^- (.*)", section, re.MULTILINE)]
    told = re.findall(r"`(\w+)`( \+)?", ", ".join(names))
    fields = {name: bool(field.exclude_if) for name, field in model.model_fields.items()}
    assert {name: bool(mark) for name, mark in told} == fields
    assert len(told) == len(fields)


@pytest.mark.parametrize("code", [*Flag, *WordTiming])
def test_each_flag_and_timing_is_explained(code: str) -> None:
    assert re.search(rf"`{code}`(:| \()", PAGE)


@pytest.mark.parametrize("kind", ["txt", "srt", "vtt", "tsv", "json", "aud"])
@pytest.mark.parametrize("highlight_words", [False, True])
def test_whisperx_writes_of_it_what_it_writes_of_its_own(
    tmp_path: Path, kind: str, highlight_words: bool
) -> None:
    """Its own: without the keys that it does not know."""
    from whisperx.utils import get_writer

    options = {"max_line_width": None, "max_line_count": None, "highlight_words": highlight_words}
    ours = WHOLE | ADDED
    own = {"language": ours["language"], "segments": [of_whisperx(s) for s in ours["segments"]]}
    written = []
    for name, document in (("ours", ours), ("own", own)):
        get_writer(kind, str(tmp_path))(document, f"{name}.flac", options)
        written.append((tmp_path / f"{name}.{kind}").read_text(encoding="utf-8"))
    if kind == "json":
        assert json.loads(written[0]) == ours
    else:
        assert written[0] == written[1]
        assert "Yeah." in written[0]


def of_whisperx(segment: dict[str, Any]) -> dict[str, Any]:
    """Return a segment with the keys that whisperx gives it."""
    words = [
        {key: word[key] for key in ("word", "start", "end", "score", "speaker")}
        for word in segment["words"]
    ]
    return {key: segment[key] for key in ("start", "end", "text", "speaker")} | {"words": words}
