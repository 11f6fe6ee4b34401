"""Text from outside, in every place where some comes in, through every command and the report."""

import io
import json
import os
import unicodedata
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bucketscribe_contract import FailureCode, JobFailure, Stage
from edge_client.cli import run
from edge_client.session import Session
from tests.fakes.servers import Reply, RunpodServer, S3Server
from tests.unit.edge_client.samples import claim, job, transcript, wav

SECRET = "deadbeefdeadbeef"
PIECES = (
    *("\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\u202e", "\u2066", "\r", "\x00", "\x7f", "\ufeff"),
    *("\nFORGED", "\r\nFORGED", "\x0bFORGED", "\x85FORGED", "\u2028FORGED", "\u2029FORGED"),
    *("é漢", "[bold]", "%s%n{0}", "{session}", "\\", "'\"", "`id`", "word ", "?" * 300),
)
SECRETS = (
    *(f" https://h/p?X-Amz-Signature={SECRET}&x=1 ", f" X-Amz-Signature={SECRET} "),
    *(f" ?X-Amz-Credential=a&X-Amz-Security-Token={SECRET} ", f" Bearer {SECRET} "),
    f" rpa_{SECRET} ",
)
hostile = st.lists(st.sampled_from(PIECES + SECRETS), min_size=1, max_size=4).map("".join)
harmless = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)
names = harmless.map(lambda text: "n " + text.replace("/", "|").replace("\x00", ""))


def told(*argv: str) -> tuple[int, str]:
    """Run a command; return its exit code, and all that it says."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(argv)
    if "--json" in argv:
        for line in out.getvalue().splitlines():
            json.loads(line)
    return code, out.getvalue() + err.getvalue()


@pytest.mark.usefixtures("env_file")
@settings(
    max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "8")),
    deadline=None,
    phases=[Phase.generate],  # to shrink a case takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.tuples(names, names, harmless, harmless, *[hostile] * 7))
def test_nothing_that_is_said_hides_a_line_forges_one_or_shows_a_secret(
    s3: S3Server, runpod: RunpodServer, tmp_path: Path, texts: tuple[str, ...]
) -> None:
    user, name, speech, speaker, *more = texts
    said_by_box, ended, message, language, warning, runpods, counts = more
    s3.clear()
    runpod.clear()
    done, running, dead = (Session(user, name + suffix) for suffix in ("d", "r", "f"))
    for each in (done, running, dead):
        s3.put(each.audio_key, wav(1))
    line = {"start": 0, "end": 1, "text": speech, "speaker": speaker}
    told_by_worker = {"language": language, "warnings": [warning], "speakers": [speaker]}
    s3.put(done.result_key, transcript(segments=[line], **told_by_worker))
    etag = s3.objects[dead.audio_key].etag
    for session, changes in ((running, {}), (dead, {"ended": ended, "job_id": runpods})):
        held = {"session": session.prefix, "audio_etag": etag, "submitted_by": said_by_box}
        s3.put(session.claim_key, claim(**(held | changes)).model_dump_json().encode())
    failure = JobFailure.of(FailureCode.AUDIO_UNREADABLE, message, Stage.DECODE)
    runpod.on("/status/job-1", Reply(job("FAILED", error=failure.model_dump_json())))
    runpod.on("/health", Reply({"workers": {counts: 1, "idle": counts}, "jobs": {"inQueue": 0}}))
    runpod.on("/run", Reply(runpods.encode(), status=400))
    report = tmp_path / "report"
    said = [
        told(*argv, *json_too)
        for argv in (
            *(("status", each.prefix) for each in (done, running, dead)),
            *(("status", runpods), ("cancel", runpods), ("cancel", dead.prefix), ("health",)),
            *(("render", done.prefix), ("submit", done.prefix), ("submit", dead.prefix)),
            *(("wait", dead.prefix), ("batch", "--dry-run"), ("--debug", "batch")),
            ("view", done.prefix, "--no-open", "-o", str(tmp_path)),
            ("batch", "--session", running.prefix, "--report", str(report)),
            *(
                ("presign", name),
                ("batch", "--since", message),
                ("submit", name, "--language", "x" + message),
            ),
        )
        for json_too in ((), ("--json",))
        if not (json_too and argv[0] == "render")
    ]
    runpod.on("/status/job-1", Reply(job("FAILED", error=runpods)))
    runpod.on("/health", Reply(runpods.encode(), status=403))
    said += [told("status", running.prefix), told("doctor"), told("doctor", "--json")]
    text = "\n".join(each for _, each in said) + report.read_text()
    assert [
        c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")
    ] == []
    assert [each for each in text.split("\n") if each.startswith("FORGED")] == []
    assert SECRET not in text
    assert "please report it" not in text
