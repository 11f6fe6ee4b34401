"""Memory peaks: of one job, not of the process; and never a reason to fail."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from worker import memory as peaks


def test_the_peak_is_that_since_the_beginning() -> None:
    before = np.ones(50_000_000, np.uint8)
    with_it = peaks.peaks_mb()["rss_peak_mb"]
    del before
    peaks.reset_peaks()
    without = peaks.peaks_mb()["rss_peak_mb"]
    assert without < with_it - 25
    again = np.ones(80_000_000, np.uint8)
    assert peaks.peaks_mb()["rss_peak_mb"] > without + 40
    del again


def gpu(**changes: Any) -> SimpleNamespace:
    calls = {
        "is_initialized": lambda: True,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_reserved": lambda: 3_100_000_000,
        "mem_get_info": lambda: (20_000_000_000, 24_000_000_000),
    }
    return SimpleNamespace(**(calls | changes))


def poisoned() -> Any:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_gpus_peaks_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "cuda_of_torch", gpu)
    measured = peaks.peaks_mb()
    assert (measured["cuda_torch_peak_mb"], measured["cuda_used_mb"]) == (3100, 4000)


def test_a_gpu_that_nothing_ran_on_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = gpu(is_initialized=lambda: False, reset_peak_memory_stats=poisoned)
    monkeypatch.setattr(peaks, "cuda_of_torch", lambda: idle)
    peaks.reset_peaks()
    assert list(peaks.peaks_mb()) == ["rss_peak_mb"]


def test_what_cannot_be_measured_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peaks, "cuda_of_torch", lambda: gpu(mem_get_info=poisoned))
    assert peaks.peaks_mb() == {}
    monkeypatch.setattr(peaks, "_PROC", tmp_path / "nonesuch")
    peaks.reset_peaks()
    assert peaks.peaks_mb() == {}
