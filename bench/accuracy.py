"""Measure accuracy through the whole path, next to stock WhisperX on the same weights.

Ours is all real, on loopback: SeaweedFS, the queue, `handler.py` and the edge client's command.
``python -m bench.accuracy --models DIR`` prints the table and writes docs/accuracy.{md,json}.
``--also DIR`` measures further recordings (NAME.flac, NAME.ref.json, NAME.rttm); ``--before DIR``
has stock on another models folder beside it. Groups that are not measured this time stay as they
are committed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from bench.corpus import (
    ROOT,
    SAMPLE_RATE_HZ,
    SPEECH_DIR,
    Reference,
    Turn,
    load_folder,
    read_recording,
    read_transcript,
    telephone_sample,
    write_recording,
)
from bench.scoring import COLLAR_S, Counts, count
from bench.speed.sides import run_process
from bench.stock import transcribe_files
from devstack.stack import Stack

Ways = dict[str, list[dict[str, Any]]]
"""Transcript documents of all recordings, by the way they were made."""
Groups = Mapping[str, Mapping[str, Sequence[Counts]]]
"""Counts of recordings, by the group and by the way."""
_GROUPS = TypeAdapter[Groups](Groups)
OURS, STOCK = "ours", "stock"
FEWEST_WORDS = 10
"""Said in a recording: with fewer its rates mean nothing, and it is left out."""
DRAWS = 2_000
SEED = 16
RATES: dict[str, Callable[[Counts], tuple[float, float]]] = {
    "WER": lambda c: (c.edits, c.words),
    "cpWER": lambda c: (c.cp_edits, c.words),
    "cpWER − WER": lambda c: (c.cp_edits - c.edits, c.words),
    "DER": lambda c: (c.wrong_s, c.speech_s),
    "right speaker": lambda c: (c.right, c.matched),
}
"""Of a group's counts together: part and whole."""
INTRODUCTION = """\
# Accuracy

Written by `make eval`; do not edit. *Ours* is what the worker put into S3 after upload, submission
with the edge client, queue and worker; *stock* is WhisperX's README recipe (`bench/stock.py`) on
the same weights:
{models}.

- Rates are of all words, or of all speech, of a group; intervals are of 95 %, by drawing its
  recordings again. WER and cpWER are of texts in the spelling of Whisper's own English normaliser,
  so they compare with published ones.
- DER is by the speakers of the words; overlapped speech counts. The collar of {collar_s:g} s is
  pyannote.metrics': half of it on either side of each boundary.
- *Right speaker*: of the words that were recognised within 1.5 s of their true start.
- *Speakers*: whom the transcripts have, and who speak, added up.
- Sentences are those of the reference, at least one an utterance; AMI's have no full stops.
- *True turns*: the reference's turns are put on stock's words by either rule: the rule apart from
  the models. Ours has one speaker at a time: whose word it is, where the reference has times of
  words (AMI), else whose turn; where two overlap, whoever began last.
- `telephone` is the sample of pyannote.audio, two people on a real line. `synthetic` is
  `bench/speech`. `ami` are the first half minutes of seven AMI meetings, which are not in this
  repository (`ALSO=DIR make eval`).
- A dash: not measured.

"""


class SubmitError(Exception):
    """The edge client said that a session did not come through; the text is its own."""


@dataclass(frozen=True)
class Report:
    """What is committed; the models' names are by stage."""

    models: dict[str, str]
    groups: Groups

    def to_json(self) -> str:
        """Write the counts for programs, rounded to what is measured: a rerun changes no digit."""
        groups = _GROUPS.dump_python(self.groups)
        document = {"collar_s": COLLAR_S, "models": self.models, "pooled": groups}
        rounded = json.loads(json.dumps(document), parse_float=lambda text: round(float(text), 3))
        return json.dumps(rounded, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote."""
        document = json.loads(text)
        return cls(document["models"], _GROUPS.validate_python(document["pooled"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 when a recording did not come through."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    for name in ("models", "logs", "docs"):
        parser.add_argument(f"--{name}", type=Path, default=ROOT / name, metavar="DIR")
    parser.add_argument("--also", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--before", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    options.logs.mkdir(parents=True, exist_ok=True)
    references = [telephone_sample(), *load_folder(SPEECH_DIR)]
    references += [reference for folder in options.also for reference in load_folder(folder)]
    try:
        ways = transcribe_by_all_ways(references, options.models, options.before, options.logs)
    except SubmitError as exc:
        print(exc, file=sys.stderr)
        return 1
    committed = Report.from_json((options.docs / "accuracy.json").read_text())
    measured = {**committed.groups, **pool(references, ways)}
    report = Report(ways[OURS][0]["models"], measured)
    models = ", ".join(f"{name} ({stage})" for stage, name in report.models.items())
    page = INTRODUCTION.format(models=models, collar_s=COLLAR_S) + table(report.groups)
    (options.docs / "accuracy.md").write_text(page)
    (options.docs / "accuracy.json").write_text(report.to_json())
    print(table(report.groups))
    return 0


def transcribe_by_all_ways(
    references: Sequence[Reference], models: Path, before: Path | None, logs: Path
) -> Ways:
    """Transcribe by stock, then through our whole path, then by stock on the models `before`."""
    print(f"stock: {len(references)} recordings", file=sys.stderr)
    recordings = [reference.audio for reference in references]
    stock = run_process(transcribe_files, models.resolve(), recordings)
    true = run_process(attribute_true_turns, references, stock)
    print("ours: the same, through the whole path", file=sys.stderr)
    ways: Ways = {OURS: list(transcribe_all(references, models, logs)), STOCK: stock}
    if before is not None:
        name = json.loads((before / "profile.json").read_text())["diarization"]["name"]
        ways[f"stock, {name}"] = run_process(transcribe_files, before.resolve(), recordings)
    ways["our rule, true turns"] = [ours for ours, _ in true]
    ways["stock's rule, true turns"] = [theirs for _, theirs in true]
    return ways


def attribute_true_turns(
    references: Sequence[Reference], transcripts: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Put the references' turns on stock's words; return documents by our rule and by stock's."""
    return [_attribute(*pair) for pair in zip(references, transcripts, strict=True)]


def _attribute(
    reference: Reference, transcript: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    from worker.stages.attribute import attribute, attribute_as_stock  # imports torch
    from worker.types import Alignment, Diarization, SpeakerTurn, TimedSegment, TimedWord

    def sentence(segment: dict[str, Any]) -> TimedSegment:
        words = tuple(
            TimedWord(word["word"], word["start"], word["end"], word.get("score"))
            for word in segment["words"]
            if "start" in word
        )
        text = " ".join(word.word for word in words)
        return TimedSegment(segment["start"], segment["end"], text, words)

    labels = {name: f"SPEAKER_{i:02d}" for i, name in enumerate(sorted(reference.speakers))}
    turns, exclusive = (
        tuple(SpeakerTurn(turn.start_s, turn.end_s, labels[turn.speaker]) for turn in some)
        for some in (
            reference.turns,
            one_at_a_time(reference.turns_of_words() or reference.turns),
        )
    )
    diarization = Diarization(turns, exclusive)
    alignment = Alignment(tuple(map(sentence, transcript["segments"])))
    length_s = len(read_recording(reference.audio)) / SAMPLE_RATE_HZ
    ours, stock = (
        {"segments": [s.model_dump() for s in rule(alignment, diarization, 0.0, length_s)]}
        for rule in (attribute, attribute_as_stock)
    )
    return ours, stock


def one_at_a_time(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Cut turns so that none overlap: whoever began last speaks."""
    edges_s = sorted({edge_s for turn in turns for edge_s in (turn.start_s, turn.end_s)})
    for start_s, end_s in pairwise(edges_s):
        heard = [turn for turn in turns if turn.start_s <= start_s and turn.end_s >= end_s]
        if heard:
            yield Turn(start_s, end_s, max(heard, key=lambda turn: turn.start_s).speaker)


def transcribe_all(
    references: Iterable[Reference], models: Path, logs: Path
) -> Iterator[dict[str, Any]]:
    """Send recordings one after another through a stack with one worker; yield the documents.

    Raises:
        SubmitError: A session failed.
    """
    with Stack(logs=logs, models=models) as stack:
        s3, bucket = stack.s3.client(), stack.s3.bucket
        for reference in references:
            prefix = f"users/bench/audio/sessions/{reference.name}"
            with tempfile.TemporaryDirectory() as folder:
                audio = Path(folder) / "audio.wav"
                write_recording(audio, read_recording(reference.audio))
                s3.upload_file(str(audio), bucket, f"{prefix}/audio.wav")
            run = stack.edge_client("submit", prefix, "--wait", "--json", capture_output=True)
            if run.returncode:
                raise SubmitError(f"{prefix}: exit {run.returncode}: {run.stdout}{run.stderr}")
            found = s3.get_object(Bucket=bucket, Key=f"{prefix}/transcription.json")
            yield json.loads(found["Body"].read())


def pool(references: Sequence[Reference], ways: Ways) -> Groups:
    """Count each recording by each way, in groups of recordings.

    A group is a folder, or within it the names that are alike up to the first ``_``.
    """
    groups: dict[str, dict[str, list[Counts]]] = {}
    for number, reference in enumerate(references):
        prefix, mark, _ = reference.name.partition("_")
        folder = reference.audio.parent
        rest = "synthetic" if folder == SPEECH_DIR else folder.name
        group = prefix if mark or prefix == "telephone" else rest
        duration_s = len(read_recording(reference.audio)) / SAMPLE_RATE_HZ
        for way, documents in ways.items():
            counts = count(reference, read_transcript(documents[number]), duration_s)
            if counts.words >= FEWEST_WORDS:
                groups.setdefault(group, {}).setdefault(way, []).append(counts)
    return groups


def table(groups: Groups) -> str:
    """Lay out the table: a line for each way of each group."""
    heads = [*RATES, "speakers", "segments (of two speakers)", "segments / sentences"]
    lines = [f"| recordings | | {' | '.join(heads)} |", "|---|---|" + "---:|" * len(heads)]
    for group, ways in groups.items():
        first = next(iter(ways.values()))
        plural, words = "" if len(first) == 1 else "s", sum(one.words for one in first)
        title = f"{group}: {len(first)} recording{plural}, {words:,} words "
        for way, counts in ways.items():
            lines.append(f"| {title}| {way} | {' | '.join(_cells(counts))} |")
            title = ""
    return "\n".join(lines) + "\n"


def _cells(counts: Sequence[Counts]) -> list[str]:
    total = sum(counts[1:], counts[0])
    rates = [_cell(rate(total), interval(counts, rate)) for rate in RATES.values()]
    found = f"{total.speakers_found} of {total.speakers_true}" if total.speakers_true else "–"
    return [
        *rates[:-1],
        f"{rates[-1]} of {total.matched:,}",
        found,
        f"{total.segments} ({total.mixed})",
        f"{total.segments / total.sentences:.2f}" if total.sentences else "–",
    ]


def _cell(parts: tuple[float, float], bounds: tuple[float, float] | None) -> str:
    part, whole = parts
    if not whole:
        return "–"
    return f"{part / whole:.1%}" + (f" [{bounds[0]:.1%}, {bounds[1]:.1%}]" if bounds else "")


def interval(
    counts: Sequence[Counts], rate: Callable[[Counts], tuple[float, float]]
) -> tuple[float, float] | None:
    """Return the 2.5th and 97.5th percentile of a rate; None of fewer than three recordings."""
    if len(counts) < 3:  # noqa: PLR2004  # two give a handful of draws
        return None
    parts = np.array([rate(one) for one in counts])
    draws = np.random.default_rng(SEED).integers(len(parts), size=(DRAWS, len(parts)))
    sums = parts[draws].sum(axis=1)
    low, high = np.percentile(sums[:, 0] / np.maximum(sums[:, 1], 1), [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
