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

from worker.host.health import (
    Unhealthy,
    check_authority,
    check_gpu,
    check_models_run,
    check_scratch,
)
from worker.models.folder import unavailable
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
    """A torch that sees a GPU, or says why not, and counts what it was asked to do."""

    def __init__(self, absent: str | None = None, error: str | None = None) -> None:
        self.ran = 0
        self.float16 = "float16"
        self.cuda = SimpleNamespace(is_available=lambda: absent is None, init=self._init)
        self._absent, self._error = absent, error

    def _init(self) -> None:
        raise RuntimeError(self._absent)

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
    return torch


def test_a_gpu_that_is_there_runs_a_kernel(monkeypatch: pytest.MonkeyPatch, devices: Path) -> None:
    torch = with_torch(monkeypatch, Torch())
    check_gpu(WorkerSettings(), devices)
    assert torch.ran == 1


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("The NVIDIA driver on your system is too old (found version 12040).", "allow CUDA 12.8"),
        ("Found no NVIDIA driver on your system. Please check that", "choose GPU types"),
        ("No CUDA GPUs are available", "choose GPU types"),
    ],
)
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_that_torch_does_not_see_is_unhealthy(
    monkeypatch: pytest.MonkeyPatch, devices: Path, device: str, said: str, remedy: str
) -> None:
    with_torch(monkeypatch, Torch(absent=said))
    with pytest.raises(Unhealthy, match=f"{said[:20]}.*{remedy}"):
        check_gpu(WorkerSettings(device=device), devices)


# What torch and CTranslate2 say of a kernel that does not run, and of weights that do not fit.
SAID = {
    "CUDA error: no kernel image is available for execution\nCUDA kernel": "choose Amp",
    "CUDA failed with error no kernel image is available for execution": "choose Ampere",
    "parallel_for failed: cudaErrorInvalidDeviceFunction: invalid device function": "choose Ampere",
    "cuBLAS failed with status CUBLAS_STATUS_ARCH_MISMATCH": "choose Ampere",
    "CUDA failed with error the provided PTX was compiled with an unsupported toolchain.": "570",
    "CUDA failed with error CUDA driver version is insufficient": "driver 570",
    "CUDA failed with error PTX JIT compiler library not found": "driver 570",
    "CUDA failed with error out of memory": "more memory, or a smaller WHISPER_MODEL",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": "more memory",
    "CUDA error: uncorrectable ECC error encountered": "choose another GPU type",
}


@pytest.mark.parametrize(("said", "remedy"), SAID.items())
@pytest.mark.parametrize("where", ["kernel", "run", "load"])
def test_a_gpu_that_runs_no_kernel_is_unhealthy(
    monkeypatch: pytest.MonkeyPatch, devices: Path, said: str, remedy: str, where: str
) -> None:
    def fail() -> Any:
        raise RuntimeError(said)

    def load() -> Any:
        try:
            fail()
        except RuntimeError as exc:
            raise unavailable("it does not load; make MODELS_DIR anew") from exc

    with_torch(monkeypatch, Torch(error=said))
    models: Any = SimpleNamespace(rehearse=fail)
    checks = {
        "kernel": lambda: check_gpu(WorkerSettings(), devices),
        "run": lambda: check_models_run(WorkerSettings(), lambda: models, devices),
        "load": lambda: check_models_run(WorkerSettings(), load, devices),
    }
    with pytest.raises(Unhealthy, match=f"^the GPU runs no models .*{remedy}") as caught:
        checks[where]()
    assert "\n" not in str(caught.value)


def test_models_that_do_not_load_are_told_as_they_are(devices: Path) -> None:
    def load() -> Any:
        raise unavailable("it does not load; make MODELS_DIR anew")

    with pytest.raises(Unhealthy, match="^it does not load; make MODELS_DIR anew"):
        check_models_run(WorkerSettings(), load, devices)


@pytest.mark.parametrize(("device", "has_gpu"), [("auto", False), ("cpu", True)])
def test_where_no_gpu_is_demanded_torch_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, devices: Path, device: str, has_gpu: bool
) -> None:
    torch = with_torch(monkeypatch, Torch(absent="no"))
    folder, settings = devices if has_gpu else tmp_path / "none", WorkerSettings(device=device)
    check_gpu(settings, folder)
    check_models_run(settings, lambda: pytest.fail("they need not be waited for"), folder)
    assert torch.ran == 0
