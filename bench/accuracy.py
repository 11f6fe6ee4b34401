"""Measure accuracy through the whole path, next to stock WhisperX on the same weights.

Ours is all real, on loopback: SeaweedFS, the queue, `handler.py` and the edge client's command.
``python -m bench.accuracy --models DIR`` prints the tables, writes docs/accuracy.{md,json} and
exits 1 where ours is worse than stock by more than `TOLERANCES`. ``--also DIR`` measures further
recordings (NAME.flac, NAME.ref.json, NAME.rttm), of which the table of rates pooled is written and
the others are printed alone; ``--before DIR`` has stock on another models folder beside it, and
takes the encodings' words from that; ``--encodings`` measures the table of encodings alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import pooled
from bench.corpus import (
    ROOT,
    SAMPLE_RATE_HZ,
    SPEECH_DIR,
    Reference,
    load_folder,
    read_recording,
    read_transcript,
    telephone_sample,
)
from bench.encodings import (
    ENCODINGS,
    Agreement,
    agreement,
    agreement_markdown,
    write_recording,
)
from bench.pooled import FEWEST_WORDS
from bench.scoring import COLLAR_S, Counts, Score, count, score
from bench.speed.turns import run_process
from bench.stock import StockResult, transcribe_files
from bench.true_speakers import attribute_to_true_speakers
from devstack.stack import Stack

Ways = dict[str, list[dict[str, Any]]]
"""Transcript documents of all recordings, by the way they were made."""
Groups = Mapping[str, Mapping[str, Sequence[Counts]]]
"""Counts of recordings, by the group and by the way."""

TOLERANCES: dict[str, float] = {
    "wer": 0.005,
    "cpwer": 0.01,
    "der": 0.02,
    "der_no_collar": 0.02,
    "first_word_median_s": 0.005,
    "first_word_p90_s": 0.02,
}
"""How much worse than stock a figure may be, absolute: rates are parts of one, times seconds."""
INTRODUCTION = """\
# Accuracy

Written by `make eval`; do not edit. Ours is what the worker put into S3 after upload, submission
with the edge client, queue and worker; stock is WhisperX's README recipe (`bench/stock.py`) on
the same weights:
{models}.

- WER and cpWER are of texts in the spelling of Whisper's own English normaliser, so they compare
  with published ones.
- DER is by the speakers of the words; overlapped speech counts. The collar is pyannote.metrics':
  half of it on either side of each boundary.
- First words: how many of the utterances' first words were recognised, and how far from the
  true start they were put.
- `telephone` is the sample of pyannote.audio, two people on a real line, its times put down by
  hand. The others are synthetic voices with exact times (`bench/speech/`).

"""
POOLED = """
The same together, and real meetings: the first half minutes of seven AMI meetings, which are not in
this repository (`ALSO=DIR make eval`). Intervals are of 95 %, by drawing recordings again. A word
counts as recognised within 1.5 s of its true start. *True speakers*: the detector's own activity,
given to those who really spoke, is put on stock's words by either rule: the rule apart from the
models.

"""
DIARIZER = """
The same DER of the stock diarizer's own turns. What lies between is speech that no word covers:
overlapped speech, and the breath between two sentences that the reference counts as one.

"""
ENCODED = """
`handover2` in every container and codec that FFmpeg writes (`bench/encodings.py`): words, and how
much later they start, next to the plain WAV.

"""


class SubmitError(Exception):
    """The edge client said that a session did not come through; the text is its own."""


@dataclass(frozen=True)
class Comparison:
    """One recording, both ways; `diarizer_der` is of the own turns of stock's diarizer."""

    recording: str
    duration_s: float
    ours: Score
    stock: Score
    diarizer_der: float


def complaints(comparison: Comparison) -> list[str]:
    """Say in what ours is worse than stock by more than `TOLERANCES`; empty: in nothing."""
    ours, stock = comparison.ours, comparison.stock
    worse = [
        f"{name} {_plain(getattr(ours, name))}, stock {_plain(getattr(stock, name))}, "
        f"tolerance {tolerance}"
        for name, tolerance in TOLERANCES.items()
        if _is_worse(getattr(ours, name), getattr(stock, name), tolerance)
    ]
    if _miscounted(ours) > _miscounted(stock):
        found = f"{ours.speakers_found} speakers for {ours.speakers_true}"
        worse.append(f"{found}, stock {stock.speakers_found}")
    if ours.first_words < stock.first_words:
        worse.append(f"{ours.first_words} first words found, stock {stock.first_words}")
    return [f"{comparison.recording}: {complaint}" for complaint in worse]


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Lay out the table, two lines a recording, ours first."""
    lines = [
        f"| recording | | WER | cpWER | DER ({COLLAR_S:g} s) | DER (no collar) | speakers "
        "| first words, error ms (median / p90) |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for comparison in comparisons:
        title = f"{comparison.recording}, {comparison.duration_s:.0f} s"
        lines.append(f"| {title} | ours | {_cells(comparison.ours)} |")
        lines.append(f"| | stock | {_cells(comparison.stock)} |")
    return "\n".join(lines) + "\n"


def diarizer_markdown(comparisons: Sequence[Comparison]) -> str:
    """Lay out what stock's diarizer reaches before its turns are put on words."""
    head = f"| recording | DER of the diarizer's own turns ({COLLAR_S:g} s) |\n|---|---:|\n"
    return head + "".join(f"| {c.recording} | {c.diarizer_der:.1%} |\n" for c in comparisons)


@dataclass(frozen=True)
class Report:
    """What is committed; the models' names are by stage."""

    comparisons: Sequence[Comparison]
    models: dict[str, str]
    encodings: Sequence[Agreement]
    groups: Groups


def to_json(report: Report) -> str:
    """Write the figures for programs; rates are parts of one, times are seconds."""
    document = {
        "collar_s": COLLAR_S,
        "tolerances": TOLERANCES,
        "models": report.models,
        "recordings": [asdict(comparison) for comparison in report.comparisons],
        "encodings": [asdict(agreement) for agreement in report.encodings],
        "pooled": {
            group: {way: [asdict(one) for one in counts] for way, counts in ways.items()}
            for group, ways in report.groups.items()
        },
    }
    # rounded to what is measured, so that a rerun changes a file only when it says something new
    rounded = json.loads(json.dumps(document), parse_float=lambda text: round(float(text), 4))
    return json.dumps(rounded, indent=2) + "\n"


def from_json(text: str) -> Report:
    """Read what `to_json` wrote."""
    document = json.loads(text)
    comparisons = [
        Comparison(**{**c, "ours": _score(c["ours"]), "stock": _score(c["stock"])})
        for c in document["recordings"]
    ]
    groups = {
        group: {way: [Counts(**one) for one in counts] for way, counts in ways.items()}
        for group, ways in document["pooled"].items()
    }
    encodings = [Agreement(**agreement) for agreement in document["encodings"]]
    return Report(comparisons, document["models"], encodings, groups)


def _score(fields: dict[str, Any]) -> Score:
    return Score(**{**fields, "counts": Counts(**fields["counts"])})


def _is_worse(ours: float | None, stock: float | None, tolerance: float) -> bool:
    return stock is not None and (ours is None or ours > stock + tolerance)


def _miscounted(score: Score) -> int:
    return abs(score.speakers_found - score.speakers_true)


def _cells(score: Score) -> str:
    rates = score.wer, score.cpwer, score.der, score.der_no_collar
    times = f"{_ms(score.first_word_median_s)} / {_ms(score.first_word_p90_s)}"
    cells = [f"{rate:.1%}" for rate in rates]
    cells.append(f"{score.speakers_found} of {score.speakers_true}")
    return " | ".join([*cells, f"{score.first_words}: {times}"])


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.0f}"


def _plain(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 when ours is worse than stock, or did not come through."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    for name in ("models", "logs", "docs"):
        parser.add_argument(f"--{name}", type=Path, default=ROOT / name, metavar="DIR")
    parser.add_argument("--also", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--before", type=Path, metavar="DIR")
    parser.add_argument("--encodings", action="store_true")
    options = parser.parse_args(arguments)
    options.logs.mkdir(parents=True, exist_ok=True)
    own = [telephone_sample(), *load_folder(SPEECH_DIR)]
    also = [reference for folder in options.also for reference in load_folder(folder)]
    committed = from_json((options.docs / "accuracy.json").read_text())
    comparisons, models = list(committed.comparisons), committed.models
    groups = dict(committed.groups)
    try:
        if not options.encodings:
            both = options.models, options.before
            comparisons, models, ways = compare([*own, *also], *both, options.logs)
            groups |= pool([*own, *also], ways)
        encodings = compare_encodings(own[1], options.before or options.models, options.logs)
    except SubmitError as exc:
        print(exc, file=sys.stderr)
        return 1
    print(markdown(comparisons), pooled.markdown(groups), sep="\n")
    print(diarizer_markdown(comparisons), agreement_markdown(encodings), sep="\n")
    write(Report(comparisons[: len(own)], models, encodings, groups), options.docs)
    worse = [text for comparison in comparisons[: len(own)] for text in complaints(comparison)]
    print("\n".join(worse) or "no worse than stock", file=sys.stderr)
    return 1 if worse else 0


def compare(
    references: Sequence[Reference], models: Path, before: Path | None, logs: Path
) -> tuple[list[Comparison], dict[str, str], Ways]:
    """Measure stock, then ours.

    Args:
        references: Recordings and what was said in them.
        models: The folder that both use.
        before: Another, for stock alone.
        logs: Where the stack's go.

    Returns:
        What came out, the models' names by stage, and the documents by the way they were made.
    """
    print(f"stock: {len(references)} recordings", file=sys.stderr)
    recordings = [reference.audio for reference in references]
    stock = run_process(transcribe_files, models.resolve(), recordings)
    said = [result.transcript for result in stock]
    true = run_process(attribute_to_true_speakers, models.resolve(), references, said)
    print("ours: the same, through the whole path", file=sys.stderr)
    ours = list(transcribe_all([(reference, "wav") for reference in references], models, logs))
    ways = {"ours": ours, "stock": said}
    if before is not None:
        name = json.loads((before / "profile.json").read_text())["diarization"]["name"]
        results = run_process(transcribe_files, before.resolve(), recordings)
        ways[f"stock, {name}"] = [result.transcript for result in results]
    ways["our rule, true speakers"], ways["stock's rule, true speakers"] = map(
        list, zip(*true, strict=True)
    )
    comparisons = [
        _compare_one(reference, theirs, our)
        for reference, theirs, our in zip(references, stock, ours, strict=True)
    ]
    return comparisons, ours[0]["models"], ways


def pool(references: Sequence[Reference], ways: Ways) -> Groups:
    """Count the words of each recording by each way, in groups of recordings.

    A group is a folder, or within it the names that are alike up to the first ``_``.
    """
    groups: dict[str, dict[str, list[Counts]]] = {}
    for number, reference in enumerate(references):
        prefix, mark, _ = reference.name.partition("_")
        folder = reference.audio.parent
        rest = "synthetic" if folder == SPEECH_DIR else folder.name
        group = prefix if mark or prefix == "telephone" else rest
        for way, documents in ways.items():
            counts = count(reference, read_transcript(documents[number]))
            if counts.words >= FEWEST_WORDS:
                groups.setdefault(group, {}).setdefault(way, []).append(counts)
    return groups


def compare_encodings(reference: Reference, models: Path, logs: Path) -> list[Agreement]:
    """Transcribe one recording in each of `ENCODINGS`."""
    documents = transcribe_all([(reference, name) for name in ENCODINGS], models, logs)
    said = dict(zip(ENCODINGS, map(read_transcript, documents), strict=True))
    return [agreement(name, said["wav"], other) for name, other in said.items()]


def transcribe_all(
    recordings: Iterable[tuple[Reference, str]], models: Path, logs: Path
) -> Iterator[dict[str, Any]]:
    """Send recordings, each in an encoding, one after another through a stack with one worker.

    Yields:
        The transcript document of each, in order.

    Raises:
        SubmitError: A session failed.
    """
    with Stack(logs=logs, models=models) as stack:
        s3, bucket = stack.s3.client(), stack.s3.bucket
        for reference, encoding in recordings:
            prefix = f"users/bench/audio/sessions/{reference.name}-{encoding}"
            with tempfile.TemporaryDirectory() as folder:
                audio = Path(folder) / "audio.wav"  # the worker looks at what is in it
                write_recording(audio, read_recording(reference.audio), encoding=encoding)
                s3.upload_file(str(audio), bucket, f"{prefix}/audio.wav")
            run = stack.edge_client("submit", prefix, "--wait", "--json", capture_output=True)
            if run.returncode:
                raise SubmitError(f"{prefix}: exit {run.returncode}: {run.stdout}{run.stderr}")
            found = s3.get_object(Bucket=bucket, Key=f"{prefix}/transcription.json")
            yield json.loads(found["Body"].read())


def write(report: Report, docs: Path) -> None:
    """Write the committed tables."""
    names = ", ".join(f"{name} ({stage})" for stage, name in report.models.items())
    page = (
        INTRODUCTION.format(models=names),
        markdown(report.comparisons),
        POOLED,
        pooled.markdown(report.groups),
        DIARIZER,
        diarizer_markdown(report.comparisons),
        ENCODED,
        agreement_markdown(report.encodings),
    )
    (docs / "accuracy.md").write_text("".join(page))
    (docs / "accuracy.json").write_text(to_json(report))


def _compare_one(reference: Reference, theirs: StockResult, ours: dict[str, Any]) -> Comparison:
    duration_s = len(read_recording(reference.audio)) / SAMPLE_RATE_HZ
    stock = read_transcript(theirs.transcript)
    return Comparison(
        recording=reference.name,
        duration_s=duration_s,
        ours=score(reference, read_transcript(ours), duration_s),
        stock=score(reference, stock, duration_s),
        diarizer_der=score(reference, stock, duration_s, theirs.turns).der,
    )


if __name__ == "__main__":
    sys.exit(main())
