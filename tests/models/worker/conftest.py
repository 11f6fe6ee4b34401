"""The worker's fixtures. Libraries are imported as a worker imports them: offline, and lightly."""

import torch

from tests.fakes.worker import models, no_sleep_between_retries, s3
from worker.models.imports import go_offline, light_imports

go_offline()
torch.set_num_threads(1)  # as a worker on a CPU does: with more, threads wait for each other
with light_imports():
    import worker.stages.diarize  # noqa: F401
    from tests.fakes.alignment import aligners

__all__ = ["aligners", "models", "no_sleep_between_retries", "s3"]
