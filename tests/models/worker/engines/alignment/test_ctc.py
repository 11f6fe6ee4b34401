"""The path is that of whisperx to the bit: of equals the same, and where numbers are none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from whisperx.alignment import backtrack, get_trellis

from worker.engines.alignment.ctc import Emission, find_path

Tokens = npt.NDArray[np.int64]
Problem = tuple[Emission, Tokens]
BLANK = 0
Path = tuple[list[int], list[float]] | None


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """An emission of whole numbers, whose sums are exact, and tokens to find in it."""
    n_frames, n_labels = draw(st.integers(1, 9)), draw(st.integers(2, 4))
    scores = st.lists(st.integers(-40, 0), min_size=n_labels, max_size=n_labels)
    emission = draw(st.lists(scores, min_size=n_frames, max_size=n_frames))
    tokens = draw(st.lists(st.integers(1, n_labels - 1), min_size=1, max_size=5))
    return np.array(emission, np.float32), np.array(tokens, np.int64)


def stock_path(emission: Emission, tokens: Tokens) -> Path:
    """The bounds and probabilities that whisperx finds."""
    heard = torch.from_numpy(emission)
    trellis = get_trellis(heard, tokens.tolist(), BLANK)
    path = backtrack(trellis, heard, tokens.tolist(), BLANK)
    if path is None:
        return None
    firsts = [
        p.time_index
        for p, before in zip(path, [None, *path], strict=False)
        if before is None or p.token_index != before.token_index
    ]
    return [*firsts, path[-1].time_index + 1], [point.score for point in path]


def our_path(emission: Emission, tokens: Tokens) -> Path:
    """The same of ours."""
    path = find_path(emission, tokens, BLANK)
    if path is None:
        return None
    return path.bounds.tolist(), torch.exp(torch.from_numpy(path.log_probabilities)).tolist()


@given(problems())
@settings(deadline=None, max_examples=300)
def test_of_equal_paths_it_is_the_one_that_whisperx_takes(problem: Problem) -> None:
    assert our_path(*problem) == stock_path(*problem)


@pytest.mark.parametrize("seed", range(12))
def test_paths_through_long_emissions_are_those_of_whisperx(seed: int) -> None:
    random = np.random.default_rng(seed)
    flat = random.normal(0, [0.001, 0.1, 4][seed % 3], (1499, 32)).astype(np.float32)
    emission = torch.log_softmax(torch.from_numpy(flat), -1).numpy()
    tokens = random.integers(1, 32, [700, 40, 1499, 1][seed % 4])
    assert our_path(emission, tokens) == stock_path(emission, tokens)


@given(problems(), st.data())
@settings(deadline=None)
def test_numbers_that_are_none_lead_where_they_lead_whisperx(
    problem: Problem, data: st.DataObject
) -> None:
    emission, tokens = problem
    frame = data.draw(st.integers(0, len(emission) - 1))
    emission[frame, data.draw(st.integers(0, emission.shape[1] - 1))] = np.nan
    assert repr(our_path(emission, tokens)) == repr(stock_path(emission, tokens))
