"""`python -m tools.train_aligner prepare|train|evaluate`; see `--help` of each."""

import argparse
import pickle
from pathlib import Path

from tools.train_aligner.corpus import Utterance, synthesize
from tools.train_aligner.speech import FORTUNES, read_sentences, split_sentences

TRAIN, HELD_OUT = "train.pickle", "held_out.pickle"


def prepare(options: argparse.Namespace) -> None:
    """Speak sentences into a training corpus and a held-out one."""
    train, held_out = split_sentences(read_sentences(options.fortunes), options.held_out)
    print(f"{len(train)} sentences to train on, {len(held_out)} held out")
    options.corpus.mkdir(parents=True, exist_ok=True)
    for name, sentences, seconds in ((HELD_OUT, held_out, None), (TRAIN, train, options.hours)):
        utterances = synthesize(sentences, seconds and 3600 * seconds)
        (options.corpus / name).write_bytes(pickle.dumps(utterances))
        print(f"{name}: {len(utterances)} utterances, {sum(u.seconds for u in utterances):.0f} s")


def train(options: argparse.Namespace) -> None:
    """Train on the prepared corpus and save a model folder."""
    from tools.train_aligner.training import train as run

    run(_load(options.corpus / TRAIN), options.steps, options.into)


def evaluate(options: argparse.Namespace) -> None:
    """Measure a model folder against known times, beside the naive baseline."""
    from tools.train_aligner.evaluation import evaluate_corpus, evaluate_recordings, format_table

    rows = []
    if options.corpus:
        rows += evaluate_corpus(options.model, _load(options.corpus / HELD_OUT))
    if options.recordings:
        rows += evaluate_recordings(options.model, sorted(options.recordings.glob("*.ref.json")))
    print(format_table(rows))


def _load(path: Path) -> list[Utterance]:
    utterances: list[Utterance] = pickle.loads(path.read_bytes())  # noqa: S301  # `prepare` wrote it
    return utterances


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="train_aligner", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one, two, three = (commands.add_parser(f.__name__, help=f.__doc__) for f in COMMANDS)
    for command, function in zip((one, two, three), COMMANDS, strict=True):
        command.set_defaults(run=function)
    one.add_argument("corpus", type=Path, help="folder for the two corpora")
    one.add_argument("--fortunes", type=Path, default=FORTUNES, help="default: %(default)s")
    one.add_argument("--hours", type=float, default=9.7, help="of training speech")
    one.add_argument("--held-out", type=int, default=300, help="sentences to hold out")
    two.add_argument("corpus", type=Path, help="folder that `prepare` filled")
    two.add_argument("into", type=Path, help="model folder to write")
    two.add_argument("--steps", type=int, default=1800, help="half an hour on a quiet thread")
    three.add_argument("model", type=Path, help="model folder")
    three.add_argument("--corpus", type=Path, help="folder that `prepare` filled")
    three.add_argument("--recordings", type=Path, help="folder of NAME.flac and NAME.ref.json")
    options = parser.parse_args()
    options.run(options)


COMMANDS = (prepare, train, evaluate)

if __name__ == "__main__":
    main()
