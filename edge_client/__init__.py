"""The edge client. As a library: `Edge`, `sign`, `submit`, `wait` and `read_transcript`.

They are imported when they are first used (`edge_client.api` has them, README an example), so that
``import edge_client`` costs nothing. Errors are `edge_client.errors.EdgeError`s.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_client.api import Edge, Session, read_transcript, sign, submit, wait

__all__ = ["Edge", "Session", "read_transcript", "sign", "submit", "wait"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("edge_client.api"), name)
    raise AttributeError(f"module 'edge_client' has no attribute {name!r}")
