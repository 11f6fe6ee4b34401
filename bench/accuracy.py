"""Measure accuracy through the whole path, next to stock WhisperX on the same weights.

``python -m bench.accuracy --models DIR`` writes docs/accuracy.md and docs/accuracy.json for the
telephone sample and the project's own speech, prints the table, and exits 1 if ours is worse
than stock by more than `bench.comparison.TOLERANCES`. ``--also DIR`` measures further
recordings (NAME.flac, NAME.ref.json, NAME.rttm): printed, and written only with ``--write-also``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.audio_files import SAMPLE_RATE_HZ, read_recording
from bench.comparison import Comparison, complaints, diarizer_markdown, markdown, to_json
from bench.references import SPEECH_DIR, Reference, Turn, load_folder, telephone_sample
from bench.scoring import score
from bench.transcripts import read_transcript
from bench.whole_path import ROOT, SubmitError, transcribe_all

INTRODUCTION = """\
# Accuracy

Written by `make eval`; do not edit. Ours is what the worker put into S3 after upload, submission
with the edge client, queue and worker; stock is WhisperX's README recipe (`bench/stock.py`) on
the same weights:
{models}.

- WER and cpWER are under the normalisation that `bench/normalise.py` states.
- DER is by the speakers of the words, which is what a reader of a transcript is told; overlapped
  speech counts. The collar is pyannote.metrics': half of it on either side of each boundary.
- First words: how many of the utterances' first words were recognised, and how far from the
  true start they were put.
- `telephone` is the sample of pyannote.audio, two people on a real line, its true times put down
  by hand. The others are synthetic voices with exact times (`bench/speech/`).

"""
DIARIZER = """
The same DER of the stock diarizer's own turns, before they are put on words. What lies between
is speech that no word covers: overlapped speech, and the breath between two sentences that the
reference counts as one utterance.

"""


class StockError(Exception):
    """Stock WhisperX did not run to its end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 when ours is worse than stock, or did not come through."""
    options = _parser().parse_args(arguments)
    own = [telephone_sample(), *load_folder(SPEECH_DIR)]
    also = [reference for folder in options.also for reference in load_folder(folder)]
    try:
        comparisons, models = compare([*own, *also], options.models, options.logs)
    except (SubmitError, StockError) as exc:
        print(exc, file=sys.stderr)
        return 1
    print(markdown(comparisons) + "\n" + diarizer_markdown(comparisons))
    write(comparisons if options.write_also else comparisons[: len(own)], models, options.docs)
    worse = [complaint for comparison in comparisons for complaint in complaints(comparison)]
    print("\n".join(worse) or "no worse than stock", file=sys.stderr)
    return 1 if worse else 0


def compare(
    references: Sequence[Reference], models: Path, logs: Path
) -> tuple[list[Comparison], dict[str, str]]:
    """Measure stock, then ours.

    Args:
        references: The recordings.
        models: The folder that both load.
        logs: Where the development stack's logs go.

    Returns:
        A comparison for each recording, and the names of the models by stage.
    """
    logs.mkdir(parents=True, exist_ok=True)
    print(f"stock: {len(references)} recordings", file=sys.stderr)
    stock = run_stock(references, models, logs)
    print("ours: the same, through the whole path", file=sys.stderr)
    ours = list(transcribe_all(references, models, logs))
    comparisons = [
        _compare_one(reference, theirs, our)
        for reference, theirs, our in zip(references, stock, ours, strict=True)
    ]
    return comparisons, ours[0]["models"]


def run_stock(references: Sequence[Reference], models: Path, logs: Path) -> list[dict[str, Any]]:
    """Run `bench.stock` in a process of its own, which gives its memory back.

    Raises:
        StockError: It did not end well; what it said is in ``stock.log``.
    """
    recordings = [str(reference.audio) for reference in references]
    log = logs / "stock.log"
    with log.open("w") as errors:
        run = subprocess.run(
            [sys.executable, "-m", "bench.stock", "--models", str(models.resolve()), *recordings],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
        )
    if run.returncode:
        raise StockError(f"stock WhisperX: exit {run.returncode}: see {log}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def write(comparisons: Sequence[Comparison], models: dict[str, str], docs: Path) -> None:
    """Write the committed table."""
    names = ", ".join(f"{name} ({stage})" for stage, name in models.items())
    text = INTRODUCTION.format(models=names) + markdown(comparisons)
    (docs / "accuracy.md").write_text(text + DIARIZER + diarizer_markdown(comparisons))
    (docs / "accuracy.json").write_text(to_json(comparisons, models))


def _compare_one(reference: Reference, theirs: dict[str, Any], ours: dict[str, Any]) -> Comparison:
    duration_s = len(read_recording(reference.audio)) / SAMPLE_RATE_HZ
    stock = read_transcript(theirs)
    turns = [Turn(*turn) for turn in theirs["turns"]]
    return Comparison(
        recording=reference.name,
        duration_s=duration_s,
        ours=score(reference, read_transcript(ours), duration_s),
        stock=score(reference, stock, duration_s),
        diarizer_der=score(reference, stock, duration_s, turns).der,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    parser.add_argument("--models", type=Path, default=ROOT / "models", metavar="DIR")
    parser.add_argument("--logs", type=Path, default=ROOT / "logs", metavar="DIR")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    parser.add_argument("--also", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--write-also", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
