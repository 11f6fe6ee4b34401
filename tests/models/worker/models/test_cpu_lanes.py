"""CPU lanes: a batch in parts gives what the batch gives, under the caller's own modes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from worker.models.cpu_lanes import CpuLanes


class Weighted(nn.Module):
    """Takes a batch, perhaps weights, and something that is no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(
        self, rows: Tensor, weights: Tensor | None = None, scale: Tensor | None = None
    ) -> Tensor:
        """Give (batch, 3)."""
        self.seen.append((len(rows), torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        out = self.linear(rows)
        out = out if weights is None else out * weights
        return out if scale is None else out * scale


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("count", [1, 3])
def test_parts_make_the_whole(rows: int, count: int) -> None:
    module = Weighted()
    batch, weights, scale = torch.rand(rows, 4), torch.rand(rows, 1), torch.tensor(2.0)
    whole = module(batch, weights=weights, scale=scale)
    module.seen.clear()
    CpuLanes(count).spread(module)
    assert torch.allclose(module(batch, weights=weights, scale=scale), whole)
    assert len(module.seen) == min(rows, -(-rows // -(-rows // count)))


def test_a_core_is_free_again_after_an_error_and_its_memory_after_a_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes, free = CpuLanes(1), []
    monkeypatch.setattr(lanes, "_trim", lambda: free.append(lanes._cores._value))
    with pytest.raises(KeyError), lanes.core():
        raise KeyError
    with lanes.core():
        assert free == []
    assert free == [1]


def test_all_modules_share_the_cores() -> None:
    lanes, running = CpuLanes(2), set[object]()
    at_once: list[int] = []

    class Slow(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            me = object()
            running.add(me)
            at_once.append(len(running))
            time.sleep(0.05)
            running.remove(me)
            return rows

    modules = [Slow() for _ in range(4)]
    for module in modules:
        lanes.spread(module)
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(m, torch.rand(n, 4)) for n in (1, 2) for m in modules]
        assert all(run.result() is not None for run in runs)
    assert max(at_once) == 2


def test_the_callers_modes_hold_in_the_lanes() -> None:
    module = Weighted()
    CpuLanes(2).spread(module)
    with torch.inference_mode():
        assert module(torch.rand(4, 4)).is_inference()
    assert module.seen == [(2, False, True)] * 2
    with torch.no_grad():
        assert not module(torch.rand(4, 4)).requires_grad


def test_an_error_of_a_part_is_the_callers_and_hooks_see_the_batch_once() -> None:
    module, seen = Weighted(), []
    CpuLanes(2).spread(module)
    module.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    with pytest.raises(RuntimeError, match="shapes"):
        module(torch.rand(6, 5))
    assert seen == [6]


def test_a_lane_never_waits_for_a_lane() -> None:
    inner, lanes = nn.Linear(4, 3), CpuLanes(2)
    outer = nn.Sequential(inner)
    lanes.spread(inner)
    lanes.spread(outer)
    assert outer(torch.rand(8, 4)).shape == (8, 3)
