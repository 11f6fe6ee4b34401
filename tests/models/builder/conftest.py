"""The builder's fixtures."""

from tests.unit.builder.conftest import copied_dir, demo_profile, models_dir

__all__ = ["copied_dir", "demo_profile", "models_dir"]
