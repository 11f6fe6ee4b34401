"""The library: what its docstring shows runs as it stands, against loopback servers."""

import inspect
import textwrap
from typing import Any

import pytest

import edge_client
from edge_client import Edge, api
from edge_client.errors import BadUsage, TranscriptInvalid
from edge_client.jobs.claim import Claim
from edge_client.jobs.submit import State
from tests.fakes.servers import Reply, RunpodServer, S3Server
from tests.unit.edge_client.samples import SESSION, job, transcript, wav


@pytest.mark.usefixtures("env_file")
def test_example_of_the_docstring_runs(
    s3: S3Server, runpod: RunpodServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    runpod.on("/status/job-1", Reply(job("COMPLETED")))
    s3.put(SESSION.audio_key, wav(2))

    def worker(method: str, key: str) -> None:
        if runpod.count("/status/job-1") and SESSION.result_key not in s3.objects:
            claim = Claim.model_validate_json(s3.objects[SESSION.claim_key].body)
            s3.put(SESSION.result_key, transcript(request_id=claim.request_id))

    s3.refuse = worker
    doc = inspect.getdoc(api.submit) or ""
    example = doc.partition("Example::\n")[2].partition("\nArgs:")[0]
    exec(textwrap.dedent(example), {})  # noqa: S102 - our own docstring
    assert capsys.readouterr().out == "0.0 SPEAKER_00: Hello.\n"
    sent = next(call.body["input"] for call in runpod.calls if call.path == "/run")
    assert (sent["language"], sent["num_speakers"]) == ("en", 2)


def test_done_session_is_neither_submitted_nor_waited_for(
    edge: Edge, s3: S3Server, runpod: RunpodServer
) -> None:
    s3.put(SESSION.audio_key, wav(2))
    s3.put(SESSION.result_key, transcript())
    submitted = api.submit(edge, SESSION)
    assert submitted.state is State.ALREADY_DONE
    assert api.wait(edge, submitted).outcome.delivered is not None
    assert runpod.calls == []


@pytest.mark.parametrize("options", [{"webhook": "http://x"}, {"nothing": 1}])
def test_options_are_checked_before_any_call(
    edge: Edge, s3: S3Server, options: dict[str, Any]
) -> None:
    with pytest.raises(BadUsage):
        api.submit(edge, "s1", **options)
    assert s3.calls == []


def test_absent_transcript_names_the_command(edge: Edge) -> None:
    with pytest.raises(TranscriptInvalid, match="submit"):
        api.read_transcript(edge, SESSION)


def test_names_are_found_when_they_are_used() -> None:
    assert {getattr(edge_client, name) for name in edge_client.__all__} >= {Edge, api.wait}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edge_client.nothing
