"""The crops by which the two papers evaluate a network: a whole photo in, squares out.

pixels: (h, w, 3) uint8 everywhere, no side below `side`. Crops: (n, side, side, 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

GRID = 5  # VGG, section 3.2: 5 x 5 places


def centre_crop(pixels: Pixels, side: int) -> Pixels:
    """The square in the middle, n = 1; where that is between pixels, as torchvision rounds."""
    height, width = pixels.shape[:2]
    top, left = round((height - side) / 2), round((width - side) / 2)
    return pixels[np.newaxis, top : top + side, left : left + side]


def ten_crops(pixels: Pixels, side: int) -> Pixels:
    """The four corners and the centre, then the same mirrored (AlexNet, section 4.1).

    They are those of the photo's central square, which is all that the paper's networks ever saw
    (section 2). Corners in reading order.
    """
    square = centre_crop(pixels, min(pixels.shape[:2]))[0]
    far = len(square) - side
    places = [(0, 0), (0, far), (far, 0), (far, far)]
    corners = [square[y : y + side, x : x + side] for y, x in places]
    return _and_mirrored(np.stack([*corners, centre_crop(square, side)[0]]))


def grid_crops(pixels: Pixels, side: int) -> Pixels:
    """A regular 5 x 5 grid from edge to edge, row by row, then mirrored: 50 (VGG, section 3.2)."""
    height, width = pixels.shape[:2]
    tops = np.rint(np.linspace(0, height - side, GRID)).astype(int)
    lefts = np.rint(np.linspace(0, width - side, GRID)).astype(int)
    return _and_mirrored(
        np.stack([pixels[y : y + side, x : x + side] for y in tops for x in lefts])
    )


def _and_mirrored(crops: Pixels) -> Pixels:
    return np.concatenate([crops, crops[:, :, ::-1]])
