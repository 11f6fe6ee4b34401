"""CTC: an emission and tokens in, their best path out, compiled with numba, without the GIL.

The topology is that of whisperx (``whisperx/alignment.py``), not that of
``torchaudio.functional.forced_align``: a token takes one frame, blanks may follow it. The same
float32 operations in the same order give the same path. Compiled code is kept in the numba cache
(``NUMBA_CACHE_DIR``, or beside this file); where there is none, `warm` compiles once a process.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
from numba.core import config
from numba.core.caching import UserProvidedCacheLocator

Emission = npt.NDArray[np.float32]
Frames = npt.NDArray[np.int64]
Fill = Callable[[Emission, Frames, int, Emission], None]
Walk = Callable[[Emission, Emission, Frames, int, Frames, Emission], bool]
F = TypeVar("F", Fill, Walk)

logger = logging.getLogger(__name__)
_lock = threading.Lock()
_functions: list[tuple[Fill, Walk]] = []


@dataclass(frozen=True)
class TokenPath:
    """Where each token lies.

    Attributes:
        bounds: Shape (n_tokens + 1,): token ``k`` takes frames ``bounds[k]`` up to, not
            including, ``bounds[k + 1]``.
        log_probabilities: Shape (bounds[-1] - bounds[0],): of each of these frames, the token's
            where it begins, else the blank's.
    """

    bounds: Frames
    log_probabilities: Emission


def find_path(emission: Emission, tokens: Frames, blank: int) -> TokenPath | None:
    """Return the best path of the tokens, or None where there is none.

    Args:
        emission: Log-probabilities, shape (n_frames, n_labels).
        tokens: Labels in order, shape (n_tokens,), at least one.
        blank: The label that means "no new token".
    """
    emission = np.ascontiguousarray(emission, np.float32)
    fill, walk = _compiled()
    trellis = np.empty((len(emission) + 1, len(tokens) + 1), np.float32)
    fill(emission, tokens, blank, trellis)
    bounds = np.empty(len(tokens) + 1, np.int64)
    log_probabilities = np.empty(len(emission), np.float32)
    if not walk(trellis, emission, tokens, blank, bounds, log_probabilities):
        return None
    return TokenPath(bounds, log_probabilities[bounds[0] : bounds[-1]])


def warm() -> None:
    """Compile, or load what is compiled: a worker calls it as it starts, a builder in the image."""
    started = time.perf_counter()
    find_path(np.zeros((2, 2), np.float32), np.ones(1, np.int64), 0)
    logger.info("alignment is compiled, in %.1f s", time.perf_counter() - started)


def fill_trellis(emission: Emission, tokens: Frames, blank: int, trellis: Emission) -> None:
    """Write the score of the best path to every (frame, token) into the trellis.

    Its first column, nothing said yet, is the running sum of blanks, in float64 as torch adds
    them up on the CPU; its end is infinite, so that the first token is said while there is time
    for the others. The maximum of a number and NaN is NaN, as torch has it.
    """
    n_frames, n_tokens = emission.shape[0], tokens.shape[0]
    blanks = np.float64(0.0)
    trellis[0, 0] = 0.0
    for t in range(n_frames):
        blanks += emission[t, blank]
        trellis[t + 1, 0] = blanks
    trellis[0, 1:] = -np.inf
    trellis[max(0, n_frames + 1 - n_tokens) :, 0] = np.inf
    for t in range(n_frames):
        stay = emission[t, blank]
        for j in range(n_tokens):
            stayed = trellis[t, j + 1] + stay
            changed = trellis[t, j] + emission[t, tokens[j]]
            is_stay = stayed > changed or stayed != stayed
            trellis[t + 1, j + 1] = stayed if is_stay else changed


def backtrack(
    trellis: Emission,
    emission: Emission,
    tokens: Frames,
    blank: int,
    bounds: Frames,
    log_probabilities: Emission,
) -> bool:
    """Follow the best path back into ``bounds`` and ``log_probabilities``.

    Returns:
        Whether every token was met.
    """
    j = tokens.shape[0]
    last = 0
    for t in range(1, trellis.shape[0]):
        score, best = trellis[t, j], trellis[last, j]
        if score > best or (score != score and best == best):
            last = t
    bounds[j] = last
    for t in range(last, 0, -1):
        stayed = trellis[t - 1, j] + emission[t - 1, blank]
        changed = trellis[t - 1, j - 1] + emission[t - 1, tokens[j - 1]]
        label = tokens[j - 1] if changed > stayed else blank
        log_probabilities[t - 1] = emission[t - 1, label]
        if changed > stayed:
            j -= 1
            bounds[j] = t - 1
            if j == 0:
                return True
    return False


class CopiedCacheLocator(UserProvidedCacheLocator):  # type: ignore[misc]  # numba is untyped
    """Numba cache that starts from the image's read-only copy.

    numba uses a cache only where it may also write. Named by ``NUMBA_CACHE_LOCATOR_CLASSES``, this
    takes ``NUMBA_CACHE_DIR`` where it can be written to, else a copy of it (under 0.1 MB) in the
    temporary folder.
    """

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Self | None:
        """Return a locator, or None where nothing can be written: numba then keeps nothing."""
        located: Self | None = super().from_function(py_func, py_file)
        if located is not None or not config.CACHE_DIR:
            return located
        located = cls(py_func, py_file)
        try:
            located._cache_path = str(_copied(Path(located._cache_path)))
            located.ensure_cache_path()
        except OSError:
            return None
        return located


def _compiled() -> tuple[Fill, Walk]:
    """Return both functions compiled; numba is imported here, for its import takes a second."""
    with _lock:
        if not _functions:
            _functions.append((_compile(fill_trellis), _compile(backtrack)))
    return _functions[0]


def _compile(function: F) -> F:
    import numba

    try:
        return numba.njit(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # nowhere to keep it: a read-only file system without NUMBA_CACHE_DIR
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


def _copied(baked: Path) -> Path:
    copy = Path(tempfile.gettempdir()) / "numba" / baked.name
    if baked.is_dir() and not copy.exists():
        shutil.copytree(baked, copy, copy_function=shutil.copyfile)
    return copy
