"""What upload tests work with: the real client behind a proxy that counts parts, and kills it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from edge_client.services.upload import PART_BYTES
from tests.e2e.conftest import Bench
from tests.faults.proxy import Exchange, Proxy, Rule


class Sent(NamedTuple):
    """What one run of the client did.

    Attributes:
        parts: Number and bytes of each part that it sent, in the order in which S3 had them.
        found: Parts of an earlier run that S3 told it of.
    """

    code: int
    said: str
    parts: list[tuple[int, int]]
    found: set[int]


def bytes_of(path: Path, numbers: set[int]) -> int:
    """Return how many bytes of a file some of its parts are."""
    size = path.stat().st_size
    return sum(min(PART_BYTES, size - (number - 1) * PART_BYTES) for number in numbers)


def submit(
    bench: Bench,
    path: Path,
    *arguments: str,
    end_at: float = 2.0,
    by: signal.Signals = signal.SIGKILL,
) -> Sent:
    """Run ``submit FILE``; end the process once S3 has that share of the file."""
    parts: list[tuple[int, int]] = []
    found: set[int] = set()
    started: list[subprocess.Popen[str]] = []

    def pass_part_on(exchange: Exchange, _: object) -> None:
        size, number = (
            len(exchange.body),
            int(parse_qs(urlsplit(exchange.target).query)["partNumber"][0]),
        )
        answer = exchange.forward()
        if answer.status == 200:
            parts.append((number, size))
        there = bytes_of(path, found | {number for number, _ in parts})
        if there >= end_at * path.stat().st_size and started:
            started.pop().send_signal(by)
        exchange.body = b""  # 700 MB would stay in memory
        exchange.reply(answer)

    def read_list(exchange: Exchange, _: object) -> None:
        answer = exchange.forward()
        found.update(map(int, re.findall(rb"<PartNumber>(\d+)<", answer.body)))
        exchange.reply(answer)

    def rule(
        matches: Callable[[Exchange], bool], trick: Callable[[Exchange, object], None]
    ) -> Rule:
        return Rule(matches, trick, times=10**6, scene=SimpleNamespace(owns=lambda _: True))  # type: ignore[arg-type]

    with Proxy(bench.stack.s3.url) as proxy:
        proxy.rules = [
            rule(lambda e: e.method == "PUT" and "partNumber=" in e.target, pass_part_on),
            rule(lambda e: e.method == "GET" and "uploadId=" in e.target, read_list),
        ]
        client = subprocess.Popen(
            [sys.executable, "-m", "edge_client", "submit", str(path), *arguments],
            env={**bench.env, "AWS_ENDPOINT_URL_S3": proxy.url},
            cwd=path.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(client)
        said, _ = client.communicate(timeout=600)
    bench.printed.append(said)
    return Sent(client.returncode, said, parts, found)


def random_file(path: Path, size: int) -> Path:
    """Write a file that no other is like."""
    with path.open("wb") as file:
        for at in range(0, size, PART_BYTES):
            file.write(os.urandom(min(PART_BYTES, size - at)))
    return path


def check_only_missing_parts_are_sent(
    bench: Bench, path: Path, shares: tuple[float, ...]
) -> list[Sent]:
    """Kill the upload of a file at these shares, let the last one end, and count."""
    numbers = set(range(1, -(-path.stat().st_size // PART_BYTES) + 1))
    runs = [submit(bench, path, end_at=share) for share in shares]
    assert [run.code for run in runs] == [-signal.SIGKILL] * len(shares)
    runs.append(submit(bench, path, "--wait"))
    assert runs[-1].code == 0, runs[-1].said
    had: set[int] = set()
    for run in runs:
        assert run.found >= had, "what was sent is there"
        sent = {number for number, _ in run.parts}
        assert not sent & run.found, "nothing is sent again"
        assert len(sent) == len(run.parts)
        had = run.found | sent
    assert had == numbers
    assert runs[-1].found | {number for number, _ in runs[-1].parts} == numbers
    for share, run in zip(shares, runs[1:], strict=True):
        assert bytes_of(path, run.found) >= share * path.stat().st_size
    return runs
