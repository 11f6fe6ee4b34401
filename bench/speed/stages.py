"""Alignment and diarization alone, ours against stock.

With the demo's weights, and with production's architectures (`bench.speed.architectures`).
Each process first runs a whole job, as a worker has done before any job that counts: the other
models are in memory and CTranslate2 has run, on both sides. Then the stages run on the same
segments and the same samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.references import Turn, Utterance
from bench.scoring import diarization_error
from bench.speed.architectures import write_diarization
from bench.speed.bench_folder import Bench, derive_models
from bench.speed.inputs import MEETING, TELEPHONE, compose, write_input
from bench.speed.loopback import Storage
from bench.speed.parity import Heard, Word, compare
from bench.speed.side_by_side import run_module
from bench.speed.stage_subject import ALIGNERS, DEMO, DIARIZED_S, SIDES
from bench.speed.summaries import Figure, ratios

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
                run_module("bench.speed.stage_subject", path)
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
