"""Forwards that are seen, remembered and done again; what the stages alone are given."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from bench.corpus import Utterance
from bench.speed.floor import replay
from bench.speed.measure import ForwardMemory, ForwardRecorder, around_forwards
from bench.speed.stages import as_segments


def watching(seen: list[str]) -> Callable[..., Any]:
    """Note what is called."""

    def watch(what: str, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        seen.append(what)
        return call(*args, **named)

    return watch


def test_the_outermost_forward_is_seen_and_what_is_inside_is_not() -> None:
    """Nothing is seen after the block."""
    seen: list[str] = []
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    with around_forwards(watching(seen)):
        layers(torch.ones(1, 2))
        layers[0](torch.ones(1, 2))
    layers(torch.ones(1, 2))
    assert seen == ["Sequential", "Linear"]


def test_a_forward_split_over_threads_is_one_and_another_stages_is_another() -> None:
    """Threads that carry the context belong to the forward; others do not."""
    layer = torch.nn.Linear(2, 2)

    class Split(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            context = contextvars.copy_context()
            with ThreadPoolExecutor(1) as lane:
                own: torch.Tensor = lane.submit(context.run, layer, rows).result()
                lane.submit(layer, rows).result()
            return own

    seen: list[str] = []
    with around_forwards(watching(seen)):
        Split()(torch.ones(1, 2))
    assert seen == ["Split", "Linear"]


def test_a_remembered_forward_is_not_done_again() -> None:
    """By its input's values; a result that was changed in place is still as it was."""
    double = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(double.weight, 2.0)
    with torch.inference_mode(), around_forwards(ForwardMemory()):
        first = double(torch.ones(1, 1))
        assert double(torch.full((1, 1), 3.0)).item() == 6.0
        first += 100
        double.weight.fill_(5.0)
        assert double(torch.ones(1, 1)).item() == 2.0


def test_a_recorded_input_is_as_it_went_in() -> None:
    """Also where its buffer was filled anew, and the replay times every model."""
    recorder, buffer, layer = ForwardRecorder(), torch.ones(1, 2), torch.nn.Linear(2, 2)
    with around_forwards(recorder):
        layer(buffer)
        buffer.zero_()
    [(what, _, (model, given), _)] = recorder.calls
    assert (what, model, given.sum().item()) == ("Linear", layer, 2.0)
    assert replay(recorder.calls).keys() == {"Linear"}


def test_segments_are_as_long_as_whispers_chunks() -> None:
    """Up to 30 s each; those that end too late are left out."""
    said = [Utterance(10.0 * i, 10.0 * i + 9, "A", f"number {i}.") for i in range(7)]
    found = as_segments(said, until_s=65.0)
    assert [(s["start"], s["end"]) for s in found] == [(0.0, 29.0), (30.0, 59.0)]
    assert found[0]["text"] == " number 0. number 1. number 2."
