"""What the tests of views, report and summary play with."""

import io
from decimal import Decimal
from typing import Any

from rich.console import Console

from edge_client.batch.progress import LiveView
from edge_client.batch.types import Item, Need, Record
from edge_client.clock import Clock
from edge_client.jobs.claim import Claim
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session
from tests.unit.edge_client.samples import NOW, claim

PRICE = Decimal("0.0005")
HOUR_OF_WAV = 32_000 * 3600
NASTY = "[bold]\x1b[2J\x9b31m\u202e\nname"
NASTY_SEEN = r"[bold]\x1b[2J\x9b31m\u202e\nname"


def session(number: int = 1, user: str = "u1") -> Session:
    return Session(user, f"s{number}")


def item(which: Session, need: Need = Need.SUBMIT, why: str = "new", size: int = 0) -> Item:
    audio = ObjectInfo(which.audio_key, '"e"', size, NOW) if size else None
    return Item(which, need, why, audio)


def claim_of(which: Session, clock: Clock, **changes: Any) -> Claim:
    values = {"session": which.prefix, "submitted_at": clock.now(), "duration_s": 3600.0}
    return claim(**(values | changes))


def record(which: Session, result: str = "done", **changes: Any) -> Record:
    return Record(which.prefix, **({"result": result, "message": "said so"} | changes))


class Terminal(io.TextIOWrapper):
    """A terminal that fails on what its encoding lacks, and knows what was written."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", newline="\n")

    def isatty(self) -> bool:
        """Tell that it is one."""
        return True

    @property
    def text(self) -> str:
        """Everything so far."""
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


def live_view(
    clock: Clock, width: int = 100, height: int = 24, encoding: str = "utf-8"
) -> tuple[LiveView, Console, Terminal]:
    """A live view on a terminal of this size; it is drawn when it is printed."""
    out = Terminal(encoding)
    console = Console(
        file=out,
        width=width,
        height=height,
        force_terminal=True,
        color_system=None,
        legacy_windows=False,
    )
    return LiveView(console, clock), console, out
