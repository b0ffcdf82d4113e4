"""Chance in training, and what it does to photos: crops, mirror images, colour noise.

All chance of an epoch is drawn at once, a row a photo, from a generator that only the run's seed
and the epoch decide. So what a photo gets depends on neither its batch, nor the thread that decodes
it, nor how many processes share the work; and a run that is taken up again draws the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Draws:
    """What chance decided for each of n photos. Uniform numbers lie in 0 <= u < 1."""

    places: NDArray[np.float32]  # (n, 2) uniform: where a crop lies, down and across
    scales: NDArray[np.float32]  # (n,) uniform
    shapes: NDArray[np.float32]  # (n,) uniform
    mirrored: NDArray[np.bool_]  # (n,) each with probability 1/2
    colours: NDArray[np.float32]  # (n, 3) from N(0, 1)


@dataclass(frozen=True, slots=True)
class Colours:
    """The principal components of a set's pixels, RGB in 0..1."""

    variances: tuple[float, float, float]  # eigenvalues of their covariance, largest first
    directions: tuple[tuple[float, float, float], ...]  # (3, 3): row i is eigenvector i


def draw_epoch(seed: int, epoch: int, count: int) -> tuple[NDArray[np.intp], Draws]:
    """Draw the order of an epoch, (count,) indices, and what happens to each photo, by index."""
    chance = np.random.default_rng([seed, epoch])
    order = chance.permutation(count)
    uniform = chance.random((count, 5), np.float32)
    colours = chance.standard_normal((count, 3), np.float32)
    return order, Draws(uniform[:, :2], uniform[:, 2], uniform[:, 3], uniform[:, 4] < 0.5, colours)


# Which part of a photo is seen, before it is scaled to a square


def central_square(height: int, width: int) -> Box:
    """AlexNet, section 2: the photo's central square."""
    short = min(height, width)
    left, top = (width - short) // 2, (height - short) // 2
    return float(left), float(top), float(left + short), float(top + short)


def crop_of_scaled(height: int, width: int, share: float, place: NDArray[np.float32]) -> Box:
    """VGG, section 3.1: a square crop from anywhere in the photo.

    share: its side over the photo's short side: 224 / S.
    place: (2,) uniform.
    """
    side = share * min(height, width)
    top, left = float(place[0]) * (height - side), float(place[1]) * (width - side)
    return left, top, left + side, top + side


def crop_of_area(
    height: int, width: int, area: float, shape: float, place: NDArray[np.float32]
) -> Box:
    """A part of any place, area and shape, as GoogLeNet introduced it (section 6).

    area: its share of the photo's area, 0 < area <= 1; shape: its width over its height. Where the
    photo is too narrow or too flat for them, the part is as wide or as high as the photo.
    """
    wide = min(float(width), (area * height * width * shape) ** 0.5)
    high = min(float(height), (area * height * width / shape) ** 0.5)
    top, left = float(place[0]) * (height - high), float(place[1]) * (width - wide)
    return left, top, left + wide, top + high


# A batch at a time


def random_crops(
    photos: NDArray[np.uint8], side: int, places: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Cut a square out of each photo: (n, s, s, 3) -> (n, side, side, 3), s >= side.

    places: (n, 2) uniform: every one of the (s - side + 1) squared positions is as likely.
    """
    if photos.shape[1] == side:
        return photos
    corners = (places * (photos.shape[1] - side + 1)).astype(np.intp)
    windows = np.lib.stride_tricks.sliding_window_view(photos, (side, side), axis=(1, 2))
    chosen = windows[np.arange(len(photos)), corners[:, 0], corners[:, 1]]  # (n, 3, side, side)
    return np.ascontiguousarray(chosen.transpose(0, 2, 3, 1))


def padded(photos: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """Mirror the edges outwards by `margin` pixels: (n, s, s, 3) -> (n, s + 2 margin, ..., 3)."""
    around = (margin, margin)
    return np.pad(photos, ((0, 0), around, around, (0, 0)), "reflect") if margin else photos


def mirror(photos: NDArray[np.uint8], which: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Swap left and right in some of n photos."""
    mirrored = photos.copy()
    pixels = mirrored.view("V3")  # three bytes at once: byte by byte it takes three times as long
    pixels[which] = pixels[which][:, :, ::-1]
    return mirrored


def colour_shifts(
    colours: Colours, draws: NDArray[np.float32], sigma: float
) -> NDArray[np.float32]:
    """AlexNet, section 4.1: what is added to all pixels of each photo, (n, 3), of RGB in 0..1.

        [p1 p2 p3] [a1 l1, a2 l2, a3 l3]^T     a_i from N(0, sigma), p_i and l_i the components

    draws: (n, 3) from N(0, 1). The formula is not the same in other units, since l_i is a variance:
    with pixels in 0..255 and l_i of those, the shifts would be 255 times as strong.
    """
    along = np.float32(sigma) * draws * np.asarray(colours.variances, np.float32)
    return along @ np.asarray(colours.directions, np.float32)


def principal_colours(photos: Iterable[NDArray[np.uint8]]) -> Colours:
    """Compute the components of all pixels of some photos, each (..., 3) of any shape."""
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for photo in photos:
        pixels = photo.reshape(-1, 3) / 255.0
        count += len(pixels)
        total += pixels.sum(axis=0)
        products += pixels.T @ pixels
    mean = total / count
    variances, columns = np.linalg.eigh(products / count - np.outer(mean, mean))
    largest_first = [2, 1, 0]
    one, two, three = (float(max(variances[i], 0.0)) for i in largest_first)
    rows = [columns[:, i] for i in largest_first]
    return Colours((one, two, three), tuple((float(r), float(g), float(b)) for r, g, b in rows))
