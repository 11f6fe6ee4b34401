"""Imports of pyannote, whisperx and transformers: offline, and without what they train with.

Their imports bring packages that no inference of ours calls (torchmetrics with all of torchvision,
torch's compiler with SymPy, pandas): 5.5 of 9 s of processor time, under the interpreter's lock.
`light_imports` has something empty stand in for these meanwhile;
`tests/models/worker/models/test_imports.py` holds the list against real jobs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any


def _as_it_is(function: Any = None, *_: Any, **__: Any) -> Any:
    """Leave what is decorated as it is; without a function: return the decorator."""
    return _as_it_is if function is None else function


def _tell_nobody(*_: Any, **__: Any) -> None:
    """Report nothing to pyannote's maker."""


ABSENT = ("matplotlib", "torchvision")
"""Optional for whoever imports them, and taken for not installed."""

STOOD_IN_FOR: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "networkx": {},
    "optuna": {},
    "pandas": {},
    "pyannote.audio.telemetry": {
        "track_model_init": _tell_nobody,
        "track_pipeline_init": _tell_nobody,
        "track_pipeline_apply": _tell_nobody,
    },
    "pyannote.metrics": {},
    "pyannote.pipeline.optimizer": {},
    "torch._dynamo": {"allow_in_graph": _as_it_is, "disable": _as_it_is},
    "torch_audiomentations": {},
    "torchmetrics": {},
}
"""Packages, with the functions of theirs that are called while others are imported."""

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYANNOTE_METRICS_ENABLED": "0",
    "ORT_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_one_at_a_time = threading.Lock()


def go_offline(nltk_data: Path | None = None) -> None:
    """Have libraries that are imported from now on ask no hub, and report nothing.

    pyannote reports durations and speaker counts to its maker unless told otherwise before its
    import; so does onnxruntime from 1.32 on, which faster-whisper and pyannote import.

    Args:
        nltk_data: Where sentence splitters lie.
    """
    os.environ.update(_ENVIRONMENT)
    if nltk_data is not None:
        os.environ["NLTK_DATA"] = str(nltk_data)


@contextmanager
def light_imports() -> Iterator[None]:
    """Have imports in the block, of any thread, find the stand-ins.

    A class that stands in may be subclassed, annotated with and asked about; called, it says so.
    Afterwards whoever imports the packages gets the real ones, and so does who holds on to one of
    the stand-ins. What was imported before stays as it is.
    """
    # upstream: pyannote.audio 4.0.7, torch 2.8.0, transformers 4.57.6, no issue known; can go when
    # they import what they train, plot and report with where it is used
    with _one_at_a_time:
        finder = _Finder()
        absent = [name for name in ABSENT if name not in sys.modules]
        sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # as Python documents
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            for name in absent:
                del sys.modules[name]
            for module in finder.made:
                _forget(module)
                module.step_aside()


@contextmanager
def weights_only() -> Iterator[None]:
    """Have checkpoints loaded in the block bring tensors and known classes, and run nothing.

    pyannote asks torch to unpickle whatever there is; torch's variable overrules that.
    """
    import torch
    from omegaconf import AnyNode, DictConfig, ListConfig
    from omegaconf.base import ContainerMetadata, Metadata
    from pyannote.audio.core.model import Introspection
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    known = [AnyNode, DictConfig, ListConfig, ContainerMetadata, Metadata, Introspection]
    known += [Problem, Resolution, Specifications, torch.torch_version.TorchVersion]
    known += [Any, dict, int, list, defaultdict]
    enum_members = (_member, "builtins.getattr")  # so Python 3.11.2, Debian's, pickles them
    with torch.serialization.safe_globals([*known, enum_members]):
        os.environ[_WEIGHTS_ONLY] = "1"
        try:
            yield
        finally:
            del os.environ[_WEIGHTS_ONLY]


def _member(kind: type[Enum], name: str) -> Enum:
    if not issubclass(kind, Enum):
        raise UnpicklingError(f"GLOBAL builtins.getattr of {kind}")
    return kind[name]


def _forget(module: _StandIn) -> None:
    sys.modules.pop(module.__name__, None)
    package, _, name = module.__name__.rpartition(".")
    if package in sys.modules:
        vars(sys.modules[package]).pop(name, None)


class _Unused(type):
    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise RuntimeError(
            f"{cls.__module__}.{cls.__qualname__} is used, but worker.models.imports stands in for "
            "its package: take that out of STOOD_IN_FOR"
        )


class _StandIn(ModuleType):
    """A module whose every name is an empty class; once the block is over, what it stood in for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._classes: dict[str, type] | None = {}

    def __getattr__(self, name: str) -> Any:
        if self._classes is None:
            return getattr(import_module(self.__name__), name)
        if name.startswith("__"):
            raise AttributeError(name)
        return self._classes.setdefault(name, _Unused(name, (), {"__module__": self.__name__}))

    def step_aside(self) -> None:
        """End the block."""
        self._classes = None
        for name in STOOD_IN_FOR.get(self.__name__, ()):
            vars(self).pop(name, None)


class _Finder(MetaPathFinder, Loader):
    """Finds stand-ins for the packages that were not imported before, and for all in them."""

    def __init__(self) -> None:
        self._packages = [name for name in STOOD_IN_FOR if name not in sys.modules]
        self.made: list[_StandIn] = []

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        if not any(fullname == p or fullname.startswith(f"{p}.") for p in self._packages):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        assert isinstance(module, _StandIn)  # noqa: S101  # made above
        vars(module).update(STOOD_IN_FOR.get(module.__name__, {}))
        self.made.append(module)
