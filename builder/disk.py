"""A full disk, said in our words."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.errors import DiskFull

FULL = {errno.ENOSPC, errno.EDQUOT}
REMEDY = "free some space, or choose another with --into and --downloads"


@contextmanager
def named_when_full(folder: Path) -> Iterator[None]:
    """Translate "no space left" and "quota exceeded", met anywhere inside.

    Raises:
        DiskFull: Names the folder that was written into.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno not in FULL:
            raise
        raise DiskFull(f"the disk of {folder} is full: {REMEDY}") from exc
