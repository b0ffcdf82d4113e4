"""Rows here and there in files larger than memory: one wait for the disk, not one for each.

A memory-mapped row that must come from the disk makes its reader wait before the next is asked for,
and each page that is touched maps its neighbours too, which costs time and counts as memory. So
rows are read: first those that the system has in memory; then it is told of all the others, and
fetches them side by side.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = getattr(os, "RWF_NOWAIT", None)  # Linux: read what is in memory, else don't wait


class RowFile:
    """A file that holds rows of one width from `start` on, in bytes; open as long as it lives."""

    def __init__(self, path: Path, start: int, width: int) -> None:
        """Raises OSError if it can't be opened."""
        self.handle = os.open(path, os.O_RDONLY)
        self.start, self.width = start, width
        weakref.finalize(self, os.close, self.handle)

    def offsets(self, rows: NDArray[np.int64]) -> list[int]:
        offsets: list[int] = (self.start + self.width * rows.astype(np.int64)).tolist()
        return offsets


def read_scattered(
    wanted: Iterable[tuple[RowFile, NDArray[np.int64], NDArray[np.int64]]],
    into: NDArray[np.generic],
) -> None:
    """Read rows of files into an array (n, d), each to its place.

    wanted: (file, its rows (m,), their places in `into` (m,)). Raises OSError.
    """
    reads = [
        (file, offset, memoryview(into[place]).cast("B"))
        for file, rows, places in wanted
        for offset, place in zip(file.offsets(rows), places.tolist(), strict=True)
    ]
    missing = [read for read in reads if not _read_at_once(*read)]
    if hasattr(os, "posix_fadvise"):
        for file, offset, place in missing:
            os.posix_fadvise(file.handle, offset, len(place), os.POSIX_FADV_WILLNEED)
    for file, offset, place in missing:
        if os.preadv(file.handle, [place], offset) != len(place):
            raise OSError(f"the file ends before its row at {offset}")


def _read_at_once(file: RowFile, offset: int, place: memoryview) -> bool:
    """Read a row if it is in memory; say whether it was."""
    if _AT_ONCE is None:
        return False
    try:
        return os.preadv(file.handle, [place], offset, _AT_ONCE) == len(place)
    except OSError:  # not in memory, or a file system that can't tell
        return False
