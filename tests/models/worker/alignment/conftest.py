"""The aligners' fixture."""

from tests.unit.worker.alignment.conftest import aligners

__all__ = ["aligners"]
