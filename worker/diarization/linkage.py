"""The dendrogram, without stopping the rest of the process.

`scipy.cluster.hierarchy.linkage` holds Python's lock all the time: for 4000 vectors 1 s, for
twice as many five times that, while transcription, progress and heartbeats stand still. Above
`INLINE_VECTORS` it runs in a process of its own, with the same function and the same bits, and
can be stopped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from scipy.cluster import hierarchy

INLINE_VECTORS = 1000
"""Up to here the lock is held for 0.08 s, and a process would take 0.5 s to start."""
POLL_S = 0.1

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def link(
    vectors: Floats, method: str, metric: str, check: Callable[[], None] = lambda: None
) -> npt.NDArray[np.float64]:
    """Link vectors as scipy does.

    Args:
        vectors: (n, dimension), n ≥ 2.
        method: scipy's.
        metric: scipy's.
        check: Called every 0.1 s; may raise to stop.

    Returns:
        (n - 1, 4): scipy's dendrogram.

    Raises:
        ChildProcessError: The process ended early, most likely for lack of memory.
    """
    if len(vectors) <= INLINE_VECTORS:
        return np.asarray(hierarchy.linkage(vectors, method=method, metric=metric))
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as answer:
        np.save(given, np.array([method, metric]))
        np.save(given, np.ascontiguousarray(vectors))
        given.seek(0)
        _run(given, answer, len(vectors), check)
        answer.seek(0)
        dendrogram: npt.NDArray[np.float64] = np.load(answer)
    return dendrogram


def _run(given: IO[bytes], answer: IO[bytes], n: int, check: Callable[[], None]) -> None:
    """Run the process on files: no pipe can fill up while nobody reads."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("linkage_process.py"))]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # linkage uses no more
    with subprocess.Popen(  # noqa: S603  # our own file
        command,
        stdin=given,
        stdout=answer,
        stderr=subprocess.DEVNULL,
        env=os.environ | one_thread,
    ) as process:
        try:
            code = _wait(process, check)
        except BaseException:
            process.kill()
            raise
    if code != 0:
        raise ChildProcessError(
            f"clustering {n} speaker embeddings ended early ({code}): it needs "
            f"{8 * n * n / 1e9:.1f} GB of memory; send parts with clip"
        )


def _wait(process: subprocess.Popen[bytes], check: Callable[[], None]) -> int:
    while True:
        check()
        try:
            return process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            continue
