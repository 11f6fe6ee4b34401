"""The builder's fixtures."""

from tests.unit.builder.conftest import demo_profile, hub, models_dir

__all__ = ["demo_profile", "hub", "models_dir"]
