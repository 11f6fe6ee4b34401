"""`python -m tools.train_aligner prepare CORPUS`, `train CORPUS MODEL`, `evaluate MODEL CORPUS`.

`prepare` speaks a training corpus and a held-out one into a folder; `train` makes a model folder
out of it; `evaluate` prints the errors of a model in a folder on held-out speech, `recordings`
(`recordings MODEL bench/speech`) on recordings `NAME.flac` with the times in `NAME.ref.json`.
"""

import pickle
import sys
from pathlib import Path

from tools.train_aligner.corpus import synthesize
from tools.train_aligner.speech import read_sentences, split_sentences

HELD_OUT_SENTENCES = 300
TRAINING_S = 9.7 * 3600
STEPS = 1800
"""They take half an hour on a quiet thread."""


def main(command: str, first: Path, second: Path | None = None) -> None:
    """Run one command on its folders."""
    if command == "prepare":
        train, held_out = split_sentences(read_sentences(), HELD_OUT_SENTENCES)
        first.mkdir(parents=True, exist_ok=True)
        (first / "held_out").write_bytes(pickle.dumps(synthesize(held_out, None)))
        (first / "train").write_bytes(pickle.dumps(synthesize(train, TRAINING_S)))
        return
    if second is None:
        raise SystemExit(f"{command} takes two folders:\n{__doc__}")
    if command == "train":
        from tools.train_aligner.training import train as run

        run(pickle.loads((first / "train").read_bytes()), STEPS, second)  # noqa: S301  # ours
        return
    from tools.train_aligner import evaluation

    if command == "evaluate":
        held_out = pickle.loads((second / "held_out").read_bytes())  # noqa: S301  # ours
        rows = evaluation.evaluate_corpus(first, held_out)
    else:
        rows = evaluation.evaluate_recordings(first, second)
    print(*map(str, rows), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
