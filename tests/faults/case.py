"""A case: what is broken, what has to come of it, and whether it came."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.orders import RUN, Order
from tests.faults.proxy import Rule
from tests.faults.scene import EdgeSaid, Ground, Scene, scene

FIGURES = ("avg_logprob", "compression_ratio", "no_speech_prob")
"""Of a segment: left out where a transcript has to fit into an output."""


@dataclass(frozen=True)
class Done:
    """The transcript is in S3 and equal to the undisturbed one.

    Attributes:
        warning: That the transcript names: a code, perhaps with the beginning of its detail.
        without: What of each segment may be missing: ``scores`` or ``words``.
        text_only: Times and speakers are allowed to differ: the warning says why.
    """

    warning: str = ""
    without: str = ""
    text_only: bool = False

    def __str__(self) -> str:
        equal = "text equal" if self.text_only else "transcript equal"
        less = f" but without {self.without}" if self.without else ""
        return equal + less + (f", warning `{self.warning}`" if self.warning else "")


@dataclass(frozen=True)
class Failed:
    """The edge names this code and there is no transcript."""

    code: str

    def __str__(self) -> str:
        return f"fails with `{self.code}`"


@dataclass(frozen=True)
class Cancelled:
    """The session ends as cancelled; ``too_late``: its transcript was on its way, and is whole."""

    too_late: bool = False

    def __str__(self) -> str:
        stored = "what was being stored is equal" if self.too_late else "no transcript"
        return f"cancelled, {stored}"


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        fault: In words, as the table shows it.
        expected: What has to come of it.
        runs: How often the handler runs for it, all attempts together.
        rules: What breaks between worker and S3, edge and queue, worker and queue.
        order: What the worker does to itself.
        act: What is done; default: submit and wait, as a user does.
        check: Raises AssertionError; returns what the table shows.
        recording: A key of the ground's recordings.
        env: Of the edge client.
        alone: No other case may play meanwhile.
    """

    fault: str
    expected: Done | Failed | Cancelled = field(default_factory=Done)
    runs: int = 1
    rules: Sequence[Rule] = ()
    order: Order | None = None
    act: Callable[[Scene], EdgeSaid] = Scene.submit
    check: Callable[[Scene], str] = lambda _: ""
    recording: str = "short"
    env: dict[str, str] = field(default_factory=dict)
    alone: bool = False

    @property
    def session(self) -> str:
        """The name of the session that it plays in."""
        return re.sub(r"\W+", "-", self.fault).strip("-").lower()


@dataclass(frozen=True)
class Verdict:
    """What came of a case; ``problem`` is empty where it is as it should be."""

    case: Case
    problem: str
    note: str = ""
    seconds: float = 0.0


def play(case: Case, ground: Ground, baselines: Mapping[str, Any]) -> Verdict:
    started, problem, note = time.monotonic(), "", ""
    try:
        note = _play(case, ground, baselines[case.recording])
    except AssertionError as exc:
        problem = str(exc) or "an assertion failed"
    except Exception as exc:  # noqa: BLE001 - any surprise is a result of this case
        problem = f"{type(exc).__name__}: {exc}"
    return Verdict(case, problem, note, time.monotonic() - started)


def _play(case: Case, ground: Ground, baseline: Any) -> str:
    with scene(ground, case.session, case.rules) as here:
        here.env |= case.env
        here.put("audio.wav", ground.recordings[case.recording])
        if case.order is not None:
            ground.folder.give(case.session, case.order)
        said = case.act(here)
        here.wait_until_idle()
        _check_outcome(case, here, said, baseline)
        count = len(here.entries(RUN))
        ran = f"the handler ran {count} times, not {case.runs}"
        assert count == case.runs, f"{ran}; queue: {here.history()}"
        return case.check(here)


def aftermath(case: Case, ground: Ground) -> str:
    """Return what is wrong with a case when all cases are over; empty if nothing is."""
    runs = ground.folder.entries(case.session, RUN)
    if len(runs) != case.runs:
        return f"in the end the handler had run {len(runs)} times, not {case.runs}"
    folders = {entry.folder for entry in ground.folder.entries(case.session) if entry.folder}
    left = [folder for folder in folders if Path(folder).exists()]
    return f"left its temporary folder ({len(left)})" if left else ""


def shown(document: Any) -> Any:
    """Return what two runs of one recording must have in common."""
    return {key: document[key] for key in ("segments", "speakers", "language", "duration_seconds")}


def _check_outcome(case: Case, here: Scene, said: EdgeSaid, baseline: Any) -> None:
    document, state = here.transcript(), said.facts.get("state")
    failure = said.facts.get("failure") or said.facts.get("error") or {}
    ended = f"exit code {said.code}: {said.text}"
    match case.expected:
        case Failed(code):
            assert (said.code, failure.get("code")) == (1, code), ended
            assert document is None, "there is a transcript"
        case Cancelled(too_late=True):
            assert state in ("cancelled", "done"), said.text
            assert document is not None, "no transcript"
            _check_transcript(Done(), document, baseline)
        case Cancelled():
            assert state == "cancelled", said.text
            assert document is None, "there is a transcript"
        case Done():
            assert said.code == 0, ended
            assert document is not None, f"no transcript: {said.text}"
            made = here.ground.folder.expected(here.name)
            wanted = baseline | ({"segments": made} if made else {})
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
        wanted = _without_scores(wanted)
        wanted = wanted | {"segments": [s | {"words": []} for s in wanted["segments"]]}
    got = shown(document)
    assert got["segments"] == wanted["segments"], "other segments than undisturbed"
    assert got == wanted, "another document than undisturbed"


def _without_scores(document: Any) -> Any:
    segments = [
        {key: value for key, value in segment.items() if key not in FIGURES}
        | {"words": [word | {"score": None} for word in segment["words"]]}
        for segment in document["segments"]
    ]
    return document | {"segments": segments}


def _text(document: Any) -> str:
    return "".join("".join(s["text"].split()) for s in document["segments"])
