"""What stands in for packages while others are imported, and what is there afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from worker.models import imports as module
from worker.models.imports import light_imports


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
        assert imported(package).checked(len) is len  # is called on import


def test_what_stands_in_is_not_called_silently(package: str) -> None:
    with light_imports():
        work = imported(f"{package}.parts").work
    with pytest.raises(RuntimeError, match=r"heavy_package\.parts\.work is used.*STOOD_IN_FOR"):
        work()


def test_afterwards_who_holds_on_to_it_has_the_real_one(package: str) -> None:
    with light_imports():
        parts, whole = imported(f"{package}.parts"), imported(package)
        assert isinstance(parts.work, type)
    assert parts.work() == imported(f"{package}.parts").work() == 7
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
