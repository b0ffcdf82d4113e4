"""A photo that was read: what the file says of itself, and what a library takes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 1 << 28  # of a photo; the largest phone sensors have 200 million

Region = tuple[float, float, float, float]  # x, y, width, height, from the upper left corner


@dataclass(frozen=True, slots=True)
class PhotoInfo:
    """What the file says of itself."""

    format: str  # one of `retrieval.formats`, so "RAW" too
    width: int  # pixels, upright, of the full photo (not of the reduced pixels)
    height: int
    orientation: int  # EXIF 1..8 as in the file; 1 if absent or invalid
    taken_at: str | None  # ISO 8601, local to the camera; with the offset if the file gives it
    camera: str | None
    lens: str | None
    latitude: float | None  # degrees, north and east positive
    longitude: float | None


@dataclass(frozen=True, slots=True)
class Picture:
    """What a library takes of a photo."""

    pixels: NDArray[np.uint8]  # (side, side, 3), framed: the network's input
    info: PhotoInfo
    thumbnail: bytes  # a JPEG
