"""docs/benchmarks.md from docs/benchmarks.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(document: Mapping[str, Any], part: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Put what a part measured in the place of what the document has of it."""
    return {**document, "parts": {**document.get("parts", {}), part: dict(measured)}}


def markdown(document: Mapping[str, Any]) -> str:
    """Lay out."""
    return str(document.get("parts", {}).keys())
