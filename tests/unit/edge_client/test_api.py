"""The library: what README shows runs as it stands, against loopback servers."""

from pathlib import Path

import pytest

import edge_client
from edge_client import Edge, api
from edge_client.errors import BadUsage
from tests.fakes.servers import S3Server
from tests.unit.edge_client.jobs.scene import Scene

README = Path(__file__).parents[3] / "README.md"


def test_example_of_the_readme_runs(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.done_by(1)
    example = README.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    exec(example, {})  # noqa: S102 - our own README
    assert capsys.readouterr().out == "0.0 SPEAKER_00: Hello.\n"
    (sent,) = scene.posts
    assert (sent["input"]["language"], sent["input"]["num_speakers"]) == ("en", 2)


def test_names_and_options_that_are_none_are_refused(edge: Edge, s3: S3Server) -> None:
    assert {getattr(edge_client, name) for name in edge_client.__all__} >= {Edge, api.wait}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edge_client.nothing
    with pytest.raises(BadUsage):
        api.submit(edge, "s1", nothing=1)
    assert s3.calls == []
