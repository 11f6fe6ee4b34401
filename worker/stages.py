"""The stages that need the models, each imported when it is first run.

`worker.pipeline` takes them from here, and is light: with what they import, torch would come first.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from contract import Segment
from worker.values import Alignment, Diarization, SpeechSpan, Transcription

if TYPE_CHECKING:
    from worker.diarization.activity import ActivityRecorder


def _late(module: str, name: str) -> Callable[..., Any]:
    """Return a function that is imported when it is first called."""

    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(import_module(module), name)(*arguments, **named)

    return call


find_speech: Callable[..., tuple[SpeechSpan, ...]] = _late("worker.speech", "find_speech")
transcribe: Callable[..., Transcription] = _late("worker.transcribe", "transcribe")
align: Callable[..., Alignment] = _late("worker.align", "align")
interpolate: Callable[..., Alignment] = _late("worker.align", "interpolate")
starting_batch_size: Callable[..., int] = _late("worker.align", "starting_batch_size")
diarize: Callable[..., Diarization] = _late("worker.diarize", "diarize")
recorder_for: Callable[..., ActivityRecorder] = _late("worker.diarize", "recorder_for")
attribute: Callable[..., tuple[Segment, ...]] = _late("worker.attribute", "attribute")
