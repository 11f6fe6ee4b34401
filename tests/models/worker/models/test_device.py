"""The device: what it takes at once, by its memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bucketscribe_contract import FailureCode, Stage
from worker.errors import WorkerError
from worker.models.device import (
    Device,
    WhisperShape,
    choose_device,
    cuda_device,
    set_precision,
    usable_cores,
    use_bfloat16,
)
from worker.models.folder import find_models
from worker.settings import WorkerSettings

OWN = {"batch_size": 5, "windows_batch_size": 7, "compute_type": "int8_float16"}
LARGE, TURBO, SMALL = WhisperShape(32, 1280), WhisperShape(4, 1280), WhisperShape(12, 768)


@pytest.mark.parametrize(
    ("free_gb", "shape", "asked", "device"),
    [
        (1, LARGE, {}, Device("cuda", "float16", 1, 1, 1, 8, 1)),
        (4, LARGE, {}, Device("cuda", "float16", 2, 8, 1, 8, 1)),
        (12, LARGE, {}, Device("cuda", "float16", 16, 32, 1, 8, 2)),
        (12, TURBO, {}, Device("cuda", "float16", 32, 32, 1, 8, 2)),
        (20, LARGE, {"batch_size": "auto"}, Device("cuda", "float16", 32, 32, 1, 8, 4)),
        (44, LARGE, {}, Device("cuda", "float16", 32, 32, 1, 8, 8)),
        (76, LARGE, OWN, Device("cuda", "int8_float16", 5, 7, 1, 8, 8)),
    ],
)
def test_batches_grow_with_the_gpus_memory_unless_settings_say(
    free_gb: int, shape: WhisperShape, asked: Any, device: Device
) -> None:
    assert cuda_device(WorkerSettings(**asked), 8, free_gb * 10**9, shape) == device


@pytest.mark.parametrize("shape", [LARGE, TURBO, SMALL])
@pytest.mark.parametrize("free_gb", [3, 6, 12, 20, 44, 76])
def test_what_runs_at_once_fits_at_once(free_gb: int, shape: WhisperShape) -> None:
    found = cuda_device(WorkerSettings(), 8, free_gb * 10**9, shape)
    windows, slices = found.windows_batch_size * 64e6, found.slices_batch_size * 0.8e9
    assert found.batch_size * shape.chunk_bytes + windows + slices <= (free_gb - 1) * 1e9


def test_a_chunk_takes_what_its_model_needs() -> None:
    """faster-whisper's README: 6.1 GB for large-v2, a batch of 8, with 3.1 GB of weights."""
    assert 3.1e9 + 0.5e9 + 8 * LARGE.chunk_bytes == pytest.approx(6.1e9, rel=0.05)
    assert SMALL.chunk_bytes < TURBO.chunk_bytes < LARGE.chunk_bytes < 0.35e9


def test_a_models_shape_is_read_from_its_weights(tmp_path: Path) -> None:
    folder = find_models(WorkerSettings())
    shapes = {
        name: WhisperShape.read(folder.locate(entry.path) / "model.bin")
        for name, entry in folder.profile.whisper.models.items()
    }
    assert shapes == {"tiny.en": WhisperShape(4, 384), "base": WhisperShape(6, 512)}
    (tmp_path / "model.bin").write_bytes(b"no model")
    assert WhisperShape.read(tmp_path / "model.bin") == LARGE


def test_a_gpu_that_is_full_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find_models(WorkerSettings())
    assert 110e6 < folder.weights_bytes < 200e6
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10**8, 24 * 10**9))
    with pytest.raises(WorkerError, match="0.1 GB free and the models take 0.1: choose a GPU type"):
        choose_device(WorkerSettings(), folder)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (24 * 10**9, 24 * 10**9))
    device = choose_device(WorkerSettings(), folder)
    assert device.batch_size == 32
    assert set(device.streams) == {Stage.ALIGN, Stage.DIARIZE}  # beside CTranslate2's blocking one


def test_a_cpu_runs_one_thread_a_pass_and_one_pass_a_core() -> None:
    device = choose_device(WorkerSettings(device="cpu", cpu_threads=3))
    assert (device.name, device.lanes, device.threads) == ("cpu", 3, 1)
    with device.on_stream_of(Stage.ALIGN):
        pass


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "600000 100000\n"}, 6),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "3200000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_a_containers_quota_counts_and_not_its_hosts_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


def test_a_gpu_that_is_asked_for_and_not_there_is_told_with_the_remedy() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(WorkerError, match="set DEVICE=cpu") as caught:
        choose_device(WorkerSettings(device="cuda"))
    assert caught.value.code is FailureCode.MODEL_UNAVAILABLE


def test_precision_is_float32_on_purpose() -> None:
    torch.backends.cudnn.allow_tf32 = True
    set_precision()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("is_native", [True, False])
def test_lstms_multiply_in_bfloat16_where_the_cpu_does(
    monkeypatch: pytest.MonkeyPatch, *, is_native: bool
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: is_native)
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {"lstm": torch.nn.LSTM(20, 16, 2, batch_first=True), "linear": torch.nn.Linear(16, 3)}
    )
    windows = torch.randn(4, 50, 20)
    with torch.inference_mode():
        expected, (expected_state, _) = model["lstm"](windows)
        use_bfloat16(model)
        found, (state, _) = model["lstm"](windows)
    assert found.dtype == state.dtype == model["linear"].weight.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.02)
    assert torch.allclose(state, expected_state, atol=0.02)
    assert torch.equal(found, expected) != is_native
