"""What the edge asks of a worker.

A presigned URL is a bearer secret, and its signature covers its exact spelling: `PresignedUrl`
carries the string that was signed, untouched, and shows its query to nobody who did not ask.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from bucketscribe_contract.failures import RequestModel

_REVEAL = "reveal_urls"


class PresignedUrl:
    """A URL that carries its own permission.

    ``repr``, ``str``, ``format`` and JSON mask the query; `reveal` gives the exact string.
    """

    __slots__ = ("_url",)

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)  # raises ValueError for a malformed host or port
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an absolute http(s) URL")
        if any(c.isspace() or ord(c) < 0x20 for c in url):
            raise ValueError("a presigned URL holds no spaces: pass it exactly as it was signed")
        if parts.username or parts.password:
            raise ValueError("a URL with a user name is no presigned URL")
        self._url = url

    def reveal(self) -> str:
        """Return the exact string that was signed."""
        return self._url

    @property
    def masked(self) -> str:
        """The URL without its query, for people."""
        head, mark, _ = self._url.partition("?")
        return head + ("?***" if mark else "")

    def __repr__(self) -> str:
        return f"PresignedUrl({self.masked!r})"

    def __str__(self) -> str:
        return self.masked

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PresignedUrl) and other._url == self._url

    def __hash__(self) -> int:
        return hash(self._url)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from_text = core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(max_length=8192)
        )
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema(
                [core_schema.is_instance_schema(cls), from_text], mode="left_to_right"
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(
                _serialize_url, info_arg=True, when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": "uri", "writeOnly": True, "maxLength": 8192}


def _serialize_url(url: PresignedUrl, info: SerializationInfo) -> str:
    return url.reveal() if (info.context or {}).get(_REVEAL) else url.masked


class Clip(RequestModel):
    """A part of the recording, in seconds from its start."""

    start_s: float = Field(ge=0)
    end_s: float = Field(gt=0)

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.end_s <= self.start_s:
            raise ValueError("clip.end_s must be greater than clip.start_s")
        return self


_Hint = Annotated[int, Field(ge=1, le=100)]
ResultHeader = Literal[
    "Content-Type",
    "If-None-Match",
    "If-Match",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-acl",
    "x-amz-tagging",
    "x-amz-storage-class",
    "x-amz-request-payer",
]
_HeaderValue = Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,2046}[!-~])?$")]


class JobOptions(RequestModel):
    """What is wished for, whichever recording it is."""

    language: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9 _-]{1,31}$")] | None = Field(
        None, description="Whisper's code or name of it, or a tag (en-US); null: detected."
    )
    task: Literal["transcribe", "translate"] = Field(
        "transcribe", description="translate: into English, where the model can."
    )
    diarize: bool = Field(True, description="Whether to say who spoke.")
    num_speakers: _Hint | None = Field(None, description="So many people speak; null: not known.")
    min_speakers: _Hint | None = Field(None, description="So many at least.")
    max_speakers: _Hint | None = Field(None, description="So many at most.")
    initial_prompt: Annotated[str, Field(max_length=4000)] | None = Field(
        None, description="Context given to Whisper."
    )
    hotwords: Annotated[str, Field(max_length=4000)] | None = Field(
        None, description="Words Whisper should favour."
    )
    clip: Clip | None = Field(None, description="Only this part of the recording.")
    drop_flagged: bool = Field(
        False, description="Leave flagged text out of the segments; the document lists it."
    )
    strict: bool = Field(
        False, description="Fail where alignment or diarization fails, instead of a warning."
    )

    @model_validator(mode="after")
    def _speaker_hints_agree(self) -> Self:
        low, exact, high = self.min_speakers, self.num_speakers, self.max_speakers
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_speakers ({low}) must not exceed max_speakers ({high})")
        if exact is not None and not (low or exact) <= exact <= (high or exact):
            raise ValueError(
                f"num_speakers ({exact}) must lie between min_speakers and max_speakers"
            )
        return self


class JobInput(JobOptions):
    """One recording to transcribe, and where the transcript goes.

    Exactly one of ``audio_url`` and ``audio_base64`` is given. Without ``result_url`` the
    transcript comes back in the job's output.
    """

    audio_url: PresignedUrl | None = Field(None, description="Presigned GET of the recording.")
    audio_base64: str | None = Field(
        None,
        description="A small recording inline; the whole request is at most 10 MB.",
        repr=False,
    )
    result_url: PresignedUrl | None = Field(None, description="Presigned PUT of the transcript.")
    result_headers: dict[ResultHeader, _HeaderValue] = Field(
        {"Content-Type": "application/json"},
        description="The headers that it was signed with: exactly these are sent.",
    )
    progress_url: PresignedUrl | None = Field(
        None, description="Presigned PUT of a small progress file, signed without `If-…`."
    )
    request_id: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None, description="The edge's idempotency key; echoed."
    )

    @model_validator(mode="after")
    def _one_audio_source(self) -> Self:
        given = [n for n in ("audio_url", "audio_base64") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of audio_url and audio_base64; got "
                + (" and ".join(given) or "neither")
            )
        return self

    def to_wire(self) -> dict[str, Any]:
        """Return what is sent: URLs revealed, fields at their default left out."""
        return self.model_dump(mode="json", exclude_defaults=True, context={_REVEAL: True})
