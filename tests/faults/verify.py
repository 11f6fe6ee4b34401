"""Plays one case and holds what came of it against what has to."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.case import Cancelled, Case, Done, Failed, Verdict, shown
from tests.faults.scene import EdgeSaid, Ground, Scene, scene

Baselines = Mapping[str, Any]


def session_name(case: Case) -> str:
    """Return the session's name for a case."""
    return re.sub(r"\W+", "-", case.fault).strip("-").lower()


def play(case: Case, ground: Ground, baselines: Baselines) -> Verdict:
    """Play a case."""
    started = time.monotonic()
    try:
        note = _play(case, ground, baselines)
    except Exception as exc:  # noqa: BLE001 - any surprise is a result of this case
        problem = f"{type(exc).__name__}: {exc}" if not isinstance(exc, AssertionError) else exc
        return Verdict(case, str(problem) or "an assertion failed", "", time.monotonic() - started)
    return Verdict(case, "", note, time.monotonic() - started)


def _play(case: Case, ground: Ground, baselines: Baselines) -> str:
    name = session_name(case)
    with scene(ground, name, case.s3, case.queue) as here:
        here.env.update(case.env)
        here.put("audio.wav", ground.recordings[case.recording])
        if case.order is not None:
            ground.folder.give(name, case.order)
        ground.back.rules.extend(case.back(here))
        said = case.act(here)
        here.wait_until_idle()
        _check_outcome(case, here, said, baselines)
        _check_runs(case, here)
        return case.check(here)


def aftermath(case: Case, ground: Ground) -> str:
    """Return what is wrong with a case when all cases are over; empty if nothing is."""
    name = session_name(case)
    runs = ground.folder.entries(name, "run")
    if len(runs) != case.runs:
        return f"in the end the handler had run {len(runs)} times, not {case.runs}"
    folders = {entry.folder for entry in ground.folder.entries(name) if entry.folder}
    left = [folder for folder in folders if Path(folder).exists()]
    return f"left its temporary folder ({len(left)})" if left else ""


def _check_outcome(case: Case, here: Scene, said: EdgeSaid, baselines: Baselines) -> None:
    document = here.transcript()
    match case.expected:
        case Failed(code):
            assert said.code == 1, f"exit code {said.code}: {said.text}"
            assert said.failure == code, f"not {code}: {said.text}"
            assert document is None, "there is a transcript"
        case Cancelled(too_late=True):
            assert said.state in ("cancelled", "done"), said.text
            assert document is not None, "no transcript"
            _check_transcript(Done(), document, baselines[case.recording])
        case Cancelled():
            assert said.state == "cancelled", said.text
            assert document is None, "there is a transcript"
        case Done():
            assert said.code == 0, f"exit code {said.code}: {said.text}"
            assert document is not None, f"no transcript: {said.text}"
            made = here.ground.folder.expected(here.name)
            wanted = dict(baselines[case.recording], **({"segments": made} if made else {}))
            _check_transcript(case.expected, document, wanted)


def _check_transcript(expected: Done, document: Any, wanted: Any) -> None:
    warnings = document["warnings"]
    named = [w for w in warnings if w.startswith(expected.warning)] if expected.warning else []
    assert bool(named) == bool(expected.warning), f"warnings {warnings}"
    assert len(warnings) == len(named), f"warnings {warnings}"
    if expected.text_only:
        assert _text(document) == _text(wanted), "other text"
        return
    if expected.without == "scores":
        wanted = _without_scores(wanted)
    elif expected.without == "words":
        wanted = dict(wanted, segments=[dict(s, words=[]) for s in wanted["segments"]])
    got = shown(document)
    assert got["segments"] == wanted["segments"], "other segments than undisturbed"
    assert got == wanted, "another document than undisturbed"


def _without_scores(document: Any) -> Any:
    segments = [
        dict(s, words=[dict(w, score=None) for w in s["words"]]) for s in document["segments"]
    ]
    return dict(document, segments=segments)


def _text(document: Any) -> str:
    return "".join("".join(s["text"].split()) for s in document["segments"])


def _check_runs(case: Case, here: Scene) -> None:
    if here.runs() != case.runs:
        ran = f"the handler ran {here.runs()} times, not {case.runs}"
        raise AssertionError(f"{ran}; queue: {here.history()}")
