"""Fit how late a Whisper's attention is: against the aligner, on the project's spoken dialogues.

``python -m tools.fit_attention --models DIR`` prints, for each Whisper of the folder that knows
English, the median of its words' starts minus the aligner's: what
`worker.engines.attention.LAG_S` has under the model's name.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import quantiles

from bench.corpus import ROOT, SPEECH_DIR, load_folder, read_recording
from bucketscribe_contract import JobInput, WordTiming
from worker.cancel import StageContext
from worker.host.log import quiet_libraries
from worker.models.folder import find_models
from worker.models.load import Models, load_models
from worker.settings import WorkerSettings

ENGLISH = JobInput(audio_base64="AA==", language="en")


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(prog="python -m tools.fit_attention", description=__doc__)
    parser.add_argument("--models", type=Path, default=ROOT / "models", metavar="DIR")
    folder = parser.parse_args().models
    quiet_libraries()
    profile = find_models(WorkerSettings(models_dir=folder)).profile
    for name, entry in profile.whisper.models.items():
        if entry.languages is not None and "en" not in entry.languages:
            continue
        settings = WorkerSettings(models_dir=folder, whisper_model=name)
        late = list(_late_s(load_models(settings, find_models(settings))))
        low, middle, high = quantiles(late, n=4)
        print(f'"{name}": {middle:.3f},  # {len(late)} words, half of them {low:.3f} to {high:.3f}')


def _late_s(models: Models) -> Iterator[float]:
    """Give how much later than the aligner attention puts each word's start, in seconds."""
    from worker.stages.align import align
    from worker.stages.speech import find_speech
    from worker.stages.transcribe import transcribe
    from worker.types import Waveform

    whisper = replace(models.whisper, name="")  # no lag is taken off
    ctx = StageContext(batch_size=1)
    for reference in load_folder(SPEECH_DIR):
        waveform = Waveform(read_recording(reference.audio))
        spans = find_speech(waveform.blocks(), models.detector, StageContext(batch_size=32))
        heard = transcribe(waveform, spans, ENGLISH, whisper, ctx, needs_times=lambda *_: True)
        by_aligner, by_attention = (
            [w for sentence in align(waveform, heard, how, ctx).segments for w in sentence.words]
            for how in (models.aligner("en"), None)
        )
        for one, other in zip(by_aligner, by_attention, strict=True):
            if one.timing is WordTiming.ALIGNED:
                yield other.start - one.start


if __name__ == "__main__":
    main()
