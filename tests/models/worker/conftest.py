"""The worker's fixtures."""

from tests.fakes.worker import models, no_sleep_between_retries, s3

__all__ = ["models", "no_sleep_between_retries", "s3"]
