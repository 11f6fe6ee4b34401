"""Memory: smaller batches, growth, trims of the heap, peaks of one job."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bucketscribe_contract import FailureCode, Stage
from worker import memory
from worker.errors import WorkerError
from worker.memory import MemoryGrowth, is_out_of_memory, is_poisoned, with_smaller_batches

# torch 2.8.0 (paths below aten/src/ATen and c10), CTranslate2 4.8.5 and the thrust 2.7 in it
OUT_OF_MEMORY = {
    "c10/cuda/CUDACachingAllocator.cpp": [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB",
        'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/pytorch/c10/cuda/CUDACachingAllocator.cpp"',
    ],
    "c10/cuda/CUDAException.cpp": ["CUDA error: out of memory\nCUDA kernel errors might be"],
    "c10/cuda/driver_api.h": ["CUDA driver error: out of memory"],
    "c10/core/impl/alloc_cpu.cpp": [
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"
    ],
    "ATen/cuda/Exceptions.h": [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    ],
    "ATen/native/cudnn/Conv_v8.cpp": [
        "GET was unable to find an engine to execute this computation",
        "FIND was unable to find an engine to execute this computation",
    ],
    "ATen/native/cudnn/Conv_v7.cpp": [
        "Unable to find a valid cuDNN algorithm to run convolution",
    ],
    "ATen/native/cuda/CuFFTUtils.h": ["cuFFT error: CUFFT_ALLOC_FAILED"],
    "CTranslate2 src/cuda/utils.h": [
        "CUDA failed with error out of memory",
        "cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED",
    ],
    "thrust/system/cuda/error.inl": [
        "parallel_for failed: cudaErrorMemoryAllocation: out of memory",
        "get_max_shared_memory_per_block : cudaErrorMemoryAllocation",
    ],
    "libstdc++": ["std::bad_alloc"],
}
POISONED = {
    "c10/cuda/CUDAException.cpp": [
        "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be",
        "CUDA error: device-side assert triggered",
        "CUDA error: unspecified launch failure",
        "CUDA error: the launch timed out and was terminated",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: uncorrectable NVLink error detected during the execution",
        "CUDA error: misaligned address",
        "CUDA error: an illegal instruction was encountered",
        "CUDA error: hardware stack error",
        "CUDA error: unknown error",
    ],
    "c10/cuda/driver_api.h": ["CUDA driver error: unknown error"],
    "ATen/cuda/Exceptions.h": [
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "cuDNN Frontend error: [cudnn_frontend] Error: No execution plans",
    ],
    "ATen/native/cuda/CuFFTUtils.h": ["cuFFT error: CUFFT_EXEC_FAILED"],
    "CTranslate2 src/cuda/utils.h": [
        "CUDA failed with error an illegal memory access was encountered",
        "cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED",
    ],
    "thrust/system/cuda/error.inl": [
        "parallel_for failed: cudaErrorIllegalAddress: an illegal memory access was encountered",
        "trivial_device_copy D->H failed: cudaErrorLaunchFailure: unspecified launch failure",
        "transform: failed to synchronize: cudaErrorAssert: device-side assert triggered",
    ],
}
NEITHER = {
    "torch": [
        "shapes do not match",
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0",
        "Torch not compiled with CUDA enabled",
    ]
}


@pytest.mark.parametrize(
    ("source", "message", "is_memory", "poison"),
    [
        (source, message, rows is OUT_OF_MEMORY, rows is POISONED)
        for rows in (OUT_OF_MEMORY, POISONED, NEITHER)
        for source, messages in rows.items()
        for message in messages
    ],
)
def test_errors_are_told_apart(source: str, message: str, is_memory: bool, poison: bool) -> None:
    error = RuntimeError(message)
    assert is_out_of_memory(error) is is_memory, source
    assert is_poisoned(error) is poison, source
    strict = WorkerError(FailureCode.INTERNAL, "strict", Stage.ALIGN)
    strict.__cause__ = error
    assert is_poisoned(strict) is poison
    batches = []

    def run(batch: int) -> None:
        batches.append(batch)
        if batch == 2:
            raise error

    with pytest.raises(RuntimeError) if not is_memory else nullcontext():
        with_smaller_batches(Stage.TRANSCRIBE, 2, run)
    assert batches == ([2, 1] if is_memory else [2])


def test_pythons_own_memory_error_counts_and_other_kinds_of_errors_do_not() -> None:
    assert is_out_of_memory(MemoryError("batch_size ( 32) is probably too large. "))
    assert not is_out_of_memory(ValueError("out of memory of what was said"))


def test_batches_are_halved_until_one_fits() -> None:
    tried = []

    def run(batch: int) -> str:
        tried.append(batch)
        if batch > 5:
            raise RuntimeError("out of memory")
        return "done"

    assert with_smaller_batches(Stage.SPEECH, 32, run) == ("done", ("BATCH_REDUCED: speech 4",))
    assert tried == [32, 16, 8, 4]


def gpu(**changes: Any) -> SimpleNamespace:
    calls = {
        "is_initialized": lambda: True,
        "memory_allocated": lambda: 0,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_reserved": lambda: 3_100_000_000,
        "mem_get_info": lambda: (20_000_000_000, 24_000_000_000),
    }
    return SimpleNamespace(**(calls | changes))


def poisoned() -> Any:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(
    ("host_mb", "gpu_mb", "size", "is_too_much"),
    [
        (4000, 800, (60, 1), False),
        (5900, 1000, (60, 1), False),
        (6100, 800, (60, 1), True),
        (4000, 1210, (50, 1), True),
        (6100, 1210, (61, 1), False),  # a longer recording
        (6100, 1210, (10, 2), False),  # another language's aligner
    ],
)
def test_growth_is_seen_against_the_largest_job(
    monkeypatch: pytest.MonkeyPatch,
    host_mb: int,
    gpu_mb: int,
    size: tuple[int, int],
    is_too_much: bool,
) -> None:
    kept_mb, cached_mb = [4000, 800], [5000]  # what torch's allocator keeps is no growth
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=kept_mb[0] * 1_000_000))
    cuda = gpu(
        memory_allocated=lambda: (kept_mb[1] + cached_mb[0]) * 1_000_000,
        empty_cache=lambda: cached_mb.__setitem__(0, 0),
    )
    monkeypatch.setattr("psutil.Process", lambda: process)
    monkeypatch.setattr(memory, "cuda_of_torch", lambda: cuda)
    growth = MemoryGrowth(share=0.5)
    assert not growth.is_too_much(60, 1)
    assert not growth.is_too_much(5, 0)
    kept_mb[:], cached_mb[:] = (host_mb, gpu_mb), [9000]
    assert growth.is_too_much(*size) is is_too_much
    kept_mb[:] = 2 * host_mb, gpu_mb
    assert growth.is_too_much(*size)


def output_of(program: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_free_memory_goes_back_to_the_system() -> None:
    without, with_it = output_of("""
import resource
from worker.memory import trim_heap, tune_malloc

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

tune_malloc()
blocks = [bytearray(60_000) for _ in range(2000)]
kept = blocks[-1]
before = resident()
del blocks
held = resident()
trim_heap()
print(before - held, before - resident())
""")
    assert without < 20_000_000
    assert with_it > 100_000_000


def test_threads_share_arenas() -> None:
    (arenas,) = output_of("""
import ctypes, re, tempfile, threading
from worker.memory import tune_malloc
tune_malloc()
gate = threading.Barrier(6)
def allocate():
    block = ctypes.CDLL(None).malloc(5000)
    gate.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
[t.start() for t in threads]; [t.join() for t in threads]
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(len(re.findall(rb"<heap nr", file.read())))
""")
    assert arenas <= 2


def test_inputs_of_ever_new_lengths_leave_nothing_behind() -> None:
    (grown,) = output_of("""
import resource
from worker.memory import tune_malloc
tune_malloc()
import torch
torch.set_num_threads(1)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

convolve = torch.nn.Conv1d(16, 16, 10, 5)
with torch.inference_mode():
    for number in range(600):
        if number == 200:
            before = resident()
        convolve(torch.zeros(1, 16, 1000 + 10 * number))
print(resident() - before)
""")
    assert grown < 50_000_000  # 0 to 20, and 110 otherwise


def test_the_heap_is_trimmed_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    now, trimmed = [100.0], []
    monkeypatch.setattr(memory.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(memory, "trim_heap", lambda: trimmed.append(now[0]))
    trim = memory.HeapTrimmer()
    for now[0] in (100.1, 101.9, 102.1, 102.2, 104.0, 104.2):
        trim()
    assert trimmed == [102.1, 104.2]


def test_a_peak_is_that_since_the_reset() -> None:
    before = np.ones(50_000_000, np.uint8)
    with_it = memory.peaks_mb()["rss_peak_mb"]
    del before
    memory.trim_heap()  # a worker that was made in this process keeps what is freed
    memory.reset_peaks()
    without = memory.peaks_mb()["rss_peak_mb"]
    assert without < with_it - 25
    again = np.ones(80_000_000, np.uint8)
    assert memory.peaks_mb()["rss_peak_mb"] > without + 40
    del again


def test_a_gpus_peaks_are_told_where_they_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "cuda_of_torch", gpu)
    measured = memory.peaks_mb()
    assert (measured["cuda_torch_peak_mb"], measured["cuda_used_mb"]) == (3100, 4000)
    idle = gpu(is_initialized=lambda: False, reset_peak_memory_stats=poisoned)
    monkeypatch.setattr(memory, "cuda_of_torch", lambda: idle)
    memory.reset_peaks()
    assert list(memory.peaks_mb()) == ["rss_peak_mb"]
    monkeypatch.setattr(memory, "cuda_of_torch", lambda: gpu(mem_get_info=poisoned))
    assert list(memory.peaks_mb()) == ["rss_peak_mb"]
    monkeypatch.setattr(memory, "_PROC", Path("/nonesuch"))
    memory.reset_peaks()
    assert memory.peaks_mb() == {}
