"""`cancel` and `name-speakers`: what they are about, and what they refuse."""

import json
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from edge_client import api
from edge_client.batch.listing import list_sessions
from edge_client.batch.plan import plan
from edge_client.batch.types import Filter
from edge_client.cli import run
from edge_client.commands import job_to_cancel
from edge_client.errors import ClaimConflict, EdgeError, PreconditionFailed
from edge_client.find import by_listing
from tests.unit.edge_client.jobs.scene import Scene
from tests.unit.edge_client.samples import SESSION, transcript, wav

Capture = pytest.CaptureFixture[str]
SECOND = {"id": 1, "start": 1.6, "end": 2.0, "text": "Hi.", "speaker": "SPEAKER_01", "words": []}
TOLD: dict[str, Any] = {
    "segments": [*json.loads(transcript())["segments"], SECOND],
    "speakers": ["SPEAKER_00", "SPEAKER_01"],
}
JOB = "3c8eaa87-22c0-47f7-b4ff-da4a0ffcb40e-u1"


def test_only_a_job_that_is_known_can_be_cancelled(scene: Scene) -> None:
    with pytest.raises(ClaimConflict, match="nothing to cancel"):
        job_to_cancel(scene.edge, "s1")
    scene.held()
    assert job_to_cancel(scene.edge, "s1") == "job-1"
    assert job_to_cancel(scene.edge, JOB) == JOB
    scene.held(job_id=None)
    with pytest.raises(ClaimConflict, match="answer was lost"):
        job_to_cancel(scene.edge, "s1")


@pytest.fixture
def named(scene: Scene) -> bytes:
    """A session that is done; its transcript as the worker wrote it."""
    scene.store_result(**TOLD, audio_etag=scene.audio_etag)
    scene.held(ended="done")
    return scene.s3.objects[SESSION.result_key].body


@pytest.mark.usefixtures("named")
def test_names_are_written_and_taken_away_and_labels_stay(
    scene: Scene, tmp_path: Path, capsys: Capture
) -> None:
    export = {"request_id": "r1", "audio_etag": scene.audio_etag, "speakers": {"SPEAKER_01": "Bo"}}
    (tmp_path / "names.json").write_text(json.dumps(export))
    assert run(["name-speakers", "s1", "names.json", "--speaker", "SPEAKER_00=Añn <b>"]) == 0
    assert (
        capsys.readouterr().out == f"names of {SESSION}:\n  SPEAKER_00: Añn <b>\n  SPEAKER_01: Bo\n"
    )
    document = json.loads(scene.s3.objects[SESSION.result_key].body)
    assert document.pop("speaker_names") == {"SPEAKER_00": "Añn <b>", "SPEAKER_01": "Bo"}
    assert document == json.loads(transcript(**TOLD, audio_etag=scene.audio_etag))
    shown = {
        "txt": "[0:00:00] Añn <b>: Hello.\n[0:00:01] Bo: Hi.\n",
        "vtt": "<v Añn &lt;b&gt;>Hello.</v>",
        "tsv": "0\t1500\tHello.\tAñn <b>",
    }
    for form, text in shown.items():
        assert run(["render", "s1", "--format", form]) == 0
        assert text in capsys.readouterr().out
    before = len(scene.s3.calls)
    assert run(["name-speakers", "s1", "--speaker", "SPEAKER_01=Bo"]) == 0  # as it is
    assert ("PUT", SESSION.result_key) not in scene.s3.calls[before:]
    assert run(["name-speakers", "s1", "--speaker", "SPEAKER_00=", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["speaker_names"] == {
        "SPEAKER_01": "Bo"
    }


def test_a_session_whose_speakers_were_named_stays_done(
    scene: Scene, named: bytes, capsys: Capture
) -> None:
    """Also where no claim or ETag tells: then times do, and they stay in order."""
    later = scene.s3.now + timedelta(minutes=5)
    for claims_there, etag in product((True, False), repeat=2):
        scene.s3.now = later - timedelta(minutes=5)
        scene.store_result(**TOLD, **({"audio_etag": scene.audio_etag} if etag else {}))
        scene.held(ended="done")
        if not claims_there:
            del scene.s3.objects[SESSION.claim_key]
        scene.s3.now = later
        api.name_speakers(scene.edge, SESSION, {"SPEAKER_00": "Ann"})
        for chosen in (Filter(), Filter(verify=True), Filter(sessions=(SESSION,))):
            (planned,) = plan(scene.edge, chosen, closes=True)
            unproven = chosen.verify and not claims_there and not etag
            assert planned.action.value == ("unproven" if unproven else "done")
        assert by_listing(*list_sessions(scene.edge.bucket, Filter())).state == "done"
        assert scene.submit().state is api.State.ALREADY_DONE
        if claims_there:
            assert scene.go().transcript is not None
    assert scene.posts == []


def test_names_of_another_transcript_or_of_nobody_are_refused(
    scene: Scene, named: bytes, tmp_path: Path, capsys: Capture
) -> None:
    told = {"request_id": "r1", "audio_etag": scene.audio_etag, "speakers": {"SPEAKER_00": "Ann"}}
    path, writes = tmp_path / "names.json", len(scene.s3.objects)
    for changes, code, said in (
        ({"request_id": "r0"}, 1, "for another transcript"),
        ({"audio_etag": None}, 1, "for another transcript"),
        ({"speakers": {"SPEAKER_07": "Ann"}}, 2, "it has SPEAKER_00, SPEAKER_01"),
        ({"speakers": {"SPEAKER_00": "A\nB"}}, 2, "on one line"),
        ({"speakers": ["Ann"]}, 2, "cannot be read as names"),
        ({"speakers": {}}, 2, "no names"),
    ):
        path.write_text(json.dumps(told | changes))
        assert run(["name-speakers", "s1", str(path)]) == code
        assert said in capsys.readouterr().err
    assert run(["name-speakers", "s1", "--speaker", "Ann"]) == 2
    assert (scene.s3.objects[SESSION.result_key].body, len(scene.s3.objects)) == (named, writes)


def test_names_stand_back_where_another_transcript_is_due_or_came_meanwhile(
    scene: Scene, named: bytes
) -> None:
    ann = {"SPEAKER_00": "Ann"}

    def refused(error: type[EdgeError], said: str) -> None:
        before = scene.s3.objects[SESSION.result_key].body
        with pytest.raises(error, match=said):
            api.name_speakers(scene.edge, SESSION, ann)
        assert b"Ann" not in scene.s3.objects[SESSION.result_key].body or before != named

    scene.held(request_id="r2")  # forced: its worker replaces only what was there
    refused(ClaimConflict, "brings another transcript")
    scene.held(ended="done")

    def meanwhile(method: str, key: str) -> None:
        if method == "PUT":
            scene.store_result(request_id="r9")

    scene.s3.refuse = meanwhile
    refused(PreconditionFailed, "changed its transcript just now")
    assert json.loads(scene.s3.objects[SESSION.result_key].body)["request_id"] == "r9"
    scene.s3.refuse = lambda method, key: None
    scene.s3.put(SESSION.audio_key, wav(3), scene.s3.now + timedelta(hours=1))
    refused(PreconditionFailed, "of an earlier recording")
