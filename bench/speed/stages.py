"""Alignment and diarization alone, ours against stock.

With the demo's weights, and with production's architectures (`bench.speed.stages`).
Each process first runs a whole job, as a worker has done before any job that counts: the other
models are in memory and CTranslate2 has run, on both sides. Then the stages run on the same
segments and the same samples.

Real architectures with seeded random weights, where real weights cannot be had.

What a forward costs depends on the architecture, not on what the weights have learnt. Each is
what production uses: WAV2VEC2_ASR_BASE_960H (torchaudio, group norm), wav2vec2 of the same size
with layer norm (Hugging Face), WeSpeaker's ResNet34, and PyanNet on windows of 10 s with powerset
output, as in pyannote's community-1. The last has no random weights: with them nobody would ever
speak. It is whisperx's segmentation, whose three speakers' outputs are added up into the seven
classes of the powerset, which has the same winners.

One side's stages, in a process of its own: ``python -m bench.speed.stages TASK.json``.

Started by `bench.speed.stages`. What it knows of the worker's stages is `_our_alignment` and
`_our_diarization`: they call them as ``worker.pipeline`` does.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding import WeSpeakerResNet34
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from bench.corpus import Turn, Utterance, Waveform, read_recording, to_float32
from bench.scoring import diarization_error
from bench.speed.inputs import (
    MEETING,
    TELEPHONE,
    Bench,
    Storage,
    compose,
    derive_models,
    write_input,
)
from bench.speed.measure import Figure, ForwardMemory, around_forwards, ratios, synchronize
from bench.speed.parity import Heard, Word, compare
from bench.speed.turns import run_module

SEED = 5
SPEAKERS = 3
AT_ONCE = 2
WINDOW_S = 10.0
LDA_DIMENSION = 128
CONFIG = """\
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: VBxClustering
    segmentation: $model/segmentation
    embedding: $model/embedding
    plda: $model/plda
    segmentation_batch_size: 32
    embedding_batch_size: 32
    embedding_exclude_overlap: true
params:
  clustering: {threshold: 0.6, Fa: 0.07, Fb: 0.8}
  segmentation: {min_duration_off: 0.0}
"""

StockAligner = tuple[nn.Module, dict[str, Any]]
"""A model, and the metadata that ``whisperx.load_align_model`` gives with it."""


def wav2vec2_base() -> StockAligner:
    """Build WAV2VEC2_ASR_BASE_960H as its bundle describes it."""
    bundle = torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H
    torch.manual_seed(SEED)
    model = torchaudio.models.wav2vec2_model(**bundle._params)  # noqa: SLF001 -- no download
    return model.eval(), _metadata(bundle.get_labels(), "torchaudio")


def wav2vec2_layer_norm() -> StockAligner:
    """Build wav2vec2 of the base size with layer norm, as the XLSR family has it."""
    labels = torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H.get_labels()
    config = Wav2Vec2Config(
        vocab_size=len(labels),
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
        pad_token_id=0,
    )
    torch.manual_seed(SEED)
    return Wav2Vec2ForCTC(config).eval(), _metadata(labels, "huggingface")


def write_diarization(segmentation: Path, folder: Path) -> None:
    """Write a pipeline folder with the architectures of community-1.

    Args:
        segmentation: whisperx's checkpoint.
        folder: Gets ``config.yaml``, ``segmentation``, ``embedding`` and ``plda``.
    """
    for part in ("segmentation", "embedding", "plda"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG)
    trained = torch.load(segmentation, map_location="cpu", weights_only=False)
    torch.save(_powerset(trained), folder / "segmentation" / "pytorch_model.bin")
    torch.manual_seed(SEED)
    network = WeSpeakerResNet34().eval()
    torch.save(_resnet(network), folder / "embedding" / "pytorch_model.bin")
    _write_plda(folder / "plda", network.dimension)


def _metadata(labels: tuple[str, ...], kind: str) -> dict[str, Any]:
    dictionary = {label.lower(): index for index, label in enumerate(labels)}
    return {"language": "en", "dictionary": dictionary, "type": kind}


def _powerset(trained: dict[str, Any]) -> dict[str, Any]:
    """Turn a multi-label checkpoint into a powerset one of the same trunk.

    A set's logit is the sum of its speakers' logits, so the best set holds the speakers whose
    logits are positive: those that a threshold of one half keeps.
    """
    sets = [s for size in range(AT_ONCE + 1) for s in combinations(range(SPEAKERS), size)]
    members = torch.tensor([[float(i in s) for i in range(SPEAKERS)] for s in sets])
    state: dict[str, Tensor] = dict(trained["state_dict"])
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = members @ state[name]
    specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=WINDOW_S,
        classes=[f"speaker#{i + 1}" for i in range(SPEAKERS)],
        powerset_max_classes=AT_ONCE,
        permutation_invariant=True,
    )
    return _checkpoint(
        state,
        trained["hyper_parameters"],
        "pyannote.audio.models.segmentation.PyanNet",
        specifications,
    )


def _resnet(network: nn.Module) -> dict[str, Any]:
    specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=WINDOW_S
    )
    module = "pyannote.audio.models.embedding.wespeaker.WeSpeakerResNet34"
    return _checkpoint(network.state_dict(), {}, module, specifications)


def _checkpoint(
    state: dict[str, Tensor],
    hyper_parameters: dict[str, Any],
    architecture: str,
    specifications: Specifications,
) -> dict[str, Any]:
    module, _, name = architecture.rpartition(".")
    return {
        "state_dict": state,
        "hyper_parameters": hyper_parameters,
        "pytorch-lightning_version": version("lightning"),
        "pyannote.audio": {
            "versions": {"pyannote.audio": version("pyannote.audio")},
            "architecture": {"module": module, "class": name},
            "specifications": specifications,
        },
    }


def _write_plda(folder: Path, dimension: int) -> None:
    """Write PLDA matrices that keep the first dimensions as they are."""
    lda = np.eye(dimension)[:, :LDA_DIMENSION]
    np.savez(
        folder / "xvec_transform.npz",
        mean1=np.zeros(dimension),
        mean2=np.zeros(LDA_DIMENSION),
        lda=lda,
    )
    np.savez(
        folder / "plda.npz",
        mu=np.zeros(LDA_DIMENSION),
        tr=np.eye(LDA_DIMENSION),
        psi=np.linspace(1.0, 0.1, LDA_DIMENSION),
    )


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
        from bench.speed import sides as theirs
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
        from bench.speed.sides import Job, Worker

        worker = Worker(Path(task["models"]))
        audio = Path(task["telephone"]).name
        worker.run(Job(task["storage"] + audio, task["storage"] + "result-stages.json", WARM_UP_S))
        self.models = worker.models.load
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
        from worker.types import TextSegment, Transcription
        from worker.types import Waveform as WorkerWaveform

        said = tuple(TextSegment(s["start"], s["end"], s["text"], 0.0) for s in segments)
        transcription = Transcription(said, "en", None)
        waveform = WorkerWaveform(samples)
        return lambda: _our_alignment(self.models, model, metadata, waveform, transcription)

    @staticmethod
    def words(found: Any) -> list[list[Any]]:
        return [[w.word, w.start, w.end] for s in found.segments for w in s.words]

    def diarize(self, samples: Waveform) -> Timed:
        from worker.types import Waveform as WorkerWaveform

        waveform = WorkerWaveform(samples)
        wall_s, found = _clock(lambda: _our_diarization(self.models, waveform))
        return {"wall_s": wall_s, "turns": sorted([t.start, t.end, t.speaker] for t in found.turns)}


def _our_alignment(
    models: Any, model: Any, metadata: Any, waveform: Any, transcription: Any
) -> Any:
    from worker.cancel import CancelToken
    from worker.engines.alignment.acoustic import Aligner, starting_batch_size
    from worker.stages.align import align

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
    from bucketscribe_contract import JobInput
    from worker.cancel import CancelToken
    from worker.stages.diarize import diarize

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

    builders = {
        "wav2vec2-base": wav2vec2_base,
        "wav2vec2-layer-norm": wav2vec2_layer_norm,
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


CHUNK_S = 30.0
ALIGNED_S = {DEMO: 1e9, "wav2vec2-base": 60.0, "wav2vec2-layer-norm": 60.0}


def measure_stages(bench: Bench) -> dict[str, Any]:
    """Measure both stages, in turns."""
    folder = bench.folder
    diarization = folder / "community-1-architecture"
    write_diarization(bench.models / "vad" / "pytorch_model.bin", diarization)
    entry = {"diarization": {"path": diarization.name, "name": "community-1-architecture"}}
    models = derive_models(bench.models, folder / "models-architectures", entry)
    if not (models / diarization.name).exists():
        (models / diarization.name).symlink_to(diarization.absolute())
    task = {
        "models": str(models.absolute()),
        "meeting": str(write_input(MEETING.name, folder)),
        "telephone": str(write_input(TELEPHONE, folder)),
        "segments": {name: segments(compose(MEETING)[1], ALIGNED_S[name]) for name in ALIGNERS},
        "answer": str(folder / "stages.json"),
    }
    answers: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with Storage(folder) as storage:
        for turn in range(bench.pairs):
            for side in SIDES:
                path = folder / "stages-task.json"
                path.write_text(json.dumps(task | {"side": side, "storage": storage.url("")}))
                run_module("bench.speed.stages", path)
                answers[side].append(json.loads((folder / "stages.json").read_text()))
                print(f"{turn + 1}/{bench.pairs} {side}: {_summary(answers[side][-1])}")
    return {
        "alignment": {name: _alignment(answers, name) for name in ALIGNERS},
        "diarization": _diarization(answers),
    }


def segments(utterances: Sequence[Utterance], until_s: float) -> list[dict[str, Any]]:
    """Put utterances together to segments of up to `CHUNK_S`, as Whisper's chunks are.

    Args:
        utterances: In order, none over another.
        until_s: Those that end later are left out.

    Returns:
        whisperx's segments: ``start``, ``end``, ``text``.
    """
    found: list[dict[str, Any]] = []
    for said in (u for u in utterances if u.end <= until_s):
        if found and said.end - found[-1]["start"] <= CHUNK_S:
            found[-1] |= {"end": said.end, "text": f"{found[-1]['text']} {said.text}"}
        else:
            found.append({"start": said.start, "end": said.end, "text": f" {said.text}"})
    return found


def _alignment(answers: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> dict[str, Any]:
    stock, ours = ([a["alignment"][name] for a in answers[side]] for side in ("stock", "ours"))
    heard = _words(ours[0]), _words(stock[0])
    parity = compare(*heard, stock[0]["audio_s"])
    besides = (
        {"without_forward": _sides(ours, stock, "besides_s")} if "besides_s" in stock[0] else {}
    )
    return {
        "audio_s": stock[0]["audio_s"],
        "segments": stock[0]["segments"],
        **_sides(ours, stock),
        **besides,
        "parity": {
            key: getattr(parity, key)
            for key in ("words", "words_equal", "largest_shift_s", "untimed_words")
        },
    }


def _diarization(answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    stock, ours = ([answer["diarization"] for answer in answers[s]] for s in ("stock", "ours"))
    their, our = ([Turn(*turn) for turn in side[0]["turns"]] for side in (stock, ours))
    return {
        "audio_s": DIARIZED_S,
        **_sides(ours, stock),
        "turns_equal": their == our,
        "turns": len(their),
        "der": round(diarization_error(their, our, DIARIZED_S, 0.0), 6),
    }


def _sides(
    ours: Sequence[Mapping[str, Any]], stock: Sequence[Mapping[str, Any]], key: str = "wall_s"
) -> dict[str, Any]:
    our_s, their_s = [run[key] for run in ours], [run[key] for run in stock]
    return {
        "stock": asdict(Figure.of(their_s)),
        "ours": asdict(Figure.of(our_s)),
        "ratio": asdict(ratios(our_s, their_s)),
    }


def _words(run: Mapping[str, Any]) -> Heard:
    words = tuple(Word(text, start_s, end_s, None) for text, start_s, end_s in run["words"])
    return Heard((), (), words, (), None)


def _summary(answer: Mapping[str, Any]) -> str:
    aligned = ", ".join(f"{n} {run['wall_s']:.2f} s" for n, run in answer["alignment"].items())
    return f"{aligned}, diarization {answer['diarization']['wall_s']:.1f} s"
