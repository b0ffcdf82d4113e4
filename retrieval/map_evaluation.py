"""How much of what FC7 knows is still there on the map: beside the two principal directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import EvaluationError, ImageError
from retrieval.extractor import Extractor
from retrieval.ground_truth import Skip, read_ground_truth
from retrieval.neighbours import nearest_others, principal
from retrieval.projection import place, project
from retrieval.reading import describe_files

Progress = Callable[[str, int, int], None]  # stage, done, of how many
DIMS = 128  # as in a library
NEAREST = 10  # neighbours that are looked at
_LEAST = 4 * NEAREST  # photos
_BLOCK = 512  # rows ranked at once


@dataclass(frozen=True, slots=True)
class PlaceFigures:
    """How one way of placing photos does."""

    label_accuracy: float  # how often most of the ten nearest have a photo's label
    trustworthiness: float  # 1: the ten nearest are among the ten nearest by FC7; 0.5: chance


@dataclass(frozen=True, slots=True)
class MapFigures:
    """What was found, and on what."""

    photos: int
    labels: int
    skipped: tuple[Skip, ...]
    network: str
    weights: str
    by: dict[str, PlaceFigures]

    def summary(self) -> dict[str, object]:
        """The same, ready for JSON."""
        return asdict(self)


def evaluate_map(
    folder: Path,
    labels: str | Path,
    extractor: Extractor,
    progress: Progress = lambda stage, done, total: None,
) -> MapFigures:
    """Map labelled photos: at once, half of them later, and along two principal directions.

    labels: as `read_ground_truth` takes them, if each photo has one.
    Raises EvaluationError if they can't be read, or too few photos have labels.
    """
    truth = read_ground_truth(folder, labels)
    owner = np.full(len(truth.paths), -1)
    for number, group in enumerate(truth.groups):
        owner[group] = number
    fc7: list[NDArray[np.float32]] = []
    kept, skipped = [], list(truth.skipped)
    paths = [folder / path for path in truth.paths]
    for index, described in describe_files(paths, extractor, progress=partial(progress, "photos")):
        if isinstance(described, ImageError):
            skipped.append(Skip(truth.paths[index].as_posix(), described.reason))
        elif owner[index] >= 0:
            kept.append(index)
            fc7.append(described.fc7[0])
    own = owner[kept]
    if len(kept) < _LEAST or len(np.unique(own)) < 2:
        raise EvaluationError(
            f"{folder} holds {len(kept)} readable photos of {len(np.unique(own))} labels: "
            f"{_LEAST} of 2 are needed"
        )
    rows = np.array(fc7)
    short = principal(rows, DIMS).project(rows)
    late = np.random.default_rng(0).permutation(len(rows)) < len(rows) // 2
    grown = np.empty((len(rows), 2), np.float32)
    grown[~late] = project(short[~late])
    grown[late] = place(short[late], short[~late], grown[~late])
    ways = {
        "FC7": rows,
        "map": project(short, progress=partial(progress, "steps")),
        "map, half placed later": grown,
        "two directions": np.ascontiguousarray(short[:, :2]),
    }
    return MapFigures(
        photos=len(kept),
        labels=len(np.unique(own)),
        skipped=tuple(skipped),
        network=extractor.network,
        weights=extractor.weights,
        by={
            name: PlaceFigures(label_accuracy(places, own), trustworthiness(rows, places))
            for name, places in ways.items()
        },
    )


def label_accuracy(places: NDArray[np.float32], labels: NDArray[np.intp]) -> float:
    """How often the commonest label (n,) among a row's nearest others (n, d) is its own.

    Of labels that are equally common the lowest counts.
    """
    _, others = nearest_others(places, NEAREST)
    commonest = [np.bincount(labels[row]).argmax() for row in others]
    return float((np.array(commonest) == labels).mean())


def trustworthiness(rows: NDArray[np.float32], places: NDArray[np.float32]) -> float:
    """How far neighbours among places (n, e) are neighbours among rows (n, d) too, 0 to 1.

    Each of the k nearest that is not among the k nearest rows costs how far down it comes among
    them (Venna and Kaski, 2001).
    """
    n, k = len(rows), NEAREST
    _, others = nearest_others(places, k)
    squares = (rows**2).sum(axis=1)
    cost = 0
    for start in range(0, n, _BLOCK):
        own = np.arange(start, min(start + _BLOCK, n))
        apart = squares - 2 * rows[own] @ rows.T
        apart[np.arange(len(own)), own] = -np.inf  # itself comes first, with rank 0
        ranks = np.empty(apart.shape, np.int64)
        order = np.argsort(apart, axis=1, kind="stable")
        np.put_along_axis(ranks, order, np.arange(n)[np.newaxis], axis=1)
        beyond = np.take_along_axis(ranks, others[own], axis=1) - k
        cost += int(np.maximum(beyond, 0).sum())
    return 1 - 2 * cost / (n * k * (2 * n - 3 * k - 1))
