"""What stands in for packages while others are imported, and that no job misses them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.whole_path import ROOT
from tests.recordings import SHORT_SPEECH
from worker.models import imports as module
from worker.models.imports import ABSENT, STOOD_IN_FOR, light_imports

JOB = """
import base64, json, sys
from worker import light_imports
if sys.argv[1] == "whole":
    light_imports.STOOD_IN_FOR, light_imports.ABSENT = {}, ()
from worker.cancel import CancelToken
from worker.host.progress import ProgressReporter
from worker.runtime import Runtime
with open(sys.argv[2], "rb") as file:
    job = {"audio_base64": base64.b64encode(file.read()).decode()}
found = Runtime().run(job, CancelToken(), ProgressReporter([], 1.0))
print(json.dumps({"segments": found["segments"], "modules": [*sys.modules]}))
"""

COMMUNITY = """
import json, sys
from pathlib import Path
from worker import light_imports
if sys.argv[1] == "whole":
    light_imports.STOOD_IN_FOR, light_imports.ABSENT = {}, ()
with light_imports.light_imports():
    from tests.unit.worker.diarization import architectures as build
from contract import JobInput
from worker.cancel import CancelToken
from worker.stages.diarize import diarize
from worker.types import Waveform
embedding = build.small_embedding()
pipeline = build.community(Path(sys.argv[2]), build.powerset_segmentation(), embedding)
waveform = Waveform(build.telephone_sample()[: 15 * 16000])
job = JobInput(audio_base64="", num_speakers=2)  # beyond VBx: KMeans, of scikit-learn
found = diarize(waveform, job, pipeline, 8, CancelToken())
turns = [[turn.start, turn.end, turn.speaker] for turn in found.turns]
print(json.dumps({"turns": turns, "embedded": embedding.seen, "modules": [*sys.modules]}))
"""


def run(script: str, *arguments: str) -> Any:
    """Run a script in a process of its own; return what it prints last."""
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


def missed(modules: list[str]) -> list[str]:
    """Name what was imported though something stood in for it."""
    return [name for name in modules if name in {*STOOD_IN_FOR, *ABSENT}]


@pytest.mark.models
def test_a_job_needs_nothing_that_is_stood_in_for_and_is_the_same_without() -> None:
    light, whole = (run(JOB, how, str(SHORT_SPEECH)) for how in ("light", "whole"))
    assert missed(light["modules"]) == []
    assert {"pandas", "torchmetrics", "torch._dynamo", "optuna"} <= {*missed(whole["modules"])}
    assert len(light["segments"]) > 0
    assert light["segments"] == whole["segments"]


@pytest.mark.models
def test_production_diarization_is_the_same(tmp_path: Path) -> None:
    light, whole = (run(COMMUNITY, how, str(tmp_path / how)) for how in ("light", "whole"))
    assert missed(light["modules"]) == []
    assert missed(whole["modules"]) != []
    assert light["embedded"] > 0
    assert (light["turns"], light["embedded"]) == (whole["turns"], whole["embedded"])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that can be imported, with a submodule; something stands in for it."""
    folder = tmp_path / "heavy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("SIZE = 1\n")
    (folder / "parts.py").write_text("def work():\n    return 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "STOOD_IN_FOR", {"heavy_package": {"checked": lambda f: f}})
    monkeypatch.setattr(module, "ABSENT", ())
    yield "heavy_package"
    for name in [name for name in sys.modules if name.startswith("heavy_package")]:
        del sys.modules[name]


def imported(name: str) -> ModuleType:
    """Import a module, again where it was forgotten."""
    __import__(name)
    return sys.modules[name]


def test_what_stands_in_can_be_subclassed_and_asked_about(package: str) -> None:
    with light_imports():
        parts = imported(f"{package}.parts")

        class Worker(parts.Base):  # type: ignore[name-defined,misc]
            pass

        assert isinstance(Worker, type)
        assert not isinstance(7, parts.Base)
        assert parts.Base is parts.Base


def test_what_is_called_on_import_is_there(package: str) -> None:
    with light_imports():
        assert imported(package).checked(len) is len


def test_what_stands_in_is_not_called_silently(package: str) -> None:
    with light_imports():
        work = imported(f"{package}.parts").work
    with pytest.raises(RuntimeError, match=r"heavy_package\.parts\.work is used.*STOOD_IN_FOR"):
        work()


def test_afterwards_the_real_one_is_imported(package: str) -> None:
    with light_imports():
        imported(f"{package}.parts")
    assert imported(f"{package}.parts").work() == 7
    assert imported(package).SIZE == 1


def test_afterwards_who_holds_on_to_it_has_the_real_one(package: str) -> None:
    with light_imports():
        parts, whole = imported(f"{package}.parts"), imported(package)
        assert isinstance(parts.work, type)
    assert parts.work() == 7
    assert whole.SIZE == 1
    with pytest.raises(AttributeError, match="checked"):
        _ = whole.checked


def test_a_submodule_of_a_real_package_is_forgotten_too(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOOD_IN_FOR", {f"{package}.parts": {}})
    real = imported(package)
    with light_imports():
        assert imported(f"{package}.parts") is real.parts
    assert not hasattr(real, "parts")
    assert imported(f"{package}.parts").work() == 7


def test_what_was_imported_before_stays(package: str) -> None:
    real = imported(f"{package}.parts")
    with light_imports():
        assert imported(f"{package}.parts") is real
    assert imported(f"{package}.parts") is real


def test_what_is_optional_is_not_found(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOOD_IN_FOR", {})
    monkeypatch.setattr(module, "ABSENT", (package,))
    with light_imports(), pytest.raises(ModuleNotFoundError):
        imported(package)
    assert imported(package).SIZE == 1


def test_an_import_that_fails_leaves_nothing_behind(package: str) -> None:
    def fail() -> None:
        with light_imports():
            imported(package)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert imported(package).SIZE == 1
    assert not any(isinstance(finder, module._Finder) for finder in sys.meta_path)
