"""SincNet's filters, shared by windows that overlap, against each window by itself."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from tests.recordings import telephone_speech
from worker.engines.segmentation import WindowGrid, segmentation_of
from worker.models.load import Models
from worker.models.sincnet import SharedFilters, share_filters
from worker.types import Samples

GRID = WindowGrid(10.0, 1.0)
WINDOWS = range(8)


@pytest.fixture
def model(models: Models) -> nn.Module:
    """The segmentation by itself, without CPU lanes."""
    model: nn.Module = deepcopy(segmentation_of(models.diarization.model).model)
    del model.forward
    return model


def score(model: nn.Module, samples: Samples, windows: Sequence[int] = WINDOWS) -> torch.Tensor:
    """Run the model in its own precision."""
    cut = GRID.cut(samples, windows, torch.device("cpu"))
    with torch.inference_mode():
        scores: torch.Tensor = model(cut.to(next(model.parameters()).dtype))
    return scores


def silent_in_part(samples: Samples) -> Samples:
    return np.where(np.arange(len(samples)) < 160_000, 0, samples).astype(np.int16)


@pytest.mark.parametrize(
    "change",
    [
        lambda samples: samples,
        lambda samples: samples // 300,
        lambda samples: samples // 8 + 12_000,
        silent_in_part,
    ],
    ids=["speech", "faint", "with an offset", "silent at first"],
)
def test_scores_are_about_as_close_to_float64_as_those_of_each_window_alone(
    model: nn.Module, change: Callable[[Samples], Samples]
) -> None:
    samples = change(telephone_speech()).astype(np.int16)
    exact = score(deepcopy(model).double(), samples)
    alone = score(model, samples)
    share_filters(model, GRID.hop)
    shared = score(model, samples)
    assert not torch.equal(shared, alone)
    assert (shared - exact).abs().mean() < 1.5 * (alone - exact).abs().mean()


def test_windows_that_do_not_follow_each_other_are_filtered_by_themselves(
    model: nn.Module,
) -> None:
    apart = [0, 4, 5, 2]
    expected = score(model, telephone_speech(), apart)
    share_filters(model, GRID.hop)
    assert torch.equal(score(model, telephone_speech(), apart), expected)


def test_filters_are_not_shared_where_frames_would_lie_between_frames(model: nn.Module) -> None:
    share_filters(model, GRID.hop + 1)
    share_filters(nn.Linear(1, 1), GRID.hop)
    assert not any(isinstance(part, SharedFilters) for part in model.modules())
