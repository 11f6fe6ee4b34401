"""Health: each check names its remedy; what is not demanded is not checked."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from worker.host.health import Unhealthy, check_authority, check_gpu, check_scratch
from worker.settings import WorkerSettings


def test_little_room_is_unhealthy_and_less_than_the_largest_recording_needs_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(psutil, "disk_usage", lambda _: SimpleNamespace(free=999))
    with pytest.raises(Unhealthy, match="999 bytes free.*1,000: .*a larger container"):
        check_scratch(WorkerSettings(min_scratch_bytes=1000))
    check_scratch(WorkerSettings(min_scratch_bytes=9, max_audio_bytes=679, max_audio_seconds=0.01))
    assert caplog.text == ""
    check_scratch(WorkerSettings(min_scratch_bytes=9, max_audio_bytes=680, max_audio_seconds=0.01))
    assert "may need 1,000" in caplog.text


def test_a_folder_that_cannot_be_written_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only() -> Any:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(Unhealthy, match="Read-only file system.*set TMPDIR"):
        check_scratch(WorkerSettings())


@pytest.mark.parametrize("given", ["/nowhere", __file__, "-----BEGIN CERTIFICATE-----"])
def test_an_authority_that_is_none_is_unhealthy(given: str) -> None:
    with pytest.raises(Unhealthy, match="ALLOWED_URL_CA is neither PEM nor a file of it"):
        check_authority(WorkerSettings(allowed_url_ca=given))
    check_authority(WorkerSettings())


class Torch(SimpleNamespace):
    """A torch that sees a GPU, or none, and counts what it was asked to do."""

    def __init__(self, available: bool, error: str | None = None) -> None:
        self.ran = 0
        self.float16 = "float16"
        self.version = SimpleNamespace(cuda="12.8")
        self.cuda = SimpleNamespace(is_available=lambda: available)
        self.device = str
        self._error = error

    def ones(self, *_: Any, **__: Any) -> Any:
        """Give a matrix, or fail as CUDA does."""
        self.ran += 1
        if self._error:
            raise RuntimeError(self._error)
        return np.ones((64, 64), np.float32)


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """Where the driver shows one GPU."""
    (tmp_path / "nvidiactl").touch()
    (tmp_path / "nvidia0").touch()
    return tmp_path


def with_torch(monkeypatch: pytest.MonkeyPatch, torch: Torch) -> Torch:
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(
        sys.modules, "worker.models.device", SimpleNamespace(NO_CUDA="no CUDA; choose")
    )
    return torch


def test_a_gpu_that_is_there_runs_a_kernel(monkeypatch: pytest.MonkeyPatch, devices: Path) -> None:
    torch = with_torch(monkeypatch, Torch(available=True))
    check_gpu(WorkerSettings(), devices)
    assert torch.ran == 1


@pytest.mark.parametrize(
    ("device", "asked"), [("auto", "the machine has a GPU"), ("cuda", "DEVICE=cuda")]
)
def test_a_gpu_that_torch_does_not_see_is_unhealthy(
    monkeypatch: pytest.MonkeyPatch, devices: Path, device: str, asked: str
) -> None:
    with_torch(monkeypatch, Torch(available=False))
    with pytest.raises(Unhealthy, match=f"{asked}, but no CUDA; choose"):
        check_gpu(WorkerSettings(device=device), devices)


def test_a_gpu_that_runs_no_kernel_is_unhealthy(
    monkeypatch: pytest.MonkeyPatch, devices: Path
) -> None:
    said = "CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA"
    with_torch(monkeypatch, Torch(available=True, error=said))
    with pytest.raises(Unhealthy, match="no kernel image.*: choose another GPU") as caught:
        check_gpu(WorkerSettings(), devices)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("device", "has_gpu"), [("auto", False), ("cpu", True)])
def test_where_no_gpu_is_demanded_torch_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, devices: Path, device: str, has_gpu: bool
) -> None:
    torch = with_torch(monkeypatch, Torch(available=False))
    check_gpu(WorkerSettings(device=device), devices if has_gpu else tmp_path / "none")
    assert torch.ran == 0
