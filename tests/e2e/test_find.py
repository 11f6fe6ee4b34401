"""`list`, `export` and `name-speakers` on a real S3 server, by the command line as it is."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_client import api
from edge_client.cli import run
from edge_client.errors import PreconditionFailed
from edge_client.services.edge import Edge
from edge_client.session import Session
from edge_client.settings import load
from tests.e2e.conftest import Bench
from tests.processes import wait_until

USER = "a1b2c3d4-30b1-707d-ed46-bf68df7b52d5"
SESSIONS = [Session(USER, f"session_2025-12-15T02_47_34_{n:03}Z") for n in range(50)]
WORD = {"word": "Hello", "start": 0.0, "end": 0.1, "score": 0.5, "speaker": "SPEAKER_00"}


def long_transcript(etag: str) -> bytes:
    """A transcript of 17 minutes: fifty of them take a while."""
    words = [WORD | {"start": n / 4, "end": n / 4 + 0.1} for n in range(4_000)]
    segments = [
        {"start": n, "end": n + 1, "text": "Hello " * 4, "speaker": "SPEAKER_00"}
        | {"words": words[4 * n : 4 * n + 4]}
        for n in range(1_000)
    ]
    document = {"segments": segments, "speakers": ["SPEAKER_00"], "language": "en"}
    return json.dumps(document | {"request_id": "r", "audio_etag": etag}).encode()


@pytest.fixture(scope="module", autouse=True)
def stored(bench: Bench) -> None:
    """Fifty sessions that are done."""
    for session in SESSIONS:
        bench.put(session.audio_key, b"audio")
    body = long_transcript(bench.get(SESSIONS[0].audio_key)["ETag"])
    for session in SESSIONS:
        bench.put(session.result_key, body)


@pytest.fixture
def edge(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    """The edge box of all commands that run in this process: it counts their requests."""
    for name, value in bench.stack.env.items():
        monkeypatch.setenv(name, value)
    edge = Edge(load())
    monkeypatch.setattr(Edge, "load", lambda *_, **__: edge)
    return edge


def test_list_makes_list_requests_alone(edge: Edge, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--user", USER, "--json"]) == 0
    facts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["session"], each["state"]) for each in facts] == [
        (session.prefix, "done") for session in SESSIONS
    ]
    assert dict(edge.requests) == {"ListObjectsV2": 1}


def test_an_export_that_was_killed_goes_on_with_the_rest(
    bench: Bench, edge: Edge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "--user", USER, "--format", "srt", "-o", str(tmp_path)]
    command = [sys.executable, "-m", "edge_client", *arguments]
    first = subprocess.Popen(command, env=bench.env, stdout=subprocess.DEVNULL)
    wait_until(lambda: len(list(tmp_path.rglob("*Z.srt"))) >= 10, 60, "ten files")
    first.kill()
    first.wait()
    there = {path: path.stat().st_ino for path in tmp_path.glob("*/[!.]*")}
    assert 10 <= len(there) < 50
    assert len({path.read_bytes() for path in there}) == 1  # none in part
    assert run([*arguments, "--json"]) == 0
    results = [json.loads(line)["result"] for line in capsys.readouterr().out.splitlines()]
    assert (results.count("unchanged"), results.count("exported")) == (len(there), 50 - len(there))
    assert dict(edge.requests) == {"ListObjectsV2": 1, "GetObject": 50 - len(there)}
    after = {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
    assert (after.items() >= there.items(), len(after)) == (True, 50)
    assert len({path.read_bytes() for path in after}) == 1


def test_names_are_written_into_what_is_there_and_over_no_change(
    bench: Bench, edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, etag = SESSIONS[7], bench.get(SESSIONS[7].audio_key)["ETag"]
    export = {"request_id": "r", "audio_etag": etag, "speakers": {"SPEAKER_00": "Ann"}}
    (tmp_path / "names.json").write_text(json.dumps(export))
    before: dict[str, Any] = bench.get_json(session.result_key)
    bench.edge_client("name-speakers", session.name, str(tmp_path / "names.json"))
    assert bench.get_json(session.result_key) == before | {"speaker_names": {"SPEAKER_00": "Ann"}}
    assert "Ann: Hello" in bench.edge_client("render", session.prefix)
    mine = ["--user", USER]
    for again in (mine, [*mine, "--verify"], ["--session", session.prefix]):
        printed = bench.edge_client("batch", *again, "--dry-run", "--json")
        assert json.loads(printed.splitlines()[-1])["summary"]["sessions"]["submit"] == 0
    bench.edge_client("status", session.name)
    assert "already done" in bench.edge_client("submit", session.prefix)

    # two people name her at once: both have read before either writes
    both, replace = threading.Barrier(2), edge.bucket.replace
    named, refused = list[str](), list[str]()
    monkeypatch.setattr(edge.bucket, "replace", lambda *told: (both.wait(30), replace(*told))[1])

    def name(text: str) -> None:
        try:
            api.name_speakers(edge, session, {"SPEAKER_00": text})
            named.append(text)
        except PreconditionFailed as exc:
            refused.append(str(exc))

    threads = [threading.Thread(target=name, args=(text,)) for text in ("Bo", "Cy")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,), (said,) = named, refused
    assert "changed its transcript just now" in said
    assert bench.get_json(session.result_key)["speaker_names"] == {"SPEAKER_00": won}
