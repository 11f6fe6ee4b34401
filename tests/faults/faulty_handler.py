"""``python handler.py`` with stages that misbehave where the suite orders it.

Patches the stages in ``worker.pipeline`` and ``worker.stages`` and the entrance of
``worker.runtime``, then runs ``handler.py`` as it is, under the SDK's own loop. The product has no
hook for any of this.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from runpod.serverless.modules import rp_scale  # noqa: E402

from tests.faults.misdeeds import MISDEEDS, inflated  # noqa: E402
from tests.faults.orders import END, FOLDER_VARIABLE, RUN, TAKE, Entry, Folder, session_of  # noqa: E402
from worker import http as storage  # noqa: E402
from worker import pipeline, runtime  # noqa: E402
from worker.cancel import CancelToken  # noqa: E402
from worker.models.imports import light_imports  # noqa: E402

LIGHT_STAGES = ("fetch", "decode", "deliver")
MODEL_STAGES = {"speech": "find_speech"} | {
    stage: stage for stage in ("transcribe", "align", "diarize", "attribute")
}
"""Modules of ``worker.stages`` that import torch, and their stages."""
SHORT_STALL_S = 3.0
folder = Folder(Path(os.environ[FOLDER_VARIABLE]))


class Current:
    """The job at hand; a worker has one at a time."""

    session = ""
    token = CancelToken()


def note(what: str, session: str, into: str | None = None) -> None:
    """Append to the log."""
    folder.log(Entry(session, what, os.getpid(), time.time(), into))


def noted(run: Callable[..., Any]) -> Callable[..., Any]:
    """Log each run of the handler."""

    @functools.wraps(run)
    def noting(self: Any, raw: Any, token: CancelToken, *args: Any, **kwargs: Any) -> Any:
        Current.session, Current.token = session_of(raw), token
        note(RUN, Current.session)
        try:
            return run(self, raw, token, *args, **kwargs)
        finally:
            note(END, Current.session)

    return noting


def watched(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Log each run of a stage, and do in it what is ordered."""

    @functools.wraps(function)
    def watching(*args: Any, **kwargs: Any) -> Any:
        session = Current.session
        note(stage, session, next((str(a) for a in args if isinstance(a, Path)), None))
        order, runs = folder.order(session), len(folder.entries(session, RUN))
        if order is None or order.stage != stage or runs > order.runs:
            return function(*args, **kwargs)
        if order.do == "inflate":  # a long recording's transcript of a short one's
            made = inflated(function(*args, **kwargs), order.amount)
            folder.expect(session, [segment.model_dump(mode="json") for segment in made])
            return made
        with MISDEEDS[order.do](order, Current.token):
            return function(*args, **kwargs)

    return watching


def patching(find_speech: Callable[..., Any]) -> Callable[..., Any]:
    """Patch the stages with models before the first of them runs, when torch is imported anyway."""

    @functools.cache
    def patch() -> None:
        with light_imports():  # in turn with the models' loading: transformers' imports are lazy
            found = {
                s: importlib.import_module(f"worker.stages.{m}") for m, s in MODEL_STAGES.items()
            }
        for stage, module in found.items():
            setattr(module, stage, watched(stage, getattr(module, stage)))

    def run(*args: Any) -> Any:
        patch()
        return find_speech(*args)

    return run


def handed_over(get_job: Callable[..., Any]) -> Callable[..., Any]:
    """Be told to leave between the queue's handing over a job and the SDK's hearing of it."""

    async def taking(*args: Any) -> Any:
        jobs = await get_job(*args)
        for session in map(session_of, jobs or []):
            order = folder.order(session)
            if order is None or order.stage != TAKE or folder.entries(session, TAKE):
                continue
            note(TAKE, session)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.5)
        return jobs

    return taking


def main() -> None:
    """Patch, then be ``handler.py``."""
    for stage in LIGHT_STAGES:
        setattr(pipeline, stage, watched(stage, getattr(pipeline, stage)))
    pipeline.Job._find_speech = patching(pipeline.Job._find_speech)  # type: ignore[method-assign]
    runtime.Runtime.run = noted(runtime.Runtime.run)  # type: ignore[method-assign]
    rp_scale.get_job = handed_over(rp_scale.get_job)
    storage.READ_STALL_S = SHORT_STALL_S  # patience is tested, not how long it lasts
    sys.argv = [str(ROOT / "handler.py")]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
