"""The trellis and the way back through it, against every path there is."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.engines.alignment import ctc
from worker.engines.alignment.ctc import TokenPath, find_path, warm

BLANK = 0


@st.composite
def problems(draw: st.DrawFn) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """An emission of whole numbers, whose sums are exact, and tokens to find in it."""
    n_frames, n_labels = draw(st.integers(1, 9)), draw(st.integers(2, 4))
    scores = st.lists(st.integers(-40, 0), min_size=n_labels, max_size=n_labels)
    emission = draw(st.lists(scores, min_size=n_frames, max_size=n_frames))
    tokens = draw(st.lists(st.integers(1, n_labels - 1), min_size=1, max_size=5))
    return np.array(emission, np.float32), np.array(tokens, np.int64)


def best_score(
    emission: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64], last: int
) -> float:
    """The best of all ways to say the tokens, one frame each, in frames up to ``last``."""
    n = len(tokens)
    return max(
        sum(emission[t, tokens[places.index(t)] if t in places else BLANK] for t in range(last))
        for places in combinations(range(last), n)
    )


def score_of(
    emission: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64], path: TokenPath
) -> float:
    """The score of a path: blanks before it, and what it says of each of its frames."""
    said = sum(
        emission[t, token if t == start else BLANK]
        for token, start, end in zip(tokens, path.bounds, path.bounds[1:], strict=False)
        for t in range(start, end)
    )
    return float(emission[: path.bounds[0], BLANK].sum() + said)


@given(problems())
@settings(max_examples=300, deadline=None)
def test_no_other_path_is_better(
    problem: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    emission, tokens = problem
    path = find_path(emission, tokens, BLANK)
    if len(tokens) > len(emission):
        assert path is None
        return
    assert path is not None
    last = int(path.bounds[-1])
    assert (np.diff(path.bounds) >= 1).all()
    assert score_of(emission, tokens, path) == best_score(emission, tokens, last)
    ends = range(len(tokens), len(emission) + 1)
    assert best_score(emission, tokens, last) == max(best_score(emission, tokens, t) for t in ends)


def stock_path(
    emission: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64]
) -> tuple[list[int], list[float]] | None:
    """The bounds and probabilities that whisperx finds."""
    import torch
    from whisperx.alignment import backtrack, get_trellis

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


def our_path(
    emission: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64]
) -> tuple[list[int], list[float]] | None:
    """The same of ours."""
    import torch

    path = find_path(emission, tokens, BLANK)
    if path is None:
        return None
    return path.bounds.tolist(), torch.exp(torch.from_numpy(path.log_probabilities)).tolist()


@pytest.mark.models
@given(problems())
@settings(deadline=None)
def test_of_equal_paths_it_is_the_one_that_whisperx_takes(
    problem: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    assert our_path(*problem) == stock_path(*problem)


@pytest.mark.models
@pytest.mark.parametrize("seed", range(12))
def test_paths_through_long_emissions_are_those_of_whisperx(seed: int) -> None:
    import torch

    random = np.random.default_rng(seed)
    flat = random.normal(0, [0.001, 0.1, 4][seed % 3], (1499, 32)).astype(np.float32)
    emission = torch.log_softmax(torch.from_numpy(flat), -1).numpy()
    tokens = random.integers(1, 32, [700, 40, 1499, 1][seed % 4])
    assert our_path(emission, tokens) == stock_path(emission, tokens)


@pytest.mark.models
def test_the_trellis_is_that_of_whisperx_to_the_bit() -> None:
    import torch
    from whisperx.alignment import get_trellis

    heard = torch.log_softmax(torch.from_numpy(np.random.default_rng(0).normal(0, 4, (800, 9))), -1)
    emission, tokens = heard.float().numpy(), np.arange(300) % 8 + 1
    trellis = np.empty((801, 301), np.float32)
    fill, _ = ctc._compiled()
    fill(emission, tokens, BLANK, trellis)
    assert np.array_equal(trellis, get_trellis(torch.from_numpy(emission), tokens.tolist(), BLANK))


@pytest.mark.models
@given(problems(), st.data())
@settings(deadline=None)
def test_numbers_that_are_none_lead_where_they_lead_whisperx(
    problem: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]], data: st.DataObject
) -> None:
    emission, tokens = problem
    frame = data.draw(st.integers(0, len(emission) - 1))
    emission[frame, data.draw(st.integers(0, emission.shape[1] - 1))] = np.nan
    assert repr(our_path(emission, tokens)) == repr(stock_path(emission, tokens))


def test_each_frame_has_the_probability_of_what_it_says() -> None:
    emission = np.log([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]]).astype(np.float32)
    path = find_path(emission, np.array([1, 1]), BLANK)
    assert path is not None
    assert path.bounds.tolist() == [1, 3, 4]
    assert np.exp(path.log_probabilities) == pytest.approx([0.8, 0.7, 0.6])


def test_numbers_that_are_none_have_no_path() -> None:
    assert find_path(np.full((5, 3), np.nan, np.float32), np.array([1, 2]), BLANK) is None


def test_compiled_code_runs_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import numba

    compile_it = numba.njit

    def refuse(**options: bool) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_it(**options)

    monkeypatch.setattr(numba, "njit", refuse)
    monkeypatch.setattr(ctc, "_functions", [])
    warm()
    assert len(ctc._functions) == 2
