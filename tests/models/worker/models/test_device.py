"""The device: what it takes at once, by its memory."""

from __future__ import annotations

import pytest
import torch

from bucketscribe_contract import FailureCode
from worker.errors import WorkerError
from worker.models.device import _cuda, choose_device, set_precision
from worker.settings import WorkerSettings

GIB = 1 << 30


@pytest.mark.parametrize(
    ("free_gib", "chunks", "windows"),
    [(2, 1, 1), (8, 2, 16), (24, 8, 128), (48, 32, 128)],
)
def test_batches_grow_with_the_gpus_memory(free_gib: int, chunks: int, windows: int) -> None:
    device = _cuda(WorkerSettings(), 8, free_gib * GIB, None)
    assert (device.batch_size, device.windows_batch_size) == (chunks, windows)
    assert (device.lanes, device.threads) == (1, 8)


def test_settings_go_before_measurements() -> None:
    settings = WorkerSettings(batch_size=5, windows_batch_size=7, compute_type="int8_float16")
    device = _cuda(settings, 8, 80 * GIB, None)
    assert (device.batch_size, device.windows_batch_size) == (5, 7)
    assert device.compute_type == "int8_float16"


def test_a_cpu_runs_one_thread_a_pass_and_one_pass_a_core() -> None:
    device = choose_device(WorkerSettings(device="cpu", cpu_threads=3))
    assert (device.name, device.lanes, device.threads) == ("cpu", 3, 1)
    with device.on_side_stream():
        pass


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
