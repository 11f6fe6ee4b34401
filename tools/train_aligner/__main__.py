"""`python -m tools.train_aligner prepare|train|evaluate`; see `--help` of each."""

import argparse
from pathlib import Path

from tools.train_aligner.corpus import (
    load_corpus,
    save_corpus,
    synthesize_held_out,
    synthesize_training,
)
from tools.train_aligner.sentences import FORTUNES, read_sentences, split_sentences

TRAIN, HELD_OUT = "train.npz", "held_out.npz"


def prepare(options: argparse.Namespace) -> None:
    """Speak sentences into a training corpus and a held-out one."""
    sentences = read_sentences(options.fortunes)
    train, held_out = split_sentences(sentences, options.held_out)
    print(f"{len(train)} sentences to train on, {len(held_out)} held out")
    options.corpus.mkdir(parents=True, exist_ok=True)
    seconds = 3600 * options.hours / 2
    for name, utterances in (
        (HELD_OUT, synthesize_held_out(held_out)),
        (TRAIN, synthesize_training(train, seconds, seconds)),
    ):
        save_corpus(utterances, options.corpus / name)
        print(f"{name}: {len(utterances)} utterances, {sum(u.seconds for u in utterances):.0f} s")


def train(options: argparse.Namespace) -> None:
    """Train on the prepared corpus and save a model folder."""
    from tools.train_aligner.training import train as run

    losses = run(load_corpus(options.corpus / TRAIN), options.minutes, options.into)
    print(f"{len(losses)} steps; saved to {options.into}")


def evaluate(options: argparse.Namespace) -> None:
    """Measure a model folder against known times, beside the naive baseline."""
    from tools.train_aligner.evaluation import evaluate_corpus, evaluate_recordings, format_table

    rows = []
    if options.corpus:
        rows += evaluate_corpus(options.model, load_corpus(options.corpus / HELD_OUT))
    if options.recordings:
        rows += evaluate_recordings(options.model, sorted(options.recordings.glob("*.ref.json")))
    print(format_table(rows))


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="train_aligner", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_prepare(commands.add_parser("prepare", help=prepare.__doc__))
    _add_train(commands.add_parser("train", help=train.__doc__))
    _add_evaluate(commands.add_parser("evaluate", help=evaluate.__doc__))
    options = parser.parse_args()
    options.run(options)


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=prepare)
    parser.add_argument("corpus", type=Path, help="folder for the two corpora")
    parser.add_argument("--fortunes", type=Path, default=FORTUNES, help="default: %(default)s")
    parser.add_argument("--hours", type=float, default=9.7, help="of training speech")
    parser.add_argument("--held-out", type=int, default=300, help="sentences to hold out")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=train)
    parser.add_argument("corpus", type=Path, help="folder that `prepare` filled")
    parser.add_argument("into", type=Path, help="model folder to write")
    parser.add_argument("--minutes", type=float, default=35.0)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=evaluate)
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("--corpus", type=Path, help="folder that `prepare` filled")
    parser.add_argument(
        "--recordings", type=Path, help="folder of NAME.flac with NAME.ref.json (utterance times)"
    )


if __name__ == "__main__":
    main()
