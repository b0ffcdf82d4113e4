"""Photos in, pixels out: the one way by which gallery, query, evaluation and training see a photo.

Files are decoded in processes of their own (`retrieval.workers`), each with a limit of memory and
of time: whatever is wrong with a file, one that crashes its decoder included, is an ImageError.
All functions may be called from several threads.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import DecoderError, ImageError
from retrieval.formats import sniff
from retrieval.framing import (
    CROP_SHORT_SIDE,
    FRAMINGS,
    SIDE,
    THUMBNAIL_SIDE,
    cut,
    encode_png,
    frame,
    rescale,
    thumbnail,
)
from retrieval.photo import MAX_PIXELS, PhotoInfo, Picture, Region
from retrieval.workers import Decoded, Pool

__all__ = [
    "CROP_SHORT_SIDE",
    "FRAMINGS",
    "MAX_PIXELS",
    "SIDE",
    "THUMBNAIL_SIDE",
    "PhotoInfo",
    "Picture",
    "Region",
    "cut",
    "encode_png",
    "frame",
    "read_photo",
    "read_picture",
    "read_region",
    "rescale",
    "sniff",
    "thumbnail",
]

_POOL = Pool()


def read_photo(
    source: Path | BinaryIO | bytes, *, min_side: int = CROP_SHORT_SIDE
) -> tuple[NDArray[np.uint8], PhotoInfo]:
    """Decode a photo: its pixels, upright, and what the file says of itself.

    source: a path, the bytes of a file, or a seekable binary file, which stays open.
    min_side: what the short side may be reduced to, in pixels. Photos are never enlarged.

    Returns (h, w, 3) uint8 RGB in sRGB, transparency over white, of an animation the first frame.
    Raises ImageError for any file that gives no whole picture; DecoderError where none can be read.
    """
    decoded = _decode(source, {"min_side": min_side})
    return decoded.pixels, decoded.info


def read_picture(source: Path | BinaryIO | bytes, framing: str, side: int = SIDE) -> Picture:
    """Take of a photo all that indexing needs: `read_photo`, `frame` and `thumbnail` in one.

    Raises ImageError and DecoderError as `read_photo` does.
    """
    if framing not in FRAMINGS:
        raise ValueError(f"framing is one of {', '.join(FRAMINGS)}, not {framing!r}")
    request = {"min_side": CROP_SHORT_SIDE, "framing": framing, "side": side}
    decoded = _decode(source, request)
    return Picture(decoded.pixels, decoded.info, decoded.thumbnail)


def read_region(
    source: Path | BinaryIO | bytes, region: Region, *, min_side: int = CROP_SHORT_SIDE
) -> NDArray[np.uint8]:
    """Decode a part of a photo, as if a file held that part and nothing else.

    region: of the upright photo: shares of its sides if no number is above 1, else pixels of the
    full photo.
    min_side: as in `read_photo`, of the part.

    Returns (h, w, 3) uint8. Raises ImageError as `read_photo` does, and for a region that is empty
    or not inside the photo.
    """
    if not all(math.isfinite(number) for number in region):
        raise ImageError("a region is four numbers: x, y, width, height")
    request = {"min_side": min_side, "region": [float(number) for number in region]}
    return _decode(source, request).pixels


def _decode(source: Path | BinaryIO | bytes, request: dict[str, Any]) -> Decoded:
    if isinstance(source, Path):
        with _opened(source) as file:
            return _POOL.decode(file.fileno(), request)
    if isinstance(source, io.BufferedReader) and isinstance(source.raw, io.FileIO):
        stood = os.lseek(source.fileno(), 0, os.SEEK_CUR)
        try:
            return _POOL.decode(source.fileno(), request)
        finally:
            os.lseek(source.fileno(), stood, os.SEEK_SET)
    if not isinstance(source, bytes):
        source.seek(0)
        source = source.read()
    with _in_memory(source) as copy:
        return _POOL.decode(copy.fileno(), request)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if not path.is_file() and path.exists():
            raise ImageError("not a file")  # a pipe would block
        file = path.open("rb")
    except OSError as error:
        raise ImageError(f"can't be read ({error.strerror})") from error
    with file:
        yield file


@contextmanager
def _in_memory(data: bytes) -> Iterator[BinaryIO]:
    """A file of these bytes that has no name."""
    try:
        if hasattr(os, "memfd_create"):  # Linux
            file = os.fdopen(os.memfd_create("photo"), "w+b")
        else:
            file = os.fdopen(_nameless(), "w+b")
    except OSError as error:
        raise DecoderError(f"no room to decode a photo in ({error.strerror}): try again") from error
    with file:
        file.write(data)
        file.flush()
        yield file


def _nameless() -> int:
    descriptor, name = tempfile.mkstemp()
    Path(name).unlink()
    return descriptor
