"""From what people ask for to a run's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import ImageError, TrainingError
from retrieval.images import read_photo
from retrieval.networks import check_network, input_side
from retrieval.training.augment import Colours, principal_colours
from retrieval.training.recipes import recipe_for
from retrieval.training.runs import Run, read_colours, write_run
from retrieval.training.split import Listed, find_photos
from retrieval.weights import NAMED

_COLOUR_PHOTOS = 2000  # from which the principal colours are computed, evenly chosen


@dataclass(frozen=True, slots=True)
class Asked:
    """What `fc7 train` was asked for. None leaves a choice to the recipe, or to chance."""

    data: Path
    out: Path
    network: str
    preset: str
    epochs: int | None = None
    batch: int | None = None
    seed: int = 0
    start: str | None = None  # bundled, imagenet, a file or a run's folder
    freeze_conv: bool = False
    colours: Path | None = None  # a run whose principal colours are taken


def prepare(asked: Asked) -> None:
    """Find the photos, fix the recipe and write the run's folder.

    Raises TrainingError or WeightsError for what can't be trained.
    """
    check_network(asked.network)
    recipe = recipe_for(
        asked.preset, input_side(asked.network), epochs=asked.epochs, batch=asked.batch
    )
    if asked.freeze_conv and asked.start is None:
        raise TrainingError("--freeze conv keeps layers that learned something: say --from what")
    photos = find_photos(asked.data)
    colours = None
    if recipe.colour and asked.colours:
        colours = read_colours(asked.colours)
    elif recipe.colour:
        colours = _colours_of([photo for photo in photos if photo.split == "train"])
    start = asked.start
    if start is not None and start not in NAMED:
        start = str(Path(start).expanduser().resolve())
    run = Run(
        network=asked.network,
        preset=asked.preset,
        recipe=recipe,
        classes=tuple(sorted({photo.label for photo in photos})),
        seed=asked.seed,
        start=start,
        freeze_conv=asked.freeze_conv,
        colours=colours,
    )
    write_run(asked.out, run, photos)


def _colours_of(photos: Sequence[Listed]) -> Colours:
    step = max(1, len(photos) // _COLOUR_PHOTOS)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return principal_colours(_readable(pool.map(_pixels, photos[::step])))


def _readable(photos: Iterator[NDArray[np.uint8] | None]) -> Iterator[NDArray[np.uint8]]:
    found = 0
    for pixels in photos:
        if pixels is not None:
            found += 1
            yield pixels
    if not found:
        raise TrainingError("none of the photos that train can be read")


def _pixels(photo: Listed) -> NDArray[np.uint8] | None:
    try:
        return read_photo(photo.path)[0]
    except ImageError:
        return None
