"""Encode documents strictly, and put paid work into a job's output when S3 refuses it.

What the SDK cannot encode it silently never posts, and the job hangs until it is killed
(facts of runpod 1.12.0): so every output passes through here before it is returned.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from contract import StoredResult, Transcript

MAX_OUTPUT_BYTES = 10_000_000
"""What RunPod takes as a job's output (docs: 10 MB)."""


@dataclass(frozen=True)
class EncodedTranscript:
    """``transcription.json`` as bytes, UTF-8."""

    body: bytes

    @classmethod
    def of(cls, transcript: Transcript) -> EncodedTranscript:
        """Encode a transcript; text that is no valid unicode is replaced, not refused."""
        data = transcript.model_dump(mode="python")
        return cls(encode(data))

    @property
    def stored(self) -> StoredResult:
        """The object's size and checksum."""
        return StoredResult(bytes=len(self.body), sha256=hashlib.sha256(self.body).hexdigest())

    @property
    def gzip_base64(self) -> str:
        """The document in a form that fits into a job's output."""
        return base64.b64encode(gzip.compress(self.body, mtime=0)).decode("ascii")


def encode(output: dict[str, Any]) -> bytes:
    """Return strict JSON in UTF-8: no NaN, no infinity, no lone surrogate.

    Raises:
        ValueError: A number is not finite.
        TypeError: A value is no JSON.
    """
    text = json.dumps(output, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def checked_output(output: dict[str, Any]) -> dict[str, Any]:
    """Return the output as the queue will see it.

    Raises:
        ValueError: It is not strict JSON, or larger than `MAX_OUTPUT_BYTES`.
    """
    body = encode(output)
    if len(body) > MAX_OUTPUT_BYTES:
        raise ValueError(f"an output of {len(body)} bytes exceeds RunPod's {MAX_OUTPUT_BYTES}")
    checked: dict[str, Any] = json.loads(body)
    return checked
