"""Rows here and there in files larger than memory: one wait for the disk, not one for each.

A memory-mapped row that must come from the disk makes its reader wait before the next is asked for,
and each page that is touched maps its neighbours too, which costs time and counts as memory. So
rows are read: first those that the system has in memory; then it is told of all the others, and
fetches them side by side.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = getattr(os, "RWF_NOWAIT", None)  # Linux: read what is in memory, else don't wait


_Read = tuple[int, int, memoryview]  # from which open file, from where in it, to where


class OpenFile:
    """A file open for reading as long as this lives; `handle` is the system's number of it."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if it can't be opened."""
        self.handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.handle)


def read_scattered(
    handles: Sequence[int], offsets: Sequence[int], into: NDArray[np.generic]
) -> None:
    """Read each row of a C-contiguous array (n, d): from an open file (n,), at an offset (n,).

    Raises OSError if one can't be read, or its file ends before it.
    """
    if not into.flags.c_contiguous:
        raise ValueError("rows are read into an array that is C-contiguous")
    width = into.itemsize * into.shape[1]  # no stride: without rows that is 0
    memory = into.view(np.uint8).reshape(-1).data
    places = [memory[at : at + width] for at in range(0, len(memory), width)]
    reads = list(zip(handles, offsets, places, strict=True))
    missing = reads if _AT_ONCE is None else _read_at_once(reads, _AT_ONCE)
    if hasattr(os, "posix_fadvise"):
        for handle, offset, _ in missing:
            os.posix_fadvise(handle, offset, width, os.POSIX_FADV_WILLNEED)
    for handle, offset, place in missing:
        if os.preadv(handle, [place], offset) != width:
            raise OSError(f"the file ends before its row at {offset}")


def _read_at_once(reads: list[_Read], flag: int) -> list[_Read]:
    """Read the rows that are in memory; return the others."""
    missing = []
    for read in reads:
        handle, offset, place = read
        try:
            if os.preadv(handle, [place], offset, flag) != len(place):
                missing.append(read)
        except OSError:  # not in memory, or a file system that can't tell
            missing.append(read)
    return missing
