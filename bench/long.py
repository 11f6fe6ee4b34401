"""Who is found in long recordings that are made of short ones: for maintainers.

``python -m bench.long FOLDER`` joins the project's voices (or with ``--clips DIR`` the meetings of
a folder, one after another) for ``--hours``, drawn by ``--seed``, keeps scores and embeddings in
FOLDER, and prints for its first half hour, hour and so on people found, DER without collar,
confusion, seconds and memory of clustering. ``--whole`` clusters at once what is clustered in
chunks, as stock does.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pyannote.core import Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate
from scipy.signal import lfilter

from bench.corpus import (
    ROOT,
    SAMPLE_RATE_HZ,
    SPEECH_DIR,
    Reference,
    Turn,
    Waveform,
    load_folder,
    load_reference,
    read_recording,
)
from bench.scoring import annotation
from bench.speed.measure import memory_peak
from bench.stock import Recipe, load_models

PRESENT = {
    "slt": "11111111",
    "awb": "10001011",
    "rms": "11000110",
    "kal": "10001101",
    "f3": "10001101",
    "Bernd": "11100011",
}
"""The half hours of four in which a voice is there: who leaves comes back after an hour or more."""
VOICES = {
    "Nadia": "slt", "Clara": "slt", "Owen": "awb", "Ivan": "awb", "Henry": "rms",
    "Victor": "kal", "Paula": "f3", "Anna": "f3", "Bernd": "Bernd",
}  # fmt: skip
"""Paula and Anna are one voice of espeak-ng, in two languages."""
WINDOWS_PER_PART = 1200
SCENE_S = 150.0
"""So long a voice keeps its level and tone, and the room its noise."""


@dataclass(frozen=True)
class Piece:
    """A part of a recording that is put in as it is; times from its start."""

    voice: str
    samples: Waveform
    turns: tuple[Turn, ...]


@dataclass
class Recording:
    """What is joined; turns in seconds from its start."""

    samples: Waveform
    turns: list[Turn] = field(default_factory=list)

    def until(self, seconds: float) -> list[Turn]:
        """Return the turns of its first part."""
        return [
            Turn(turn.start_s, min(turn.end_s, seconds), turn.speaker)
            for turn in self.turns
            if turn.start_s < seconds
        ]


def utterances() -> list[Piece]:
    """Cut the project's recordings into their utterances, by voice."""
    paths = [*SPEECH_DIR.glob("*.flac"), *SPEECH_DIR.glob("*.ogg")]
    return [
        Piece(
            VOICES[said.speaker],
            samples[round(said.start * SAMPLE_RATE_HZ) : round(said.end * SAMPLE_RATE_HZ)],
            (Turn(0.0, said.end - said.start, VOICES[said.speaker]),),
        )
        for reference in map(load_reference, sorted(paths))
        for samples in [read_recording(reference.audio)]
        for said in reference.utterances
    ]


def exchanges(references: Sequence[Reference]) -> list[Piece]:
    """Cut recordings of meetings where nobody speaks."""
    pieces = []
    for reference in references:
        samples = read_recording(reference.audio)
        regions = Timeline([Segment(t.start_s, t.end_s) for t in reference.turns]).support(0.2)
        for start_s, end_s in regions:
            turns = tuple(
                Turn(turn.start_s - start_s, turn.end_s - start_s, turn.speaker)
                for turn in reference.turns
                if start_s <= turn.start_s < end_s
            )
            first, stop = round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ)
            pieces.append(Piece(reference.name, samples[first:stop], turns))
    return pieces


def join(
    pieces: Sequence[Piece], hours: float, seed: int = 0, at_once: tuple[int, int] = (2, 4)
) -> Recording:
    """Join pieces drawn at random; level, tone and noise change from scene to scene.

    Args:
        pieces: Of the voices in `PRESENT`, or of others, which are there all the time.
        hours: Length of the whole.
        seed: The same gives the same samples.
        at_once: Fewest and most of them in a scene.
    """
    rng = np.random.default_rng(seed)
    by_voice: defaultdict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_voice[piece.voice].append(piece)
    whole = Recording(np.zeros(round(hours * 3600 * SAMPLE_RATE_HZ), np.int16))
    now_s = 0.5
    while now_s < hours * 3600:
        half = int(now_s // 1800) % 8
        present = [v for v in by_voice if PRESENT.get(v, "1" * 8)[half] == "1"]
        cast = rng.permutation(present)[: rng.integers(at_once[0], at_once[1] + 1)]
        now_s = _scene(whole, {str(v): by_voice[v] for v in cast}, now_s, rng)
    return whole


def _scene(
    whole: Recording, by_voice: dict[str, list[Piece]], start_s: float, rng: np.random.Generator
) -> float:
    """Add one scene of the voices; return where it ends."""
    cast = list(by_voice)
    gains = {voice: 10 ** (rng.uniform(-7, 5) / 20) for voice in cast}
    tilts = {voice: rng.uniform(-0.35, 0.35) for voice in cast}
    now_s, end_s = start_s, start_s + SCENE_S
    while now_s < end_s:
        voice = str(rng.choice(cast))
        piece = by_voice[voice][rng.integers(len(by_voice[voice]))]
        speed = rng.uniform(0.98, 1.02)
        at = np.arange(0, len(piece.samples) - 1, speed)
        samples = np.interp(at, np.arange(len(piece.samples)), piece.samples.astype(np.float64))
        tilted = lfilter([1.0, -tilts[voice]], [1.0], samples)
        level = gains[voice] * np.sqrt(np.mean(samples**2) / (np.mean(tilted**2) + 1e-9))
        _add(whole.samples, tilted * level, now_s)
        whole.turns += [
            Turn(now_s + t.start_s / speed, now_s + t.end_s / speed, t.speaker) for t in piece.turns
        ]
        pause_s = -0.3 if rng.random() < 0.1 else rng.uniform(0.2, 1.2)
        now_s += len(samples) / SAMPLE_RATE_HZ + pause_s
    first, n_samples = (round(time_s * SAMPLE_RATE_HZ) for time_s in (start_s, now_s - start_s))
    loudness = np.sqrt(np.mean(whole.samples[first : first + n_samples].astype(np.float32) ** 2))
    noise = rng.standard_normal(n_samples, np.float32) * loudness * 10 ** -rng.uniform(1.0, 1.9)
    _add(whole.samples, lfilter([0.5, 0.5], [1.0], noise), start_s)
    return now_s


def _add(whole: Waveform, part: npt.NDArray[np.float64], start_s: float) -> None:
    start = round(start_s * SAMPLE_RATE_HZ)
    there = whole[start : start + len(part)]
    there[:] = np.clip(there + part[: len(there)], -32768, 32767).astype(np.int16)


def embed_parts(recording: Recording, folder: Path, pipeline: Any) -> None:
    """Keep what clustering starts from, ten minutes a file, of those that are not there."""
    from worker.engines.diarization.embeddings import embed
    from worker.engines.segmentation import Segmenter, segmentation_of
    from worker.stages.diarize import recorder_for

    segmenter = Segmenter(segmentation_of(pipeline.model))
    grid, n_windows = segmenter.grid, segmenter.grid.complete(len(recording.samples))
    for first in range(0, n_windows, WINDOWS_PER_PART):
        path = folder / f"{first:07}.npz"
        windows = np.arange(min(WINDOWS_PER_PART, n_windows - first))
        samples = recording.samples[first * grid.hop :][: windows[-1] * grid.hop + grid.size]
        if path.exists():
            continue
        recorder = recorder_for(pipeline)
        for some in np.array_split(windows, -(-len(windows) // 8)):
            recorder.add(segmenter.score(samples, some))
        activity = recorder.activity()
        vectors = embed(samples, activity, pipeline.model, 8, lambda _: None)
        np.savez(path, scores=activity.scores, index=activity.index, vectors=vectors)


def load_parts(folder: Path, n_windows: int, pipeline: Any) -> tuple[Any, Any]:
    """Load the `Activity` of the first windows, and its vectors."""
    from worker.stages.diarize import recorder_for

    recorder = recorder_for(pipeline)
    vectors: list[npt.NDArray[np.float32]] = []
    for path in sorted(folder.glob("*.npz"))[: -(-n_windows // WINDOWS_PER_PART)]:
        with np.load(path) as part:
            recorder.add(part["scores"][part["index"]].transpose(0, 2, 1))
            vectors.append(part["vectors"][1 if vectors else 0 :])
    return recorder.activity(), np.concatenate(vectors)


def measure(recording: Recording, hours: float, folder: Path, pipeline: Any, is_whole: bool) -> str:
    """Cluster the first hours; return a line of figures."""
    from worker.engines.diarization.clustering import (
        MIN_ACTIVE_SHARE,
        WHOLE_S,
        SpeakerBounds,
        cluster,
    )
    from worker.engines.diarization.turns import speaker_turns
    from worker.engines.segmentation import embedding_of

    activity, vectors = load_parts(folder, round(hours * 7200), pipeline)
    network = embedding_of(pipeline.model).model_
    share = getattr(network, "min_active_share", MIN_ACTIVE_SHARE)
    bounds = SpeakerBounds(None, 1, np.inf)
    with memory_peak() as memory:
        started = time.perf_counter()
        labels = cluster(
            vectors,
            activity,
            bounds,
            pipeline.model,
            min_active_share=share,
            whole_s=np.inf if is_whole else WHOLE_S,
        )
        seconds = time.perf_counter() - started
    found, _ = speaker_turns(activity, labels, activity.speakers_per_frame(), 0.0)
    true = recording.until(hours * 3600)
    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    parts = metric(
        annotation(true),
        annotation(Turn(turn.start, turn.end, turn.speaker) for turn in found),
        uem=Timeline([Segment(0.0, hours * 3600)]),
        detailed=True,
    )
    spoken: defaultdict[str, float] = defaultdict(float)
    for turn in true:
        spoken[turn.speaker] += turn.end_s - turn.start_s
    n_heard = sum(total >= 30 for total in spoken.values())
    confusion, der = (100 * parts[key] for key in ("confusion", "diarization error rate"))
    return (
        f"{hours:4} h: {len({turn.speaker for turn in found})} people ({n_heard} of {len(spoken)} "
        f"speak 30 s), DER {der:.2f}, confusion {confusion / parts['total']:.2f}, {seconds:.1f} s, "
        f"{memory['added'] / 1e6:.0f} MB"
    )


def main() -> None:
    """Make a recording, embed it, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    if options.clips:
        recording = join(
            exchanges(load_folder(options.clips)), options.hours, options.seed, at_once=(1, 1)
        )
    else:
        recording = join(utterances(), options.hours, options.seed)
    pipeline = load_models(options.models, Recipe(language="en")).diarizer
    options.folder.mkdir(parents=True, exist_ok=True)
    embed_parts(recording, options.folder, pipeline)
    for hours in (0.5, 1.0, 2.0, 4.0):
        if hours <= options.hours:
            print(measure(recording, hours, options.folder, pipeline, options.whole))


if __name__ == "__main__":
    main()
