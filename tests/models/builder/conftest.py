"""The builder's fixtures."""

from tests.unit.builder.conftest import hub, no_sleep

__all__ = ["hub", "no_sleep"]
