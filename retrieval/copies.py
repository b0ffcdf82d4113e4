"""A second look at two photos: is one a copy of the other, or of a part of it?

It is independent of the descriptors that bring photos together: it compares luminance, place by
place. Where one photo lies in the other is found by normalised cross-correlation over scales
(Lewis, 1995), and made exact by Gauss-Newton steps (inverse compositional; Baker and Matthews,
2004), which also follow a small rotation. Then each cell of a grid must show the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from retrieval.images import read_photo, rescale

Floats = NDArray[np.float32]

SIDE = 128  # pixels, the long side of what is compared
SKETCH = 12  # cells a side

# Chosen on copies of half of BSDS500 and of the sample gallery, and on the look-alikes of half of
# Caltech-101's classes: see docs/duplicates.md.
AGREEMENT = 0.9  # the share of the cells that must show the same ...
_COVERED = 0.55  # ... or this, if they show exactly the same: then something lies over the rest
_EXACTLY = 0.97  # the correlation of the cell in the middle for that
_SAME = 0.7  # the correlation from which a cell does
_HUE = 0.3  # the cosine of the angle between colours from which they are one
_COLOURED = 12.0  # levels; less colour has no hue
_PEAK = 0.42  # the correlation from which a place is worth a closer look
_LIKELY = 0.65  # ... and from which it still is after a first one
_INSIDE = 0.95  # how much of the inner photo must lie in the outer one
_SMALLEST = 0.25  # the share of the outer photo that the inner one must show
_SKEW = 0.15  # how far the one may be turned or distorted: 0.15 is 8 degrees
_BUSY = 4.0  # grey levels; a cell that varies less shows nothing
_DETAIL = 0.12  # the share of cells that must show something

_GRID = 10  # cells a side
_COARSE = 48  # pixels, the long side where places are looked for
_FIELD = _COARSE + 2
_LENGTHS = np.arange(_COARSE, 18, -2)  # pixels, the long sides of the parts looked for there
_SMOOTH = 2.5  # pixels; what is smoother says little about where a photo lies
_STEPS = ((4, 8), (2, 8), (1, 5))  # reduced so many times, so many Gauss-Newton steps
_PAPER = 8.0  # grey levels; margins vary less

TURNS: Mapping[str, Callable[[Floats], Floats]] = {
    "": lambda light: light,
    "mirrored": lambda light: light[:, ::-1],
    "turned by 90": partial(np.rot90, k=1),
    "turned by 180": partial(np.rot90, k=2),
}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A photo made small: the long side is SIDE."""

    light: Floats  # (h, w) luminance, 0 to 255
    colour: Floats  # (h, w, 2) how much redder and bluer than that it is, in levels

    def turned(self, turn: str) -> Picture:
        """The same turned, by a name of TURNS."""
        light, colour = (np.ascontiguousarray(TURNS[turn](a)) for a in (self.light, self.colour))
        return Picture(light, colour)


@dataclass(frozen=True)
class View:
    """What is looked at of a photo."""

    whole: Picture
    core: Picture | None  # what lies between plain margins, if there are some
    share: float = 1.0  # of the area that lies between them

    @cached_property
    def detailed(self) -> bool:
        """Whether there is enough to see for two such photos to be told apart."""
        return bool((_cells(self.whole.light).std(axis=(1, 3)) > _BUSY).mean() >= _DETAIL)

    @cached_property
    def sketch(self) -> Floats:
        """Luminance in 12 x 12 cells, whatever the shape: (144,) of mean 0 and norm 1."""
        return _sketch(self.whole.light)

    @cached_property
    def core_sketch(self) -> Floats | None:
        return None if self.core is None else _sketch(self.core.light)

    @cached_property
    def searched(self) -> tuple[Searched, ...]:
        """What is between its margins, and all of it."""
        parts = [self.whole] if self.core is None else [self.core, self.whole]
        return tuple(map(Searched, parts))

    def turned(self, turn: str) -> View:
        """The same photo turned, by a name of TURNS."""
        if not turn:
            return self
        core = None if self.core is None else self.core.turned(turn)
        return View(self.whole.turned(turn), core, self.share)


@dataclass(frozen=True, slots=True)
class Look:
    """How one photo, the inner one, lies in another."""

    agreement: float  # the share of the cells with something to see that show the same
    covered: float  # the share of the outer photo's area that the inner one shows
    swapped: bool  # the second photo is the outer one


def read_view(jpeg: bytes) -> View:
    """Look at a thumbnail. Raises ImageError if it gives no picture, or one as thin as a line."""
    pixels, _ = read_photo(jpeg)
    return view(pixels)


def view(pixels: NDArray[np.uint8]) -> View:
    """Look at a photo (h, w, 3) uint8. Raises ImageError if it is as thin as a line."""
    height, width = pixels.shape[:2]
    top, bottom, left, right = _between_margins(_light(pixels))
    share = (bottom - top) * (right - left) / (height * width)
    if not _SMALLEST / 2 < share < 0.97:
        return View(_small(pixels), None)
    return View(_small(pixels), _small(pixels[top:bottom, left:right]), share)


def look(one: View, other: View) -> Look | None:
    """Find the smaller photo in the other; None: it isn't there.

    What lies between plain margins is compared first, then each photo as a whole.
    """
    for first in one.searched:
        for second in other.searched:
            found = _look(first, second)
            if found is not None:
                return found
    return None


# --- what is searched


class Searched:
    """A photo as it is searched, and as it is searched for: Fourier transforms at each size."""

    def __init__(self, picture: Picture) -> None:
        light = picture.light
        self.picture = picture
        self.shape = _fit(light.shape, _COARSE)
        ground = np.zeros((_FIELD, _FIELD), np.float32)
        ground[: self.shape[0], : self.shape[1]] = _edges(_resample(light, *self.shape))
        self.ground = np.fft.rfft2(ground)
        self.energy = np.fft.rfft2(ground**2)
        self.least = max(0.02 * float((ground**2).sum()), 1.0)
        patches = np.zeros((len(_LENGTHS), _FIELD, _FIELD), np.float32)
        self.sizes = [_fit(light.shape, int(length)) for length in _LENGTHS]
        for patch, (height, width) in zip(patches, self.sizes, strict=True):
            part = _edges(_resample(light, height, width))
            part -= part.mean()
            patch[:height, :width] = part / max(float(np.linalg.norm(part)), 1e-6)
        self.patches = np.conj(np.fft.rfft2(patches))

    def place(self, inner: Searched) -> tuple[float, NDArray[np.float64]]:
        """The best correlation, and the map (2, 3) of the inner photo's pixels to this one's."""
        boxes, heights, widths = _boxes(tuple(inner.sizes))
        number = np.fft.irfft2(self.ground * inner.patches, s=(_FIELD, _FIELD))
        energy = np.fft.irfft2(self.energy * boxes, s=(_FIELD, _FIELD))
        found = number / np.sqrt(np.maximum(energy, self.least))
        steps = np.arange(_FIELD)
        found[(steps > self.shape[0] + 1 - heights)[:, :, np.newaxis].repeat(_FIELD, 2)] = -1
        found[(steps > self.shape[1] + 1 - widths)[:, np.newaxis].repeat(_FIELD, 1)] = -1
        size, y, x = np.unravel_index(int(found.argmax()), found.shape)
        unit = SIDE / _COARSE
        scale = float(_LENGTHS[size]) * unit / SIDE
        return float(found[size, y, x]), np.array([[scale, 0, x * unit], [0, scale, y * unit]])


def _look(one: Searched, other: Searched) -> Look | None:
    there, back = one.place(other), other.place(one)
    swapped = back[0] > there[0] + 1e-3
    peak, start = back if swapped else there
    if peak < _PEAK:
        return None
    outer, inner = (other, one) if swapped else (one, other)
    warp = start
    for factor, steps in _STEPS:
        warp, likeness = _align(outer.picture.light, inner.picture.light, warp, factor, steps)
        if likeness < _LIKELY:
            return None
    return _compare(outer.picture, inner.picture, warp, swapped)


def _compare(
    outer: Picture, inner: Picture, warp: NDArray[np.float64], swapped: bool
) -> Look | None:
    """Compare cell by cell what the map says is the same; None: it is not."""
    height, width = outer.light.shape
    size = float(np.linalg.det(warp[:, :2]))
    if size <= 0 or np.abs(warp[:, :2] / size**0.5 - np.eye(2)).max() > _SKEW:
        return None
    covered = size * inner.light.size / outer.light.size
    ys, xs = _under(warp, inner.light.shape)
    inside = (ys > -1.5) & (ys < height + 0.5) & (xs > -1.5) & (xs < width + 0.5)
    if covered < _SMALLEST or inside.mean() < _INSIDE:
        return None
    a, b = _cells(_sample(outer.light, ys, xs)), _cells(inner.light)
    a = a - a.mean(axis=(1, 3), keepdims=True)
    b = b - b.mean(axis=(1, 3), keepdims=True)
    own, others = (np.sqrt((part**2).mean(axis=(1, 3))) for part in (a, b))
    alike = (a * b).mean(axis=(1, 3)) / np.maximum(own * others, 1e-3)
    busy = np.maximum(own, others) > _BUSY
    if busy.mean() < _DETAIL:
        return None
    colours = np.stack([_sample(outer.colour[..., i], ys, xs) for i in (0, 1)], axis=-1)
    same = (alike > _SAME) & _of_one_hue(colours, inner.colour)
    agreement = float(same[busy].mean())
    exactly = float(np.median(alike[busy])) >= _EXACTLY
    if agreement < (_COVERED if exactly else AGREEMENT):
        return None
    return Look(agreement, min(covered, 1.0), swapped)


def _of_one_hue(one: Floats, other: Floats) -> NDArray[np.bool_]:
    """Which cells have the same colour, however pale; what is grey may be of any."""
    a, b = (
        np.stack([_cells(part[..., i]).mean(axis=(1, 3)) for i in (0, 1)], axis=-1)
        for part in (one, other)
    )
    sizes = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    angle = (a * b).sum(axis=-1) / np.maximum(sizes[0] * sizes[1], 1e-3)
    return np.asarray((np.minimum(*sizes) < _COLOURED) | (angle > _HUE))


def _align(
    outer: Floats, inner: Floats, warp: NDArray[np.float64], factor: int, steps: int
) -> tuple[NDArray[np.float64], float]:
    """Improve the map of the inner photo's pixels to the outer's, with both reduced.

    Returns the map, and the correlation before the last step.
    """
    one, two = (_reduced(light, factor) for light in (outer, inner))
    up = np.diag([outer.shape[1] / one.shape[1], outer.shape[0] / one.shape[0], 1])
    down = np.diag([inner.shape[1] / two.shape[1], inner.shape[0] / two.shape[0], 1])
    now = np.linalg.inv(up) @ np.vstack([warp, [0, 0, 1]]) @ down
    height, width = two.shape
    ys, xs = np.mgrid[:height, :width] + 0.5
    gy, gx = (part.ravel() for part in np.gradient(two))
    y, x = ys.ravel(), xs.ravel()
    steepest = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy], axis=1)
    wanted = (two - two.mean()).ravel().astype(np.float64)
    norm = float(wanted @ wanted) + 1e-6
    # Light and contrast may differ: steps that only change them are taken out.
    steepest -= steepest.mean(axis=0)
    steepest -= np.outer(wanted, wanted @ steepest) / norm
    hessian = steepest.T @ steepest
    hessian += np.eye(6) * (1e-6 * np.trace(hessian) + 1e-9)
    solve = np.linalg.inv(hessian) @ steepest.T
    likeness = 0.0
    for _ in range(steps):
        seen = _sample(one, *_under(now[:2], two.shape)).ravel()
        seen = seen - seen.mean()
        gain = float(seen @ wanted) / norm
        likeness = gain * (norm / (float(seen @ seen) + 1e-6)) ** 0.5
        if gain <= 0:
            break
        d = solve @ (seen / gain - wanted)
        step = np.array([[1 + d[0], d[1], d[2]], [d[3], 1 + d[4], d[5]], [0, 0, 1]])
        if not np.isfinite(step).all() or abs(np.linalg.det(step)) < 0.1:
            break
        now = now @ np.linalg.inv(step)
        if np.abs(d[[2, 5]]).max() < 0.01 and np.abs(d[[0, 1, 3, 4]]).max() < 1e-4:
            break
    return np.asarray((up @ now @ np.linalg.inv(down))[:2]), likeness


# --- pixels


def _small(pixels: NDArray[np.uint8]) -> Picture:
    short, long = sorted(pixels.shape[:2])
    small = rescale(pixels, max(1, round(SIDE * short / long)))
    light = _light(small)
    return Picture(light, small[..., [0, 2]] - light[..., np.newaxis])


def _light(pixels: NDArray[np.uint8]) -> Floats:
    return np.asarray(pixels @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


def _sketch(light: Floats) -> Floats:
    small = _resample(light, SKETCH, SKETCH)
    small = small - small.mean()
    return np.asarray(small.ravel() / max(float(np.linalg.norm(small)), 1e-6), np.float32)


def _between_margins(light: Floats) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the largest part between margins of one colour."""
    top, bottom = _between(light)
    left, right = _between(light[top:bottom].T)
    return top, bottom, left, right


def _between(light: Floats) -> tuple[int, int]:
    """The longest run of rows that are not of the colour of the first or the last row."""
    plain = np.ptp(light, axis=1) < _PAPER
    colour = light.mean(axis=1)
    margin = np.zeros(len(light), np.bool_)
    for end in (0, -1):
        if plain[end]:
            margin |= plain & (np.abs(colour - colour[end]) < _PAPER)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], margin, [True]])))
    if not len(edges):
        return 0, len(light)
    best = int(np.argmax(edges[1::2] - edges[::2]))
    return int(edges[2 * best]), int(edges[2 * best + 1])


def _cells(light: Floats) -> Floats:
    """(rows, height, columns, width) of a grid; what doesn't divide is cut off at the edges."""
    height, width = (max(1, side // _GRID) for side in light.shape)
    rows, columns = light.shape[0] // height, light.shape[1] // width
    cut = light[: rows * height, : columns * width]
    return cut.reshape(rows, height, columns, width)


def _under(
    warp: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the pixels of a photo of this shape lie in another: rows and columns."""
    ys, xs = np.mgrid[: shape[0], : shape[1]] + 0.5
    (a, b, c), (d, e, f) = warp
    return d * xs + e * ys + f - 0.5, a * xs + b * ys + c - 0.5


def _sample(light: Floats, ys: NDArray[np.float64], xs: NDArray[np.float64]) -> Floats:
    """Bilinear; beyond the edge it goes on as at the edge."""
    height, width = light.shape
    top = np.clip(np.floor(ys), 0, max(0, height - 2)).astype(np.intp)
    left = np.clip(np.floor(xs), 0, max(0, width - 2)).astype(np.intp)
    down = np.clip(ys - top, 0, 1).astype(np.float32)
    across = np.clip(xs - left, 0, 1).astype(np.float32)
    below, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    upper = light[top, left] * (1 - across) + light[top, right] * across
    lower = light[below, left] * (1 - across) + light[below, right] * across
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def _fit(shape: tuple[int, ...], long: int) -> tuple[int, int]:
    """Height and width, of the same shape, with so long a long side."""
    height, width = (max(1, round(side * long / max(shape))) for side in shape)
    return height, width


def _reduced(light: Floats, factor: int) -> Floats:
    return light if factor == 1 else _resample(light, *_fit(light.shape, SIDE // factor))


def _resample(light: Floats, height: int, width: int) -> Floats:
    rows, columns = _resampler(light.shape[0], height), _resampler(light.shape[1], width)
    return np.asarray(rows @ light @ columns.T, np.float32)


@lru_cache(maxsize=8192)
def _resampler(size: int, wanted: int) -> Floats:
    """The matrix (wanted, size) that resamples a line by a triangle, as wide as it must be."""
    factor = size / wanted
    centres = (np.arange(wanted) + 0.5) * factor - 0.5
    apart = np.abs(np.arange(size) - centres[:, np.newaxis])
    weights = np.maximum(0, 1 - apart / max(1.0, factor))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _edges(light: Floats) -> Floats:
    rows, columns = _smoother(light.shape[0]), _smoother(light.shape[1])
    return np.asarray(light - rows @ light @ columns.T, np.float32)


@lru_cache(maxsize=128)
def _smoother(size: int) -> Floats:
    places = np.arange(size) / _SMOOTH
    weights = np.exp(-(np.subtract.outer(places, places) ** 2) / 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


@lru_cache(maxsize=256)
def _boxes(
    sizes: tuple[tuple[int, int], ...],
) -> tuple[NDArray[np.complex64], NDArray[np.int64], NDArray[np.int64]]:
    """Transforms of boxes of these sizes, and their heights and widths (n, 1)."""
    boxes = np.zeros((len(sizes), _FIELD, _FIELD), np.float32)
    for box, (height, width) in zip(boxes, sizes, strict=True):
        box[:height, :width] = 1
    heights, widths = np.array(sizes).T[..., np.newaxis]
    return np.conj(np.fft.rfft2(boxes)), heights, widths
