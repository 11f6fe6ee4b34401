"""The client with a short life: ``python -m tests.soak.batch.short_lived SECONDS batch …``.

SIGKILL comes so many seconds after it has started to work, wherever it is then. What it imports is
loaded before, else most moments would be in there.
"""

import os
import signal
import sys
import threading

import edge_client.batch.run  # noqa: F401 - loaded before the time begins to run
from edge_client.cli import run

if __name__ == "__main__":
    killer = threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGKILL))
    killer.daemon = True
    killer.start()
    sys.exit(run(sys.argv[2:]))
