"""The two kinds of FAISS file that fc7 writes, to the byte.

faiss reads any index of its own, and believes the numbers in it: a file from elsewhere could make
it take all memory, or crash. So it is only given a file that is laid out as it writes ours, where
every byte is known but those of the rows, the ids and the codes.

rows    IDMap2 over ScalarQuantizer fp16: head, size of the rows, rows, number of ids, ids
codes   BinaryFlat: head, size of the codes, codes; these are read without faiss
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import SearchError

_FP16 = 4  # faiss.ScalarQuantizer.QT_fp16
_L2 = 1  # faiss.METRIC_L2
_UNUSED = 1 << 20  # faiss writes it twice into each head
_ROWS_START = 118  # bytes before the first row
_CODES_START = 33
_NUMBER = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class RowsLayout:
    """Where the rows of a file are: (count, width) fp16, from a byte on."""

    width: int
    count: int
    start: int = _ROWS_START


def read_layout(path: Path) -> RowsLayout:
    """What a file of rows says of itself. Raises SearchError unless it is laid out as ours are."""
    try:
        with _open(path) as file:
            head = file.read(_ROWS_START)
            width, count = struct.unpack_from("<iq", head.ljust(16, b"\0"), 4)
            if width < 1 or count < 0 or head != _rows_head(width, count):
                raise _damaged(path)
            file.seek(2 * width * count, 1)
            ids = file.read(_NUMBER.size)
            if ids != _NUMBER.pack(count) or _left(file) != 8 * count:
                raise _damaged(path)
    except (OSError, OverflowError) as error:
        raise _damaged(path) from error
    return RowsLayout(width, count)


def read_codes(path: Path) -> NDArray[np.uint8]:
    """Read codes (n, bits / 8). Raises SearchError if the file is missing or damaged."""
    try:
        with _open(path) as file:
            head = file.read(_CODES_START)
            bits, _, count = struct.unpack_from("<iiq", head.ljust(20, b"\0"), 4)
            if bits < 8 or bits % 8 or count < 0 or head != _codes_head(bits, count):
                raise _damaged(path)
            if _left(file) != bits // 8 * count:
                raise _damaged(path)
            codes = np.fromfile(file, np.uint8).reshape(count, bits // 8)
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    return codes


def _rows_head(width: int, count: int) -> bytes:
    """Raises OverflowError where there can't be so many."""
    head = struct.pack("<iqqq?i", width, count, _UNUSED, _UNUSED, True, _L2)
    size = 2 * width
    try:
        quantizer = struct.pack("<iifQQQQ", _FP16, 0, 0.0, width, size, 0, size * count)
    except struct.error as error:
        raise OverflowError from error
    return b"IxM2" + head + b"IxSQ" + head + quantizer


def _codes_head(bits: int, count: int) -> bytes:
    size = bits // 8
    try:
        return struct.pack("<4siiq?iQ", b"IBxF", bits, size, count, True, _L2, size * count)
    except struct.error as error:
        raise ValueError from error


def _open(path: Path) -> BinaryIO:
    """Raises SearchError for what is no file: a pipe would block."""
    if not path.is_file():
        raise _damaged(path)
    return path.open("rb")


def _left(file: BinaryIO) -> int:
    """How many bytes follow in an open file."""
    here = file.tell()
    left = file.seek(0, 2) - here
    file.seek(here)
    return left


def _damaged(path: Path) -> SearchError:
    return SearchError(f"{path} is missing or damaged")
