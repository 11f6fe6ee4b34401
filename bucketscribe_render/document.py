"""A transcript's JSON as whoever shows it reads it.

Takes the JSON; returns a `Document`; raises `Unreadable`. Only what is used here is looked at: a
field that a newer worker adds must not make its work look undone, and plain WhisperX JSON counts,
too.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)


class Unreadable(Exception):
    """It is no transcript; the message is one line, without any text of it."""


class TooNew(Unreadable):
    """A newer worker wrote it, in a form that may be misread here."""


def _not_newer(version: int, info: ValidationInfo) -> int:
    """Refuse a newer form; the context is the transcript's name."""
    if version > 1:
        raise TooNew(f"{info.context} has version {version}: update this client to read it")
    return version


_WIRE = ConfigDict(frozen=True, allow_inf_nan=False, populate_by_name=True)


def _or_else(nothing: object, value: object, read: ValidatorFunctionWrapHandler) -> object:
    """Take what cannot be read for nothing: the text is there without it."""
    try:
        return read(value)
    except ValidationError:
        return nothing


class Word(BaseModel):
    """A word; all but its text may be unknown."""

    model_config = _WIRE

    text: str = Field(alias="word")
    start_s: float | None = Field(None, ge=0, alias="start")
    end_s: float | None = Field(None, ge=0, alias="end")
    speaker: str | None = None
    score: float | None = None

    @property
    def times(self) -> tuple[float, float] | None:
        """Start and end, in this order; None if either is unknown."""
        if self.start_s is None or self.end_s is None:
            return None
        return self.start_s, max(self.start_s, self.end_s)


class Line(BaseModel):
    """A segment: times in seconds from the start of the recording."""

    model_config = _WIRE

    start_s: float = Field(ge=0, alias="start")
    end_s: float = Field(ge=0, alias="end")
    text: str
    speaker: str | None = None
    words: Annotated[tuple[Word, ...], WrapValidator(partial(_or_else, ()))] = ()


class Document(BaseModel):
    """A transcript: what is shown of it; the rest is other readers' business."""

    model_config = _WIRE

    schema_version: Annotated[int, Field(ge=1), AfterValidator(_not_newer)] = 1
    lines: tuple[Line, ...] = Field(alias="segments")
    named_speakers: tuple[str, ...] | None = Field(None, alias="speakers")
    speaker_names: Annotated[dict[str, str], WrapValidator(partial(_or_else, {}))] = {}
    language: str | None = None
    recording_s: float | None = Field(None, alias="duration_seconds")
    processing_s: float | None = Field(None, alias="processing_time_seconds")
    warnings: tuple[str, ...] = ()
    request_id: str | None = None
    audio_etag: str | None = None

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers, in order; those of the lines where nothing names them."""
        heard = sorted({line.speaker for line in self.lines if line.speaker})
        return tuple(heard) if self.named_speakers is None else self.named_speakers

    @property
    def duration_s(self) -> float:
        """The recording's length; the end of the last line where nothing says it."""
        last_s = max((line.end_s for line in self.lines), default=0.0)
        return last_s if self.recording_s is None else self.recording_s

    def name_of(self, label: str | None) -> str | None:
        """Return what people call a speaker; the label where they said nothing."""
        return self.speaker_names.get(label or "") or label


def parse(body: bytes, name: str = "the transcript") -> Document:
    """Read a transcript; raises `Unreadable`, or `TooNew` by its name."""
    try:
        return Document.model_validate_json(body, context=name)
    except ValidationError as exc:
        where = ".".join(str(part) for part in exc.errors(include_input=False)[0]["loc"])
        text = f"cannot be read (see {where})" if where else "cannot be read: it is not JSON"
        raise Unreadable(f"the transcript {text}") from None  # the cause would show it
