"""What all unit tests have in common."""

import logging

import pytest


@pytest.fixture(autouse=True)
def _log_without_strangers() -> None:
    """Take away the handlers of other tests, and of the handler that a test imports."""
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if type(each) is not logging.StreamHandler]
