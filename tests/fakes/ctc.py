"""Emissions of whole numbers, whose sums are exact, and tokens to find in them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

Emission, Tokens = npt.NDArray[np.float32], npt.NDArray[np.int64]
Problem = tuple[Emission, Tokens]
BLANK = 0


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """An emission of whole numbers, whose sums are exact, and tokens to find in it."""
    n_frames, n_labels = draw(st.integers(1, 9)), draw(st.integers(2, 4))
    scores = st.lists(st.integers(-40, 0), min_size=n_labels, max_size=n_labels)
    emission = draw(st.lists(scores, min_size=n_frames, max_size=n_frames))
    tokens = draw(st.lists(st.integers(1, n_labels - 1), min_size=1, max_size=5))
    return np.array(emission, np.float32), np.array(tokens, np.int64)
