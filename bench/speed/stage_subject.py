"""One side's stages, in a process of its own: ``python -m bench.speed.stage_subject TASK.json``.

Started by `bench.speed.stages`. What it knows of the worker's stages is `_our_alignment` and
`_our_diarization`: they call them as ``worker.pipeline`` does.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.audio_files import Waveform, read_recording, to_float32
from bench.speed.forwards import ForwardMemory, around_forwards
from bench.speed.gauges import synchronize

SIDES = ("stock", "ours")
DEMO = "demo"
ALIGNERS = (DEMO, "wav2vec2-base", "wav2vec2-layer-norm")
REMEMBERED = (DEMO, "wav2vec2-base")
"""Timed without their forwards too."""
WARM_UP_S = 10.0
DIARIZED_S = 20.0

Timed = dict[str, Any]


def main() -> None:
    """Do the task."""
    task = json.loads(Path(sys.argv[1]).read_text())
    with contextlib.redirect_stdout(sys.stderr):
        side = _Ours(task) if task["side"] == "ours" else _Stock(task)
        meeting = read_recording(Path(task["meeting"]))
        telephone = read_recording(Path(task["telephone"]))[: round(DIARIZED_S * 16_000)]
        answer = {
            "alignment": {
                name: _align(side, name, meeting, segments)
                for name, segments in task["segments"].items()
            },
            "diarization": side.diarize(telephone),
        }
    Path(task["answer"]).write_text(json.dumps(answer))


class _Stock:
    """whisperx's stages, after a job by its README."""

    def __init__(self, task: dict[str, Any]) -> None:
        from bench.speed import theirs
        from bench.stock import Recipe

        self.models = theirs.load(Path(task["models"]), Recipe())
        theirs.run(self.models, Path(task["telephone"]), WARM_UP_S)
        self.device = self.models.recipe.device

    def aligner(self, name: str) -> tuple[Any, dict[str, Any]]:
        if name == DEMO:
            return self.models.aligner, self.models.align_metadata
        return _build(name, self.device)

    def align(
        self, model: Any, metadata: Any, samples: Waveform, segments: Any
    ) -> Callable[..., Any]:
        import whisperx

        audio = to_float32(samples)
        return lambda: whisperx.align(segments, model, metadata, audio, self.device)["segments"]

    @staticmethod
    def words(found: Any) -> list[list[Any]]:
        return [[w["word"], w.get("start"), w.get("end")] for s in found for w in s["words"]]

    def diarize(self, samples: Waveform) -> Timed:
        audio = to_float32(samples)
        wall_s, found = _clock(lambda: self.models.diarizer(audio))
        rows = zip(found["start"], found["end"], found["speaker"], strict=True)
        return {"wall_s": wall_s, "turns": sorted([float(a), float(b), who] for a, b, who in rows)}


class _Ours:
    """The worker's stages, after a job."""

    def __init__(self, task: dict[str, Any]) -> None:
        from bench.speed.ours import Job, Worker

        worker = Worker(Path(task["models"]))
        audio = Path(task["telephone"]).name
        worker.run(Job(task["storage"] + audio, task["storage"] + "result-stages.json", WARM_UP_S))
        self.models = worker.models
        self.device = self.models.device.name

    def aligner(self, name: str) -> tuple[Any, dict[str, Any]]:
        if name == DEMO:
            aligner = self.models.aligner("en")
            return aligner.model, aligner.metadata
        model, metadata = _build(name, self.device)
        if self.models.lanes is not None:
            self.models.lanes.spread(model)
        return model, metadata

    def align(
        self, model: Any, metadata: Any, samples: Waveform, segments: Any
    ) -> Callable[..., Any]:
        from worker.values import TextSegment, Transcription
        from worker.values import Waveform as WorkerWaveform

        said = tuple(TextSegment(s["start"], s["end"], s["text"], 0.0) for s in segments)
        transcription = Transcription(said, "en", None)
        waveform = WorkerWaveform(samples)
        return lambda: _our_alignment(self.models, model, metadata, waveform, transcription)

    @staticmethod
    def words(found: Any) -> list[list[Any]]:
        return [[w.word, w.start, w.end] for s in found.segments for w in s.words]

    def diarize(self, samples: Waveform) -> Timed:
        from worker.values import Waveform as WorkerWaveform

        waveform = WorkerWaveform(samples)
        wall_s, found = _clock(lambda: _our_diarization(self.models, waveform))
        return {"wall_s": wall_s, "turns": sorted([t.start, t.end, t.speaker] for t in found.turns)}


def _our_alignment(
    models: Any, model: Any, metadata: Any, waveform: Any, transcription: Any
) -> Any:
    from worker.align import Aligner, align, starting_batch_size
    from worker.cancel import CancelToken

    aligner, device = Aligner(model, metadata, "bench"), models.device
    return align(
        waveform,
        transcription,
        aligner,
        device.torch_device,
        CancelToken(),
        batch_size=starting_batch_size(device.torch_device),
        lanes=device.lanes,
    )


def _our_diarization(models: Any, waveform: Any) -> Any:
    from contract import JobInput
    from worker.cancel import CancelToken
    from worker.diarize import diarize

    job = JobInput(audio_base64="")
    batch = models.device.windows_batch_size
    return diarize(waveform, job, models.diarization, batch, CancelToken())


def _align(side: _Ours | _Stock, name: str, samples: Waveform, segments: Any) -> Timed:
    """Time a whole stage; some once more, with their forwards remembered."""
    model, metadata = side.aligner(name)
    side.align(model, metadata, samples, segments[:1])()
    go = side.align(model, metadata, samples, segments)
    wall_s, found = _clock(go)
    timed = {
        "wall_s": wall_s,
        "audio_s": max(s["end"] for s in segments),
        "segments": len(segments),
        "words": side.words(found),
    }
    if name in REMEMBERED:
        memory = ForwardMemory()
        with around_forwards(memory):
            go()
            timed["besides_s"], again = _clock(go)
        if side.words(again) != timed["words"]:
            raise RuntimeError("the alignment from remembered forwards is another one")
    return timed


def _build(name: str, device: str) -> tuple[Any, dict[str, Any]]:
    from bench.speed import architectures

    builders = {
        "wav2vec2-base": architectures.wav2vec2_base,
        "wav2vec2-layer-norm": architectures.wav2vec2_layer_norm,
    }
    model, metadata = builders[name]()
    return model.to(device), metadata


def _clock(go: Callable[[], Any]) -> tuple[float, Any]:
    synchronize()
    began = time.perf_counter()
    found = go()
    synchronize()
    return time.perf_counter() - began, found


if __name__ == "__main__":
    main()
