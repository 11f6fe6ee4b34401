"""Runs the client's command line and says what it cost: S3's calls, wall time, peak memory.

``python -m tests.soak.scale.measured FILE ARGUMENTS…`` leaves a JSON object in FILE. The calls are
those that botocore sends; the memory is the process's own high-water mark.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from edge_client.services import edge
from edge_client.services.s3 import Connection, connect
from edge_client.settings import Settings


def main(result: Path, argv: list[str]) -> int:
    """Run a command line and store its figures."""
    calls: Counter[str] = Counter()

    def counted(settings: Settings) -> Connection:
        connection = connect(settings)

        def count(event_name: str, **_: Any) -> None:
            calls[event_name.rpartition(".")[2]] += 1

        connection.client.meta.events.register("before-send.s3", count)
        return connection

    edge.connect = counted
    from edge_client.cli import run

    started_s = time.monotonic()
    code = run(argv)
    wall_s = time.monotonic() - started_s
    # resource.getrusage's maximum would have the parent's memory in it
    kilobytes = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]
    figures = {"calls": calls, "wall_s": wall_s, "peak_bytes": int(kilobytes) * 1024}
    result.write_text(json.dumps(figures), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
