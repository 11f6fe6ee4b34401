"""The development stack: a real S3 server and a loopback stand-in for RunPod's queue.

`python -m devstack up --env-file F`, or `with devstack.Stack() as stack:`.
"""

from devstack.events import Event, EventKind
from devstack.queue import QueueConfig
from devstack.stack import Stack

__all__ = ["Event", "EventKind", "QueueConfig", "Stack"]
