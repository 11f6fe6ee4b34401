"""A file on its way into the bucket: cut off, changed, there already, raced for; and its policy."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_client.doctor import policy
from edge_client.errors import BadUsage, ObjectRefused
from edge_client.services.edge import Edge
from edge_client.services.upload import PART_BYTES, destination, upload
from edge_client.session import Session
from edge_client.settings import load
from tests.e2e.drills import Drill, drilled
from tests.e2e.uploads import check_only_missing_parts_are_sent, random_file, submit
from tests.unit.edge_client.test_policy import ACTIONS, allows, grants

STORED = {name: "s3:PutObject" for name in ("CreateMultipartUpload", "UploadPart")} | {
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListParts": "s3:ListMultipartUploadParts",
}


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    with drilled(tmp_path_factory.mktemp("uploads")) as made:
        yield made


@pytest.fixture
def edge(drill: Drill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Edge:
    monkeypatch.chdir(tmp_path)
    return Edge(load())


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Three parts and a bit, under a name of its own."""
    name = request.node.name.replace("[", "-").replace("]", "")
    return random_file(tmp_path / f"{name}.m4a", 3 * PART_BYTES + 1000)


def begin(edge: Edge, session: Session, *parts: tuple[int, bytes]) -> None:
    """Begin an upload as another client would."""
    at: Any = {"Bucket": edge.bucket.name, "Key": session.audio_key}
    client = edge.connection.client
    at["UploadId"] = client.create_multipart_upload(**at)["UploadId"]
    for number, body in parts:
        client.upload_part(**at, PartNumber=number, Body=body)


def test_killed_upload_goes_on_with_what_is_missing(drill: Drill, tmp_path: Path) -> None:
    path = random_file(tmp_path / "Kick-off: März.m4a", 12 * PART_BYTES + 1000)
    runs = check_only_missing_parts_are_sent(drill, path, (0.3, 0.9))
    assert len(runs[-1].parts) <= 1
    stored = drill.read("users/local/audio/sessions/Kick-off_März/audio.wav")
    assert stored == path.read_bytes()
    again = submit(drill, path)
    assert (again.code, again.parts) == (0, [])
    assert "it is there already: nothing was sent\nalready done" in again.said


def test_ctrl_c_ends_it_at_once_and_says_how_it_goes_on(drill: Drill, tmp_path: Path) -> None:
    path = random_file(tmp_path / "interrupted.m4a", 12 * PART_BYTES)
    run = submit(drill, path, end_at=0.2, by=signal.SIGINT)
    lines = run.said.splitlines()
    assert run.code == 130, run.said
    assert lines[-1] == "edge-client: interrupted: the same command sends what is missing"
    assert lines[0].endswith("interrupted/audio.wav (--user local --session interrupted)")
    assert len(lines) == 2, "without a terminal there is no bar"
    assert len(run.parts) < 12


def test_parts_of_a_file_that_changed_are_sent_anew_and_of_others_none_is_taken(
    edge: Edge, file: Path
) -> None:
    session, before = destination(edge, file, None, None), file.read_bytes()
    after = bytearray(before)
    after[PART_BYTES + 5] ^= 1
    file.write_bytes(after)
    parts = [(n + 1, before[n * PART_BYTES :][:PART_BYTES]) for n in range(4)]
    begin(edge, session, parts[0], (9, b"of a longer one"))
    time.sleep(1.1)  # S3 tells the time of uploads in seconds
    begin(edge, session, parts[0], parts[1], (3, b"of another size"), parts[3])
    begin(edge, Session("local", session.name + "0"), parts[2])
    edge.requests.clear()
    moved: list[int] = []
    assert upload(edge, file, session, moved.append)
    assert edge.requests["UploadPart"] == 2
    assert sum(moved) == len(after)
    body = edge.bucket.read(session.audio_key)
    assert body is not None
    assert body[0] == after
    listed = edge.connection.client.list_multipart_uploads(
        Bucket=edge.bucket.name, Prefix=str(session)
    )
    assert [each["Key"] for each in listed["Uploads"]] == [f"{session}0/audio.wav"]


@pytest.mark.parametrize("is_aws", [False, True])
@pytest.mark.parametrize("size", [PART_BYTES + 1, 1000])
def test_a_recording_that_is_there_is_not_sent_again_and_another_one_is_kept(
    edge: Edge, drill: Drill, tmp_path: Path, size: int, is_aws: bool
) -> None:
    edge.__dict__["connection"] = replace(edge.connection, is_aws=is_aws)  # it has SHA-256, too
    path = random_file(tmp_path / f"there-{size}-{is_aws}.mp3", size)
    session = destination(edge, path, "u 1", None)
    assert upload(edge, path, session)
    answer = edge.connection.client.head_object(
        Bucket=edge.bucket.name, Key=session.audio_key, ChecksumMode="ENABLED"
    )
    assert ("ChecksumSHA256" in answer) is is_aws
    for _ in ("in parts", "whole"):
        edge.requests.clear()
        assert not upload(edge, path, session)
        assert edge.requests.keys() == {"HeadObject"}
        drill.put(session.audio_key, path.read_bytes())
    kept = path.read_bytes()
    for other in (kept[:-1] + bytes([kept[-1] ^ 1]), kept[:-1]):
        path.write_bytes(other)
        with pytest.raises(
            BadUsage, match=f"another recording is at s3://.*there-{size}-{is_aws}/.*--session"
        ):
            upload(edge, path, session)
    assert drill.read(session.audio_key) == kept


@pytest.mark.parametrize("parts", [1, 3])
def test_of_two_that_race_for_a_key_one_is_stored_whole_and_the_other_told(
    edge: Edge, tmp_path: Path, parts: int
) -> None:
    paths = [random_file(tmp_path / f"{n}.wav", parts * PART_BYTES - 9) for n in (1, 2)]
    session = Session("local", f"raced-for-{parts}")
    both = threading.Barrier(2)

    def race(path: Path) -> str:
        wait = [both.wait]
        try:
            return str(upload(edge, path, session, lambda _: wait.pop()(10) if wait else None))
        except (BadUsage, ObjectRefused) as exc:
            return str(exc)

    with ThreadPoolExecutor(2) as threads:
        told = list(threads.map(race, paths))
    assert sorted(each.partition(" at ")[0] for each in told) == ["True", "another recording is"]
    stored = edge.bucket.read(session.audio_key)
    assert stored is not None
    assert stored[0] == paths[told.index("True")].read_bytes()


def test_a_file_that_grows_meanwhile_is_not_stored(edge: Edge, file: Path) -> None:
    session = destination(edge, file, None, None)

    def grow(_: int) -> None:
        with file.open("ab") as more:
            more.write(b"x")

    with pytest.raises(BadUsage, match="changed while it was sent"):
        upload(edge, file, session, grow)
    assert edge.bucket.head(session.audio_key) is None
    edge.requests.clear()
    assert upload(edge, file, session)
    assert edge.requests["UploadPart"] == 1


def test_policy_allows_what_an_upload_does_and_nothing_else(edge: Edge, file: Path) -> None:
    calls = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        key, action = params.get("Key"), (ACTIONS | STORED)[model.name]
        resource = f"arn:aws:s3:::{params['Bucket']}" + (f"/{key}" if key is not None else "")
        calls.append((action, resource, params.get("Prefix")))

    session, part = destination(edge, file, None, None), file.read_bytes()[:PART_BYTES]
    begin(edge, session, (1, part))
    begin(edge, session, (1, part))
    edge.connection.client.meta.events.register("provide-client-params", note)
    assert upload(edge, file, session)
    assert not upload(edge, file, session)
    without = grants(policy(edge.bucket.name, "x"))
    granted = grants(policy(edge.bucket.name, "x", with_upload=True))
    assert {call for call in calls if not any(allows(grant, call) for grant in granted)} == set()
    added = [grant for grant in granted if grant not in without]
    assert [grant for grant in added if not any(allows(grant, call) for call in calls)] == []
    assert {action for action, *_ in added} == set(STORED.values())


def test_a_pattern_of_ones_own_says_where_it_goes_and_what_a_batch_runs(
    drill: Drill, tmp_path: Path
) -> None:
    (tmp_path / "env").write_text("RECORDING_PATTERN=calls/{stem}.m4a\n")
    (tmp_path / "own").mkdir()
    path = random_file(tmp_path / "own" / "a.b.m4a", 1000)
    own = ("--env-file", str(tmp_path / "env"))
    drill.edge_client(*own, "submit", str(path), "--wait")
    drill.put("calls/a.m4a", b"sound")
    drill.put("calls/a.wav", b"no recording by this pattern")
    drill.edge_client(*own, "batch", "--json")
    kinds = ("m4a", "transcription.json", "transcription.job.json")
    made = {f"calls/{stem}.{kind}" for stem in ("a", "a.b") for kind in kinds}
    assert drill.keys("calls/").keys() == made | {"calls/a.wav"}
    last = drill.edge_client(*own, "batch", "--json").splitlines()[-1]
    assert json.loads(last)["summary"]["already_done"] == 2
    for name in ("calls/a.b.m4a", "a.b", f"s3://{drill.stack.s3.bucket}/calls/a.b.m4a"):
        assert json.loads(drill.edge_client(*own, "status", name, "--json"))["done"] is True
    drill.edge_client(*own, "export", "--format", "srt", "--output-dir", str(tmp_path / "out"))
    exported = {str(each.relative_to(tmp_path / "out")) for each in tmp_path.glob("out/**/*.srt")}
    assert exported == {"calls/a.srt", "calls/a.b.srt"}
    digest = hashlib.sha256(drill.read("calls/a.b.m4a")).digest()
    assert digest == hashlib.sha256(path.read_bytes()).digest()
