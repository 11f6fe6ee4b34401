"""Alignment and diarization alone, ours against stock, with the demo's weights and without.

What a forward costs depends on its architecture, not on what its weights have learnt: production's
get seeded random weights. Only PyanNet would then never hear anybody, so whisperx's own is turned
from multi-label to powerset. Each process first runs a whole job, on both sides, as a worker has
before any job that counts.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding import WeSpeakerResNet34
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from bench.corpus import (
    SAMPLE_RATE_HZ,
    SpokenWord,
    Turn,
    Utterance,
    Waveform,
    read_recording,
    to_float32,
)
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
from bench.speed.measure import figure, ratios, synchronize
from bench.speed.parity import Heard, compare
from bench.speed.sides import Worker, load_stock, run_stock
from bench.speed.turns import WARM_UP_S, run_process
from bench.stock import Recipe
from bucketscribe_contract import JobInput
from builder.demo_diarization import CONFIG, write_checkpoint, write_pipeline
from worker.cancel import StageContext
from worker.types import TextSegment, Transcription
from worker.types import Waveform as WorkerWaveform

SEED = 5
SPEAKERS = 3
AT_ONCE = 2
WINDOW_S = 10.0
LDA_DIMENSION = 128
DEMO = "demo"
ALIGNED_S = {DEMO: 1e9, "wav2vec2-base": 60.0, "wav2vec2-layer-norm": 60.0}
"""The aligners, and how much of the meeting each aligns."""
REMEMBERED = (DEMO, "wav2vec2-base")
"""Timed without their forwards too."""
CHUNK_S = 30.0
DIARIZED_S = 20.0
SIDES = ("stock", "ours")

Runs = list[dict[str, Any]]
Rows = list[list[Any]]
"""Words or turns: lists that JSON can hold."""


def measure_stages(bench: Bench) -> dict[str, Any]:
    """Measure both stages, in turns."""
    folder = bench.folder
    diarization = folder / "community-1-architecture"
    write_diarization(bench.models / "vad" / "pytorch_model.bin", diarization)
    entry = {"diarization": {"path": diarization.name, "name": "community-1-architecture"}}
    models = derive_models(bench.models, folder / "models-architectures", entry)
    if not (models / diarization.name).exists():
        (models / diarization.name).symlink_to(diarization.absolute())
    said = compose(MEETING)[1]
    segments = {name: as_segments(said, until_s) for name, until_s in ALIGNED_S.items()}
    answers: dict[str, Runs] = {side: [] for side in SIDES}
    with Storage(folder) as storage:
        for turn in range(bench.pairs):
            for side in SIDES:
                task = side, models.absolute(), folder, storage.url(""), segments
                answers[side].append(run_process(measure, *task))
                seconds = answers[side][-1]["diarization"]["wall_s"]
                print(f"{turn + 1}/{bench.pairs} {side}: diarization {seconds:.1f} s")
    return {
        "alignment": {name: _alignment(answers, name) for name in ALIGNED_S},
        "diarization": _diarization(answers),
    }


def as_segments(utterances: Sequence[Utterance], until_s: float) -> list[dict[str, Any]]:
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


def _alignment(answers: Mapping[str, Runs], name: str) -> dict[str, Any]:
    stock, ours = ([answer["alignment"][name] for answer in answers[side]] for side in SIDES)
    parity = compare(_heard(ours[0]), _heard(stock[0]), stock[0]["audio_s"])
    found = {key: stock[0][key] for key in ("audio_s", "segments")} | _sides(ours, stock)
    if "besides_s" in stock[0]:
        found["without_forward"] = _sides(ours, stock, "besides_s")
    compared = ("words", "words_equal", "largest_shift_s", "untimed_words")
    return found | {"parity": {key: parity[key] for key in compared}}


def _diarization(answers: Mapping[str, Runs]) -> dict[str, Any]:
    stock, ours = ([answer["diarization"] for answer in answers[s]] for s in SIDES)
    their, our = ([Turn(*turn) for turn in side[0]["turns"]] for side in (stock, ours))
    return {
        "audio_s": DIARIZED_S,
        **_sides(ours, stock),
        "turns_equal": their == our,
        "turns": len(their),
        "der": round(diarization_error(their, our, DIARIZED_S, 0.0)[0], 6),
    }


def _sides(ours: Runs, stock: Runs, key: str = "wall_s") -> dict[str, Any]:
    our_s, their_s = [run[key] for run in ours], [run[key] for run in stock]
    return {"stock": figure(their_s), "ours": figure(our_s), "ratio": ratios(our_s, their_s)}


def _heard(run: Mapping[str, Any]) -> Heard:
    return Heard((), (), tuple(SpokenWord(*word) for word in run["words"]), (), None)


def measure(
    side: str, models: Path, folder: Path, storage: str, segments: Mapping[str, Any]
) -> dict[str, Any]:
    """Measure one of `SIDES`, in its process.

    Returns:
        ``alignment`` by aligner and ``diarization``: seconds, and what was found.
    """
    warm_up = write_input(TELEPHONE, folder)
    stages = _Ours(models, warm_up, storage) if side == "ours" else _Stock(models, warm_up)
    meeting, telephone = map(read_recording, (write_input(MEETING.name, folder), warm_up))
    alignment = {
        name: _measure_alignment(name, *stages.aligner(name, meeting), said)
        for name, said in segments.items()
    }
    beginning = telephone[: round(DIARIZED_S * SAMPLE_RATE_HZ)]
    wall_s, turns = _clock(stages.diarizer(beginning))
    return {"alignment": alignment, "diarization": {"wall_s": wall_s, "turns": turns}}


def _measure_alignment(
    name: str, model: Any, align: Callable[[Any], Rows], segments: Any
) -> dict[str, Any]:
    """Time a whole stage; some once more, with their forwards remembered."""
    align(segments[:1])
    wall_s, words = _clock(lambda: align(segments))
    audio_s = max(segment["end"] for segment in segments)
    found = {"wall_s": wall_s, "audio_s": audio_s, "segments": len(segments), "words": words}
    if name in REMEMBERED:
        model.forward = remembering(model.forward)
        align(segments)
        found["besides_s"], again = _clock(lambda: align(segments))
        if again != words:
            raise RuntimeError("the alignment from remembered forwards is another one")
    return found


def remembering(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Do each forward once, and give what came out of it in the place of a second one.

    Inputs are told apart by shape and some of their values.
    """
    known: dict[object, Any] = {}

    def remembered(*args: torch.Tensor | None, **named: torch.Tensor | None) -> Any:
        key = tuple(map(_fingerprint, (*args, *named.values())))
        if key not in known:
            found = forward(*args, **named)
            known[key] = copy.deepcopy(found)
            return found
        return known[key]

    return remembered


def _fingerprint(value: torch.Tensor | None) -> object:
    if value is None:
        return None
    return tuple(value.shape), tuple(value.flatten()[:: max(1, value.numel() // 500)].tolist())


def _build(name: str, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Build a model, and the metadata that ``whisperx.load_align_model`` gives with it."""
    bundle = torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H
    dictionary = {label.lower(): index for index, label in enumerate(bundle.get_labels())}
    torch.manual_seed(SEED)
    model: nn.Module
    if name == "wav2vec2-base":
        kind = "torchaudio"
        model = torchaudio.models.wav2vec2_model(**bundle._params)  # noqa: SLF001 -- no download
    else:  # wav2vec2 of the base size with layer norm, as the XLSR family has it
        kind = "huggingface"
        config = Wav2Vec2Config(
            vocab_size=len(dictionary),
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            conv_bias=True,
            pad_token_id=0,
        )
        model = Wav2Vec2ForCTC(config)
    return model.eval().to(device), {"language": "en", "dictionary": dictionary, "type": kind}


def _clock(go: Callable[[], Rows]) -> tuple[float, Rows]:
    synchronize()
    began = time.perf_counter()
    found = go()
    synchronize()
    return time.perf_counter() - began, found


class _Stock:
    """whisperx's stages, after a job by its README."""

    def __init__(self, models: Path, recording: Path) -> None:
        self.models = load_stock(models, Recipe())
        run_stock(self.models, recording, WARM_UP_S)
        self.device = self.models.recipe.device

    def aligner(self, name: str, samples: Waveform) -> tuple[Any, Callable[[Any], Rows]]:
        import whisperx

        models, audio = self.models, to_float32(samples)
        demo = models.aligner, models.align_metadata
        model, metadata = demo if name == DEMO else _build(name, self.device)

        def align(segments: Any) -> Rows:
            found = whisperx.align(segments, model, metadata, audio, self.device)["segments"]
            return [[w["word"], w.get("start"), w.get("end")] for s in found for w in s["words"]]

        return model, align

    def diarizer(self, samples: Waveform) -> Callable[[], Rows]:
        audio = to_float32(samples)

        def diarize() -> Rows:
            found = self.models.diarizer(audio)
            rows = zip(found["start"], found["end"], found["speaker"], strict=True)
            return sorted([float(start), float(end), speaker] for start, end, speaker in rows)

        return diarize


class _Ours:
    """The worker's stages, after a job, called as ``worker.pipeline`` calls them."""

    def __init__(self, models: Path, recording: Path, storage: str) -> None:
        worker = Worker(models)
        worker.run(storage + recording.name, storage + "result-stages.json", WARM_UP_S)
        self.models = worker.models

    def aligner(self, name: str, samples: Waveform) -> tuple[Any, Callable[[Any], Rows]]:
        from worker.engines.alignment.acoustic import Aligner
        from worker.stages.align import align

        models, device, waveform = self.models, self.models.device, WorkerWaveform(samples)
        if name == DEMO:
            aligner = models.aligner("en")
        else:
            aligner = Aligner(*_build(name, device.name), name)
            if models.lanes is not None:
                models.lanes.spread(aligner.model)

        def run(segments: Any) -> Rows:
            said = tuple(TextSegment(s["start"], s["end"], s["text"]) for s in segments)
            found = align(
                waveform,
                Transcription(said, "en", None),
                aligner,
                StageContext(batch_size=device.slices_batch_size, lanes=device.lanes),
                is_stock=True,
            )
            return [[w.word, w.start, w.end] for s in found.segments for w in s.words]

        return aligner.model, run

    def diarizer(self, samples: Waveform) -> Callable[[], Rows]:
        from worker.stages.diarize import diarize

        models, waveform, job = self.models, WorkerWaveform(samples), JobInput(audio_base64="")
        batch_size = models.device.windows_batch_size

        def run() -> Rows:
            ctx = StageContext(batch_size=batch_size)
            found = diarize(waveform, job, models.diarization, ctx, is_stock=True)
            return sorted([turn.start, turn.end, turn.speaker] for turn in found.turns)

        return run


def write_diarization(segmentation: Path, folder: Path) -> None:
    """Write a pipeline folder with the architectures of community-1, from whisperx's checkpoint."""
    trained = torch.load(segmentation, map_location="cpu", weights_only=False)
    _write_powerset(trained, folder / "segmentation" / "pytorch_model.bin")
    torch.manual_seed(SEED)
    network = WeSpeakerResNet34().eval()
    specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=WINDOW_S
    )
    architecture = "pyannote.audio.models.embedding.wespeaker.WeSpeakerResNet34"
    embedding = folder / "embedding" / "pytorch_model.bin"
    write_checkpoint(embedding, network.state_dict(), {}, architecture, specifications)
    config = CONFIG.format(
        kind="VBxClustering",
        clustering="threshold: 0.6, Fa: 0.07, Fb: 0.8",
        segmentation="min_duration_off: 0.0",
    )
    lda = np.eye(network.dimension)[:, :LDA_DIMENSION]  # keeps the first dimensions as they are
    write_pipeline(folder, config, lda, np.linspace(1.0, 0.1, LDA_DIMENSION))


def _write_powerset(trained: dict[str, Any], target: Path) -> None:
    """Turn a multi-label checkpoint into a powerset one of the same trunk.

    A set's logit is the sum of its speakers' logits, so the best set holds the speakers whose
    logits are positive: those that a threshold of one half keeps.
    """
    sets = [s for size in range(AT_ONCE + 1) for s in combinations(range(SPEAKERS), size)]
    members = torch.tensor([[float(i in s) for i in range(SPEAKERS)] for s in sets])
    state = dict(trained["state_dict"])
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
    architecture = "pyannote.audio.models.segmentation.PyanNet"
    write_checkpoint(target, state, trained["hyper_parameters"], architecture, specifications)
