"""`list` and `status`: what became of sessions, from the listing alone and from what is stored."""

import json
import sys
from datetime import timedelta
from typing import Any

import pytest

from bucketscribe_contract import FailureCode
from edge_client.batch.listing import list_sessions
from edge_client.batch.types import Filter, ListedSession
from edge_client.cli import run
from edge_client.errors import SessionNotFound
from edge_client.find import State, by_listing, describe
from edge_client.jobs import claim as claims
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session
from tests.fakes.servers import Reply, S3Server
from tests.unit.edge_client.jobs.scene import GONE, Scene, failed
from tests.unit.edge_client.samples import NOW, SESSION, job, summary, transcript, wav

JOB = "3c8eaa87-22c0-47f7-b4ff-da4a0ffcb40e-u1"
MINUTE = timedelta(minutes=1)
PROGRESS = {"stage": "align", "percent": 70, "updated_at": "2026-11-01T12:00:00Z"}
UNREADABLE = "AUDIO_UNREADABLE: no audio in it"
ENDED = {"ended": UNREADABLE, "earlier": [{"request_id": "r0", "ended": "timed_out"}]}
OVER = {"submitted_at": NOW - 60 * MINUTE, "expires_at": NOW - 10 * MINUTE}
UUID = "512b3590-30b1-707d-ed46-bf68df7b52d5"
NAMES = [f"session_2025-12-15T02_47_34_{number:03}Z" for number in range(50)]
Capture = pytest.CaptureFixture[str]


def at(minutes: int, size_bytes: int = 100) -> ObjectInfo:
    return ObjectInfo("key", '"e1"', size_bytes, NOW + minutes * MINUTE)


OPEN, CLOSED = claims.OPEN_BYTES, 700
FAILED = OPEN + claims.FAILED_BYTES


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({}, State.NO_AUDIO),
        ({"chunks": 3}, State.NOT_MERGED),
        ({"audio": at(0, 0)}, State.NO_AUDIO),
        ({"audio": at(0)}, State.NEW),
        ({"audio": at(0), "transcript": at(1)}, State.DONE),
        ({"transcript": at(1)}, State.DONE),
        ({"audio": at(2), "transcript": at(1)}, State.OUTDATED),
        ({"audio": at(0), "claim": at(1, OPEN)}, State.IN_FLIGHT),
        ({"audio": at(0), "claim": at(1, 2 * OPEN)}, State.IN_FLIGHT),
        ({"audio": at(0), "claim": at(1, FAILED)}, State.FAILED),
        ({"audio": at(0), "claim": at(1, CLOSED)}, State.NEW),
        ({"audio": at(2), "claim": at(1, FAILED)}, State.NEW),
        ({"audio": at(0), "claim": at(1, OPEN), "transcript": at(2)}, State.DONE),
        ({"audio": at(0), "claim": at(1, CLOSED), "transcript": at(2)}, State.DONE),  # names
        ({"audio": at(0), "claim": at(2, OPEN), "transcript": at(1)}, State.IN_FLIGHT),  # forced
        ({"audio": at(0), "claim": at(2, FAILED), "transcript": at(1)}, State.DONE),
        ({"audio": at(1), "claim": at(2, FAILED), "transcript": at(0)}, State.FAILED),
        ({"audio": at(1), "claim": at(0, OPEN), "transcript": at(2)}, State.OUTDATED),
    ],
)
def test_listing_alone_tells_what_became_of_a_session(files: Any, state: State) -> None:
    assert by_listing(ListedSession(SESSION, **files)).state is state


def test_claims_of_jobs_that_ended_otherwise_have_a_size_of_their_own(scene: Scene) -> None:
    prompt = {"options": {"initial_prompt": "p" * 4000}}
    for changes, state in (
        ({"wanted": prompt}, State.IN_FLIGHT),
        ({"wanted": prompt, "ended": UNREADABLE}, State.FAILED),
        ({"ended": UNREADABLE}, State.FAILED),
        ({}, State.IN_FLIGHT),
    ):
        scene.held(**changes)
        assert listed_states(scene) == [state]
        claim = scene.stored()
        assert scene.edge.bucket.head(SESSION.claim_key).size_bytes % 1024 == 0  # type: ignore[union-attr]
        assert claim.ended == changes.get("ended")


def listed_states(scene: Scene) -> list[State]:
    return [by_listing(each).state for each in list_sessions(scene.edge.bucket, Filter())]


@pytest.fixture
def many(scene: Scene, s3: S3Server) -> S3Server:
    """Fifty sessions of the customer's, and one of another user's that failed."""
    told = {"warnings": ["NO_SPEECH: why"], "speakers": ["SPEAKER_00", "SPEAKER_01"]}
    warned = transcript(**told, audio_etag=scene.audio_etag)
    for name in NAMES:
        s3.put(Session(UUID, name).audio_key, wav(2), NOW)
        s3.put(Session(UUID, name).result_key, warned, NOW)
    s3.put(SESSION.audio_key, wav(2), NOW - timedelta(days=3))
    scene.held(ended=UNREADABLE)
    s3.calls.clear()
    return s3


def test_list_makes_list_requests_alone(many: S3Server, capsys: Capture) -> None:
    many.page_keys = 40
    assert run(["list", "--json"]) == 0
    out, err = capsys.readouterr()
    facts = [json.loads(line) for line in out.splitlines()]
    assert [each["state"] for each in facts] == ["done"] * 50 + ["failed"]
    assert facts[0] == {
        "session": f"users/{UUID}/audio/sessions/{NAMES[0]}",
        "state": "done",
        "recorded_at": "2026-11-01T12:00:00+00:00",
        "audio_bytes": len(wav(2)),
        **dict.fromkeys(("code", "message", "summary")),
    }
    assert "51 sessions: 50 done, 1 failed" in err
    assert {key for _, key in many.calls} == {""}
    assert len(many.lists) == 3  # of 102 objects
    for options, count in ((["--user", UUID], 50), (["--since", "2026-10-31", "--limit", "7"], 7)):
        assert run(["list", *options]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1 + count
    assert {key for _, key in many.calls} == {""}


def test_details_read_what_was_delivered_and_why_nothing_was(
    many: S3Server, capsys: Capture
) -> None:
    assert run(["list", f"{SESSION}", f"users/{UUID}/audio/sessions/{NAMES[1]}", "--details"]) == 0
    header, bad, why, good, warning = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "state",
        "recorded",
        "(UTC)",
        "size",
        "length",
        "speakers",
        "lang",
        "session",
    ]
    assert bad.split() == ["failed", "2026-10-29", "12:00", "32.0", "kB", str(SESSION)]
    assert (why, warning) == ("  AUDIO_UNREADABLE: no audio in it", "  NO_SPEECH: why")
    assert good.split()[-4:-1] == ["0:00:02", "2", "en"]
    many.refuse = lambda method, key: (403, "AccessDenied") if NAMES[1] in key else None
    assert run(["list", "--details", "--json"]) == 0
    facts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["state"] for each in facts].count("done") == 49
    assert (facts[1]["state"], facts[1]["code"]) == ("refused", "OBJECT_REFUSED")
    assert facts[0]["summary"]["speakers_count"] == 2
    assert (facts[-1]["code"], facts[-1]["message"]) == ("AUDIO_UNREADABLE", "no audio in it")


@pytest.mark.parametrize(
    ("width", "options", "shown"),
    [
        (120, [], f"  {UUID}/{NAMES[0]}"),
        (80, [], f"  …b52d5/{NAMES[0]}"),
        (80, ["--details"], f"  …{UUID[-7:]}/{NAMES[0]}"),
        (60, [], f"  …2d5/{NAMES[0]}"),
        (40, [], f"  …{NAMES[0][-27:]}"),
        (20, [], f"  …{NAMES[0][-7:]}"),
        (80, ["--user", UUID], f"  {NAMES[0]}"),
        (40, ["--user", UUID], f"  …{NAMES[0][-27:]}"),
    ],
)
def test_narrow_terminal_keeps_the_end_of_names(
    many: S3Server,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    options: Any,
    shown: str,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run(["list", *options]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(shown)
    assert len(header) <= width
    assert max(map(len, lines)) <= width
    assert header.endswith("session")
    assert header.endswith("/session") or "--user" in options or width == 20


@pytest.mark.parametrize(
    ("held", "last", "state", "said"),
    [
        ({}, job("IN_PROGRESS", output=PROGRESS), State.IN_FLIGHT, "job job-1: align 70 %"),
        ({}, GONE, State.IN_FLIGHT, "forgotten by RunPod"),
        ({"job_id": None}, None, State.IN_FLIGHT, "the answer is not known"),
        (ENDED, None, State.FAILED, f"{SESSION}\n  AUDIO_UNREADABLE: no audio in it\n"),
        ({}, failed(FailureCode.OUT_OF_MEMORY), State.FAILED, "\n  OUT_OF_MEMORY: it failed\n"),
        (OVER, GONE, State.FAILED, "\n  expired: its job expired at "),
        ({"audio_etag": '"e0"', **ENDED}, None, State.NEW, f"kB {'':27} {SESSION}\n"),
    ],
)
def test_session_is_described(
    scene: Scene,
    held: Any,
    last: Any,
    state: State,
    said: str,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_client.services.edge.Clock", lambda: scene.clock)
    scene.held(**held)
    if last is not None:
        scene.ends(last)
    facts, lines = describe(scene.edge, "s1")
    assert (facts["state"], facts["done"]) == (state, False)
    assert facts["submission"] == (2 if "earlier" in held else 1)
    assert said in "\n".join(lines)
    assert (scene.runpod.calls == []) is (last is None)
    assert run(["status", "s1"]) == {State.FAILED: 1, State.IN_FLIGHT: 4, State.NEW: 5}[state]
    capsys.readouterr()
    scene.store_result(audio_etag=scene.audio_etag)
    assert run(["status", "s1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["done"], facts["state"], facts["summary"]["language"]) == (True, "done", "en")


def test_job_that_goes_on_beside_an_earlier_transcript_is_in_flight(scene: Scene) -> None:
    scene.store_result(request_id="r0", audio_etag=scene.audio_etag)
    scene.held(replaces=scene.s3.objects[SESSION.result_key].etag)
    scene.ends(job("IN_QUEUE"))
    facts, _ = describe(scene.edge, "s1")
    assert (facts["state"], facts["done"]) == ("in_flight", True)


@pytest.mark.parametrize("name", [JOB, "sync-123"])  # a bare word that no session has may be one
def test_job_is_described(scene: Scene, name: str) -> None:
    done = summary(request_id="r1")
    for answer, state, code in (
        (job("FAILED", error="worker exited"), State.FAILED, "crashed"),
        (job("COMPLETED", output=done), State.DONE, None),
        (job("IN_PROGRESS", output=PROGRESS), State.IN_FLIGHT, None),
    ):
        scene.runpod.on(f"/status/{name}", Reply(answer))
        facts, (text,) = describe(scene.edge, name)
        assert (facts["state"], facts["code"]) == (state, code)
        assert facts["job_state"] == answer["status"].lower()
        assert ("worker exited" in text) is (state is State.FAILED)
    assert (scene.s3.calls == []) is (name == JOB)


def test_what_nobody_knows_is_said_so(scene: Scene) -> None:
    for neither in ("nothing", "no thing"):
        with pytest.raises(SessionNotFound, match=neither):
            describe(scene.edge, neither)
    _, lines = describe(scene.edge, "s1")
    assert lines[-1] == "  no job was submitted"
    assert run(["status", "s1"]) == 5
