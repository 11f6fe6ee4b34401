"""The edge client, killed by a real SIGKILL after the N-th message to a service.

A step is a call to S3 or to RunPod: nothing else leaves a trace outside the process. SIGKILL
comes after step N and before the next one, as a power cut would.
"""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from edge_client.cli import run
from edge_client.services.runpod import RunpodApi
from edge_client.services.s3 import Bucket

STEPS: dict[type, tuple[str, ...]] = {
    Bucket: ("head", "read", "read_head", "replace", "write"),
    RunpodApi: ("run", "status", "health"),
}


def die_after(steps: int) -> None:
    """Let so many steps be done, and no more."""
    count = itertools.count()

    def dying(step: Callable[..., Any]) -> Callable[..., Any]:
        def do(*args: Any, **kwargs: Any) -> Any:
            if next(count) == steps:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args, **kwargs)

        return do

    for owner, names in STEPS.items():
        for name in names:
            setattr(owner, name, dying(getattr(owner, name)))


if __name__ == "__main__":
    die_after(int(sys.argv[1]))
    sys.exit(run(sys.argv[2:]))
