"""Where numba keeps compiled code in an image: it begins with what the build compiled.

numba uses a cache only where it may also write, and a worker may not write to its image. Named by
``NUMBA_CACHE_LOCATOR_CLASSES``, this copies ``NUMBA_CACHE_DIR`` (under 0.1 MB) into the temporary
folder first. Code for a CPU, a source or a numba of another kind is compiled as ever.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

from numba.core import config
from numba.core.caching import UserProvidedCacheLocator


class CopiedCacheLocator(UserProvidedCacheLocator):  # type: ignore[misc]  # numba is untyped
    """`NUMBA_CACHE_DIR` where it can be written to, else a copy of it."""

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


def _copied(baked: Path) -> Path:
    copy = Path(tempfile.gettempdir()) / "numba" / baked.name
    if baked.is_dir() and not copy.exists():
        shutil.copytree(baked, copy, copy_function=shutil.copyfile)
    return copy
