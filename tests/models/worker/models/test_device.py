"""The device: what it takes at once, by its memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bucketscribe_contract import FailureCode
from worker.errors import WorkerError
from worker.models.device import Device, _cuda, choose_device, set_precision
from worker.settings import WorkerSettings

OWN = {"batch_size": 5, "windows_batch_size": 7, "compute_type": "int8_float16"}


@pytest.mark.parametrize(
    ("free_gib", "asked", "device"),
    [
        (2, {}, Device("cuda", "float16", 1, 1, 1, 8)),
        (8, {}, Device("cuda", "float16", 2, 16, 1, 8)),
        (24, {}, Device("cuda", "float16", 8, 128, 1, 8)),
        (48, {}, Device("cuda", "float16", 32, 128, 1, 8)),
        (80, OWN, Device("cuda", "int8_float16", 5, 7, 1, 8)),
    ],
)
def test_batches_grow_with_the_gpus_memory_unless_settings_say(
    free_gib: int, asked: Any, device: Device
) -> None:
    assert _cuda(WorkerSettings(**asked), 8, free_gib << 30, None) == device


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
