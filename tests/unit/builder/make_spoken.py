"""Make `data/spoken.flac` and its word times: `python -m tests.unit.builder.make_spoken`.

It needs Debian's libflite1 and libespeak-ng1; the tests need only what it made. The voices are
flite's kal16, which the aligner was not trained on, and two of eSpeak NG's.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench.corpus import write_recording
from tools.train_aligner.corpus import TimedWord
from tools.train_aligner.espeak import Espeak
from tools.train_aligner.flite import HELD_OUT_VOICE, Flite
from tools.train_aligner.speech import SAMPLE_RATE_HZ, Speech

DATA = Path(__file__).parent / "data"
PAUSE_S = 0.7


def main() -> None:
    """Speak three sentences, one after the other."""
    flite, espeak = Flite(), Espeak()
    speeches = [
        flite.speak("The ferry leaves at nine, whatever the weather.", HELD_OUT_VOICE, 1.0),
        espeak.speak(
            "Bring warm coats, because winter winds freeze fingers.", "gmw/en-US+f3", 165, 50, 50
        ),
        espeak.speak("Breakfast starts after sunrise.", "gmw/en-GB-x-rp+m3", 165, 45, 50),
    ]
    parts, words, at_s = [], list[TimedWord](), 0.0
    for speech in speeches:
        assert speech is not None
        words += _words(speech, at_s)
        parts += [speech.waveform, np.zeros(int(PAUSE_S * SAMPLE_RATE_HZ), np.int16)]
        at_s += len(speech.waveform) / SAMPLE_RATE_HZ + PAUSE_S
    write_recording(DATA / "spoken.flac", np.concatenate(parts), encoding="flac")
    lines = ",\n".join(json.dumps(asdict(word)) for word in words)
    (DATA / "spoken.words.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _words(speech: Speech, at_s: float) -> list[TimedWord]:
    assert all(len(group.words) == 1 for group in speech.groups)
    return [
        TimedWord(
            group.words[0],
            round(group.phones[0].start_s + at_s, 3),
            round(group.phones[-1].end_s + at_s, 3),
        )
        for group in speech.groups
    ]


if __name__ == "__main__":
    main()
