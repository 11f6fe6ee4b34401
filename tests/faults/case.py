"""A case: what is broken, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.orders import Order
from tests.faults.proxy import Rule
from tests.faults.scene import EdgeSaid, Scene


@dataclass(frozen=True)
class Done:
    """The transcript is in S3 and equal to the undisturbed one.

    Attributes:
        warning: That the transcript names: a code, perhaps with the beginning of its detail.
        without: What of each segment may be missing: ``scores`` or ``words``.
        text_only: Times and speakers are allowed to differ: the warning says why.
    """

    warning: str = ""
    without: str = ""
    text_only: bool = False

    def __str__(self) -> str:
        equal = "text equal" if self.text_only else "transcript equal"
        less = f" but without {self.without}" if self.without else ""
        return equal + less + (f", warning `{self.warning}`" if self.warning else "")


@dataclass(frozen=True)
class Failed:
    """The edge names this code and there is no transcript."""

    code: str

    def __str__(self) -> str:
        return f"fails with `{self.code}`"


@dataclass(frozen=True)
class Cancelled:
    """The session ends as cancelled.

    Attributes:
        too_late: The transcript was on its way to S3: it is there, and whole.
    """

    too_late: bool = False

    def __str__(self) -> str:
        stored = "what was being stored is equal" if self.too_late else "no transcript"
        return f"cancelled, {stored}"


Expected = Done | Failed | Cancelled
Rules = Callable[[Scene], Sequence[Rule]]


def submit(scene: Scene) -> EdgeSaid:
    """Submit and wait, as a user does."""
    return scene.submit()


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        fault: In words, as the table shows it.
        expected: What has to come of it.
        runs: How often the handler runs for it, all attempts together.
        s3: Rules between worker and S3.
        queue: Rules between edge and queue.
        back: Rules between worker and queue.
        order: What the worker does to itself.
        act: What is done; default: submit and wait.
        check: Raises AssertionError; returns what the table shows.
        recording: A key of the ground's recordings.
        env: Of the edge client.
        alone: No other case may play meanwhile.
    """

    fault: str
    expected: Expected = field(default_factory=Done)
    runs: int = 1
    s3: Rules = lambda _: ()
    queue: Rules = lambda _: ()
    back: Rules = lambda _: ()
    order: Order | None = None
    act: Callable[[Scene], EdgeSaid] = submit
    check: Callable[[Scene], str] = lambda _: ""
    recording: str = "short"
    env: dict[str, str] = field(default_factory=dict)
    alone: bool = False


@dataclass(frozen=True)
class Verdict:
    """What came of a case; ``problem`` is empty where it is as it should be."""

    case: Case
    problem: str
    note: str = ""
    seconds: float = 0.0


def shown(document: Any) -> Any:
    """Return what two runs of one recording must have in common."""
    return {key: document[key] for key in ("segments", "speakers", "language", "duration_seconds")}
