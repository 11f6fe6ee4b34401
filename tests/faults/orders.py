"""What the suite tells its workers, and what they tell it: files in one folder.

``NAME.json`` holds the order for the session NAME, ``log.jsonl`` one line for each run of the
handler and each stage of it. Read and written by the suite and by ``faulty_handler.py``.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "FAULTS_FOLDER"
TAKE, RUN, END = "take", "run", "end"
_SESSION = re.compile(r"/sessions/([\w-]+)/")


@dataclass(frozen=True)
class Order:
    """What a worker does to itself in one stage of a session's jobs.

    Attributes:
        stage: Where: a stage's function, or `TAKE`.
        do: A key of `tests.faults.misdeeds.MISDEEDS`, or ``inflate``.
        amount: Bytes or batch, as the misdeed has it.
        runs: In how many runs, from the first on.
    """

    stage: str
    do: str
    amount: int = 0
    runs: int = 1


@dataclass(frozen=True)
class Entry:
    """One line of the log.

    Attributes:
        what: `TAKE`, `RUN`, a stage's function that begins, or `END`.
        pid: Of the worker.
        at: Unix time in seconds.
        folder: The job's temporary directory, where the stage has it.
    """

    session: str
    what: str
    pid: int
    at: float
    folder: str | None = None


class Folder:
    """The folder that both sides know."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def give(self, session: str, order: Order) -> None:
        """Order something for a session's jobs."""
        (self.path / f"{session}.json").write_text(json.dumps(asdict(order)))

    def order(self, session: str) -> Order | None:
        """Return the session's order, if it has one."""
        path = self.path / f"{session}.json"
        return Order(**json.loads(path.read_text())) if path.exists() else None

    def expect(self, session: str, segments: list[Any]) -> None:
        """Note the segments that a misdeed made, for the suite to compare with."""
        (self.path / f"{session}.segments").write_text(json.dumps(segments))

    def expected(self, session: str) -> list[Any] | None:
        """Return what `expect` noted."""
        path = self.path / f"{session}.segments"
        return json.loads(path.read_text()) if path.exists() else None

    def log(self, entry: Entry) -> None:
        """Append a line, whole even if several workers write: it is one write of O_APPEND."""
        with (self.path / "log.jsonl").open("a") as log:
            log.write(json.dumps(asdict(entry)) + "\n")

    def entries(self, session: str, what: str | None = None) -> list[Entry]:
        """Return a session's lines, oldest first."""
        path = self.path / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        entries = [Entry(**json.loads(line)) for line in lines]
        return [e for e in entries if e.session == session and what in (None, e.what)]


def session_of(job: object) -> str:
    """Return the session's name in a job's URLs; empty where there is none."""
    found = _SESSION.search(str(job))
    return found.group(1) if found else ""
