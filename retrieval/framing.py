"""Pixels -> what is made of a decoded photo: the network's square, a thumbnail, a PNG."""

from __future__ import annotations

import io
import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.errors import ImageError

FRAMINGS = ("crop", "squash")
SIDE = 224  # of a framed photo, unless the network takes another
CROP_SHORT_SIDE = 256  # of the whole photo, before its centre of 224 is cut out
THUMBNAIL_SIDE = 320

_THINNEST = 20  # times its short side may a photo be long that is scaled as a whole
_HAS_MEMFD = hasattr(os, "memfd_create")  # Linux


def frame(pixels: NDArray[np.uint8], framing: str = "crop", side: int = SIDE) -> NDArray[np.uint8]:
    """Fit a photo of any shape into the network's square.

    pixels: (h, w, 3) uint8. Returns (side, side, 3) uint8, bilinear with antialiasing.

    "crop" is torchvision's Resize(256) and CenterCrop(224), "squash" its Resize((224, 224)); at
    another side the share that is cut off is the same.
    """
    return frame_image(Image.fromarray(pixels), framing, side)


def frame_image(image: Image.Image, framing: str, side: int) -> NDArray[np.uint8]:
    """`frame` of an RGB image."""
    width, height = image.size
    if framing == "squash":
        box = (0.0, 0.0, float(width), float(height))
    elif framing == "crop":
        left, right = _central_span(width, min(width, height), side)
        top, bottom = _central_span(height, min(width, height), side)
        box = (left, top, right, bottom)
    else:
        raise ValueError(f"framing is one of {', '.join(FRAMINGS)}, not {framing!r}")
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def cut(
    pixels: NDArray[np.uint8], box: tuple[float, float, float, float], side: int
) -> NDArray[np.uint8]:
    """Scale a part of a photo to a square: (h, w, 3) -> (side, side, 3), as `frame` does.

    box: left, top, right, bottom in pixels, fractions too, inside the photo and not empty.
    """
    image = Image.fromarray(pixels)
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def _central_span(length: int, short: int, side: int) -> tuple[float, float]:
    """The part of a side that the centre crop keeps, in pixels of the unscaled photo.

    The whole photo is never scaled: a panorama of 1 x 5000 would take 1.3 million pixels' width.
    """
    scaled = (CROP_SHORT_SIDE * side // SIDE) * length // short
    start = round((scaled - side) / 2)
    return start * length / scaled, (start + side) * length / scaled


def rescale(pixels: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Scale a photo, in its own shape, until its short side has so many pixels.

    pixels: (h, w, 3) uint8. Returns (h', w', 3) uint8, bilinear with antialiasing: torchvision's
    Resize(short_side). Raises ImageError for a photo so thin that the result would be huge.
    """
    height, width = pixels.shape[:2]
    short, long = min(width, height), max(width, height)
    if long > _THINNEST * short:
        raise ImageError(f"too thin ({width}x{height})")
    size = (short_side * width // short, short_side * height // short)
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of (h, w, 3) uint8 pixels: each stays what it is."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def thumbnail(pixels: NDArray[np.uint8], side: int = THUMBNAIL_SIDE) -> bytes:
    """A JPEG of the photo for people to look at: long side at most `side`, never enlarged."""
    return thumbnail_of(Image.fromarray(pixels), side)


def thumbnail_of(image: Image.Image, side: int) -> bytes:
    """`thumbnail` of an RGB image, which it reduces itself."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    # Only into a real file does Pillow let other threads compute meanwhile.
    with os.fdopen(os.memfd_create("thumbnail"), "w+b") if _HAS_MEMFD else io.BytesIO() as out:
        image.save(out, "JPEG", quality=85)
        out.seek(0)
        return out.read()
