"""SQLite's write-ahead log, looked at before SQLite does.

SQLite takes the first damaged frame for the end of the log, which lies there after its process was
killed. A frame that a power loss cut off is in the last transaction, since each was synced before
the next began; where a whole transaction lies behind a damaged frame, it is lost by damage.
The format: https://www.sqlite.org/fileformat.html#walformat
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_HEADER, _FRAME = 32, 24  # bytes
_BIG, _LITTLE = 0x377F0683, 0x377F0682  # magic numbers: the byte order of the checksums


def loses_commits(log: Path) -> bool:
    """Whether SQLite will not read all of the transactions in a log that were committed."""
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return False
    if len(data) <= _HEADER + _FRAME:
        return False
    magic, _, page, _, salt1, salt2, *sums = struct.unpack(">8I", data[:_HEADER])
    order = ">u4" if magic == _BIG else "<u4"
    ours = struct.pack(">2I", salt1, salt2)
    intact = magic in (_BIG, _LITTLE) and _sum((0, 0), data[:24], order) == tuple(sums)
    if not intact:
        return True  # it was synced before the first frame
    state = (sums[0], sums[1])
    damaged = committed = False
    for head, body in _frames(data, page):
        is_ours = head[8:16] == ours
        if not damaged:
            state = _sum(_sum(state, head[:8], order), body, order)
            damaged = not is_ours or struct.pack(">2I", *state) != head[16:]
        if damaged and committed and is_ours:
            return True
        committed = damaged and (committed or (is_ours and head[4:8] != bytes(4)))
    return False


def _frames(data: bytes, page: int) -> Iterator[tuple[bytes, bytes]]:
    for at in range(_HEADER, len(data) - _FRAME - page + 1, _FRAME + page):
        yield data[at : at + _FRAME], data[at + _FRAME : at + _FRAME + page]


def _sum(state: tuple[int, int], data: bytes, order: str) -> tuple[int, int]:
    """Go on with SQLite's checksum: s0 += x[2i] + s1, s1 += x[2i + 1] + s0, in 32 bits."""
    first, second = state
    for left, right in np.frombuffer(data, order).reshape(-1, 2).tolist():
        first = (first + left + second) & 0xFFFFFFFF
        second = (second + right + first) & 0xFFFFFFFF
    return first, second
