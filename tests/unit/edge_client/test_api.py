"""The library: what its docstring shows runs as it stands, against loopback servers."""

import inspect
import textwrap
from typing import Any

import pytest

import edge_client
from edge_client import Edge, api
from edge_client.errors import BadUsage, TranscriptInvalid
from edge_client.jobs.submit import State
from tests.fakes.servers import S3Server
from tests.unit.edge_client.jobs.scene import Scene
from tests.unit.edge_client.samples import SESSION


def test_example_of_the_docstring_runs(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.done_by(1)
    doc = inspect.getdoc(api.submit) or ""
    example = doc.partition("Example::\n")[2].partition("\nArgs:")[0]
    exec(textwrap.dedent(example), {})  # noqa: S102 - our own docstring
    assert capsys.readouterr().out == "0.0 SPEAKER_00: Hello.\n"
    (sent,) = scene.posts
    assert (sent["input"]["language"], sent["input"]["num_speakers"]) == ("en", 2)


def test_done_session_is_neither_submitted_nor_waited_for(scene: Scene) -> None:
    scene.store_result()
    submitted = api.submit(scene.edge, SESSION)
    assert submitted.state is State.ALREADY_DONE
    assert api.wait(scene.edge, submitted).outcome.delivered is not None
    assert scene.runpod.calls == []


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
