"""Photos of a split as batches of squares: decoded in threads, small sets kept in memory."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import ImageError, TrainingError
from retrieval.images import CROP_SHORT_SIDE, cut, frame, read_photo
from retrieval.training.augment import (
    Draws,
    central_square,
    crop_of_area,
    crop_of_scaled,
    mirror,
    padded,
    random_crops,
)
from retrieval.training.recipes import Recipe

KEPT_BYTES = 2 << 30  # of pixels that are kept in memory, for each split
_FLATTEST = 4 / 3  # the greatest ratio of sides of a part of random shape


@dataclass(frozen=True, slots=True)
class View:
    """How a photo of any shape becomes a square of `side`.

    kind: "frame"   as when the network is used: no chance
          "square"  the central square: no chance
          "scaled"  a part of side 224 / S of the short side, S random in `scales`, from anywhere
          "area"    a part of a random area in `areas` and a ratio of sides from 3/4 to 4/3
    """

    kind: str
    side: int
    framing: str = "crop"
    scales: tuple[int, int] = (256, 256)
    areas: tuple[float, float] = (1.0, 1.0)

    @property
    def is_random(self) -> bool:
        return self.kind in ("scaled", "area")

    @property
    def min_side(self) -> int:
        """What the photo's short side may be reduced to while it is decoded."""
        return max(CROP_SHORT_SIDE, self.scales[1]) if self.kind == "scaled" else CROP_SHORT_SIDE

    def apply(self, pixels: NDArray[np.uint8], draws: Draws | None, row: int) -> NDArray[np.uint8]:
        """(h, w, 3) -> (side, side, 3); draws[row] decides, where chance does."""
        height, width = pixels.shape[:2]
        if self.kind == "frame":
            return frame(pixels, self.framing, self.side)
        if self.kind == "square":
            return cut(pixels, central_square(height, width), self.side)
        assert draws is not None
        scale, shape, place = float(draws.scales[row]), draws.shapes[row], draws.places[row]
        if self.kind == "scaled":
            low, high = self.scales  # both count, as in the paper's [256, 512]
            short = low + int(scale * (high - low + 1))
            return cut(pixels, crop_of_scaled(height, width, self.side / short, place), self.side)
        low_area, high_area = self.areas
        area = low_area + scale * (high_area - low_area)
        ratio = _FLATTEST ** float(2 * shape - 1)
        return cut(pixels, crop_of_area(height, width, area, ratio, place), self.side)


def training_view(recipe: Recipe, side: int, framing: str) -> View:
    """The view of a recipe. AlexNet's central square is larger, 256, than what is cut from it."""
    larger = CROP_SHORT_SIDE if recipe.view == "square" else side
    return View(recipe.view, larger, framing, recipe.scales, recipe.areas)


@dataclass(frozen=True, slots=True)
class Batch:
    """Photos as the network will see them, but for their colours."""

    pixels: NDArray[np.uint8]  # (n, side, side, 3)
    labels: NDArray[np.int64]  # (n,)
    rows: NDArray[np.intp]  # (n,) of the epoch's draws


@dataclass(frozen=True, slots=True)
class _Square:
    """A photo that was read, and which it is."""

    index: int
    pixels: NDArray[np.uint8]


class Photos:
    """The photos of one split, to be asked for in batches.

    Public: paths, labels (n,), broken (index -> why it can't be used, as far as is known).
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: NDArray[np.int64],
        view: View,
        *,
        fill: bool,
        ahead: int = 0,
        workers: int | None = None,
        keep: int = KEPT_BYTES,
    ) -> None:
        """
        view: applied to each photo. Where it leaves nothing to chance, squares are kept that fit
        into `keep` bytes all together.
        fill: whether the next photo takes a broken one's place, so that batches stay whole
        (training), or it is left out, and a batch may even be empty (validation).
        ahead: batches that are read while one is in use.
        workers: decoding threads; as many as there are processors unless said otherwise.
        """
        self.paths, self.labels = paths, labels
        self.broken: dict[int, str] = {}
        self._view, self._fill, self._ahead = view, fill, ahead
        self._workers = workers or os.cpu_count() or 1
        shape = (len(paths), view.side, view.side, 3)
        fits = not view.is_random and math.prod(shape) <= keep
        self._kept = np.empty(shape, np.uint8) if fits else None
        self._is_kept = np.zeros(len(paths), np.bool_)

    def __len__(self) -> int:
        return len(self.paths)

    def batches(
        self, parts: Iterable[NDArray[np.intp]], draws: Draws | None = None
    ) -> Iterator[Batch]:
        """Read the photos of some lists of indices, a batch a list.

        Raises TrainingError if not one photo can be read.
        """
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        ahead: deque[tuple[NDArray[np.intp], list[Future[_Square | None]]]] = deque()
        try:
            for part in parts:
                known = self._is_kept[part].all()
                tasks = [] if known else [pool.submit(self._read, int(i), draws) for i in part]
                ahead.append((part, tasks))
                if len(ahead) > self._ahead:
                    yield self._batch(*ahead.popleft())
            while ahead:
                yield self._batch(*ahead.popleft())
        finally:  # also when the caller stops halfway
            pool.shutdown(cancel_futures=True)

    def _batch(self, part: NDArray[np.intp], tasks: list[Future[_Square | None]]) -> Batch:
        if self._kept is not None and not tasks:
            return Batch(self._kept[part], self.labels[part], part)
        squares = [task.result() for task in tasks]
        rows = [i for i, square in enumerate(squares) if square is not None]
        found = [square for square in squares if square is not None]
        if len(self.broken) == len(self):
            raise TrainingError(f"none of {len(self)} photos can be read: {self.broken[0]}")
        side = self._view.side
        pixels = (
            np.stack([s.pixels for s in found]) if found else np.empty((0, side, side, 3), "u1")
        )
        indices = np.array([square.index for square in found], np.intp)
        return Batch(pixels, self.labels[indices], part[rows])

    def _read(self, row: int, draws: Draws | None) -> _Square | None:
        """Read a photo, or, to fill its place, the next that can be read, with the same draws."""
        for step in range(len(self) if self._fill else 1):
            index = (row + step) % len(self)
            if index in self.broken:
                continue
            if self._kept is not None and self._is_kept[index]:
                return _Square(index, self._kept[index])
            try:
                pixels, _ = read_photo(self.paths[index], min_side=self._view.min_side)
            except ImageError as error:
                self.broken[index] = error.reason
                continue
            square = self._view.apply(pixels, draws, row)
            if self._kept is not None:
                self._kept[index] = square
                self._is_kept[index] = True
            return _Square(index, square)
        return None


def augmented(batch: Batch, recipe: Recipe, side: int, draws: Draws) -> NDArray[np.uint8]:
    """Crop and mirror a batch as its recipe leaves to chance: (n, side, side, 3)."""
    pixels = padded(batch.pixels, recipe.margin)
    pixels = random_crops(pixels, side, draws.places[batch.rows])
    return mirror(pixels, draws.mirrored[batch.rows]) if recipe.mirror else pixels
