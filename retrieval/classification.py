"""How often does a network name the right class? Measured as the two papers published it.

"centre"       one crop, the centre's
"ten"          four corners, the centre and their mirror images (AlexNet, section 4.1)
"dense"        fully connected layers as convolutions over the whole photo, and over it mirrored
               (VGG, section 3.2)
"multi"        50 crops: a 5 x 5 grid, mirrored as well (VGG, section 3.2)
"multi+dense"  the mean of the two (VGG, table 5)

A scale is the short side, in pixels, that a photo has before: VGG's Q. Over crops, scales and
networks it is the soft-max that is averaged, with equal weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.class_labels import ClassifiedPhotos
from retrieval.crops import centre_crop, grid_crops, ten_crops
from retrieval.errors import EvaluationError, ImageError
from retrieval.ground_truth import Skip
from retrieval.images import CROP_SHORT_SIDE, MAX_PIXELS, SIDE, frame, read_photo, rescale
from retrieval.metrics import (
    confusion_matrix,
    mean_class_accuracy,
    ranks_of_targets,
    top_k_error,
)
from retrieval.reading import read_ahead

if TYPE_CHECKING:
    from retrieval.training.classifier import Classifier

Progress = Callable[[str, int, int], None]  # what ("photos"), done, in all
Pixels = NDArray[np.uint8]

CROPS = ("centre", "ten", "dense", "multi", "multi+dense")
_CUT = {"centre": centre_crop, "ten": ten_crops, "multi": grid_crops}
_CHUNK = 32  # photos that a network sees in turn
_HELD = 320  # crops cut out at a time


@dataclass(frozen=True, slots=True, eq=False)
class ClassifierScores:
    """What one way of evaluating gives."""

    networks: tuple[str, ...]  # several: their soft-max averaged
    crops: str  # one of CROPS
    scales: tuple[int, ...]  # several: averaged too
    top1_error: float  # 0..1
    top5_error: float
    mean_class_accuracy: float  # over the classes that have a photo
    confusion: NDArray[np.int64]  # (c, c): photos of the row's class taken for the column's


@dataclass(frozen=True, slots=True, eq=False)
class ClassifierFigures:
    """What an evaluation found, and on what; the last row is the one with all that was asked."""

    photos: int  # that were readable and have a class
    classes: tuple[str, ...]
    skipped: tuple[Skip, ...]
    rows: tuple[ClassifierScores, ...]

    def summary(self) -> dict[str, object]:
        """The same, ready for JSON; of confusion matrices the cells that are not 0."""
        return {
            "photos": self.photos,
            "classes": len(self.classes),
            "skipped": [asdict(skip) for skip in self.skipped],
            "rows": [self._row(row) for row in self.rows],
        }

    def confused(self, most: int) -> list[tuple[str, str, int]]:
        """(true class, what it was taken for, photos) of the last row, most photos first."""
        cells = self.rows[-1].confusion.copy()
        np.fill_diagonal(cells, 0)
        order = np.argsort(-cells, axis=None, kind="stable")[:most]
        pairs = zip(*np.unravel_index(order, cells.shape), strict=True)
        return [
            (self.classes[true], self.classes[taken], int(cells[true, taken]))
            for true, taken in pairs
            if cells[true, taken]
        ]

    def _row(self, row: ClassifierScores) -> dict[str, object]:
        cells = zip(*np.nonzero(row.confusion), strict=True)
        confusion = [
            [self.classes[true], self.classes[taken], int(row.confusion[true, taken])]
            for true, taken in cells
        ]
        return {
            "networks": row.networks,
            "crops": row.crops,
            "scales": row.scales,
            "top1_error": row.top1_error,
            "top5_error": row.top5_error,
            "top1_accuracy": 1 - row.top1_error,
            "top5_accuracy": 1 - row.top5_error,
            "mean_class_accuracy": row.mean_class_accuracy,
            "confusion": confusion,
        }


def evaluate_classifier(
    photos: ClassifiedPhotos,
    classifiers: Sequence[Classifier],
    crops: Sequence[str] = ("centre",),
    scales: Sequence[int] = (),
    progress: Progress | None = None,
) -> ClassifierFigures:
    """Measure networks of the same classes, each alone and then all together.

    crops: some of CROPS. scales: short sides; none: 256, or as much more than the crop for a
    network of other than 224. A network that sees photos squashed cuts its crops from those, unless
    there are scales.

    A row for each network, way of cropping and scale; one with all scales averaged, if several; and
    one a way of cropping with all networks, if several. Photos that give no picture are skipped.
    Raises EvaluationError if the networks don't fit each other or what is asked, or nothing can be
    read.
    """
    plan = _plan(classifiers, crops, scales)
    rows = _rows(len(classifiers), crops, len(plan[0]))
    framings = ["crop" if scales else one.framing for one in classifiers]
    read = partial(_read, plan=plan, framings=framings)
    ranks: list[NDArray[np.intp]] = []  # of each chunk (rows, m)
    predicted: list[NDArray[np.intp]] = []
    readable: list[int] = []
    skipped = list(photos.skipped)
    for places, chunk in _chunks(photos, read, skipped, progress):
        found = _posteriors(chunk, classifiers, crops)
        means = [np.mean([found[part] for part in row.parts()], axis=0) for row in rows]
        ranks.append(np.stack([ranks_of_targets(mean, photos.targets[places]) for mean in means]))
        predicted.append(np.stack([mean.argmax(axis=1) for mean in means]))
        readable += places
    if not readable:
        raise EvaluationError(f"{photos.folder}: none of its photos can be read")
    results = zip(
        rows, np.concatenate(ranks, axis=1), np.concatenate(predicted, axis=1), strict=True
    )
    targets = photos.targets[readable]
    return ClassifierFigures(
        photos=len(readable),
        classes=classifiers[0].classes,
        skipped=tuple(skipped),
        rows=tuple(_score(row, plan, classifiers, targets, *result) for row, *result in results),
    )


# What is to be computed

_Part = tuple[int, str, int]  # network, crops (no sum), the scale's place


@dataclass(frozen=True, slots=True)
class _Row:
    networks: tuple[int, ...]
    crops: str
    scales: tuple[int, ...]  # places in each network's plan

    def parts(self) -> list[_Part]:
        return list(product(self.networks, self.crops.split("+"), self.scales))


def _plan(
    classifiers: Sequence[Classifier], crops: Sequence[str], scales: Sequence[int]
) -> list[tuple[int, ...]]:
    """The scales of each network, checked."""
    if not {*crops} <= {*CROPS}:
        raise EvaluationError(f"crops are {', '.join(CROPS)}, not {', '.join(crops)}")
    first, *others = classifiers
    for other in others:
        if other.classes != first.classes:
            raise EvaluationError(
                f"{first.name} and {other.name} tell different classes apart: evaluate each alone"
            )
    for one in classifiers:
        if scales and min(scales) < one.side:
            raise EvaluationError(
                f"scale {min(scales)} is less than the crops of {one.name}, {one.side} x {one.side}"
            )
    return [tuple(dict.fromkeys(scales)) or (_usual_scale(one),) for one in classifiers]


def _usual_scale(classifier: Classifier) -> int:
    if classifier.framing != "crop":
        return classifier.side
    return CROP_SHORT_SIDE * classifier.side // SIDE


def _rows(networks: int, crops: Sequence[str], scales: int) -> list[_Row]:
    every = tuple(range(scales))
    ways = [(place,) for place in every] + ([every] if scales > 1 else [])
    rows = [_Row((one,), crop, way) for one in range(networks) for crop in crops for way in ways]
    if networks > 1:
        rows += [_Row(tuple(range(networks)), crop, every) for crop in crops]
    return rows


# Computing it

_Views = list[list[Pixels]]  # of one photo: of each network, of each of its scales


def _read(
    path: Path, plan: Sequence[Sequence[int]], framings: Sequence[str]
) -> _Views | ImageError:
    """A photo at each network's scales."""
    try:
        pixels, _ = read_photo(path, min_side=MAX_PIXELS)  # scaled once, as published
        scaled = {scale: rescale(pixels, scale) for scales in plan for scale in scales}
    except ImageError as error:
        return error
    return [
        [scaled[scale] if framing == "crop" else frame(pixels, framing, scale) for scale in scales]
        for scales, framing in zip(plan, framings, strict=True)
    ]


def _chunks(
    photos: ClassifiedPhotos,
    read: Callable[[Path], _Views | ImageError],
    skipped: list[Skip],
    progress: Progress | None,
) -> Iterator[tuple[list[int], list[_Views]]]:
    """The photos that can be read, some at a time, with their places; the others are `skipped`."""
    places: list[int] = []
    chunk: list[_Views] = []
    paths = [photos.folder / path for path in photos.paths]
    for index, views in enumerate(read_ahead(paths, read, 2 * _CHUNK)):
        if isinstance(views, ImageError):
            skipped.append(Skip(photos.paths[index].as_posix(), views.reason))
        else:
            places.append(index)
            chunk.append(views)
        if chunk and (len(chunk) == _CHUNK or index == len(paths) - 1):
            yield places, chunk
            places, chunk = [], []
        if progress:
            progress("photos", index + 1, len(paths))


def _posteriors(
    chunk: Sequence[_Views], classifiers: Sequence[Classifier], crops: Sequence[str]
) -> dict[_Part, NDArray[np.float32]]:
    """The soft-max (m, classes) of m photos, each part's."""
    simple = {part for crop in crops for part in crop.split("+")}
    return {
        (network, crop, scale): _posterior([views[network][scale] for views in chunk], one, crop)
        for network, one in enumerate(classifiers)
        for crop in simple
        for scale in range(len(chunk[0][network]))
    }


def _posterior(photos: Sequence[Pixels], classifier: Classifier, crops: str) -> NDArray[np.float32]:
    """The soft-max (m, classes) of m photos by one way of cropping."""
    if crops == "dense":
        return np.stack([classifier.dense(pixels) for pixels in photos])
    cut = partial(_CUT[crops], side=classifier.side)
    each = len(cut(photos[0]))
    step = max(1, _HELD // each)
    parts = [
        classifier.probabilities(np.concatenate([cut(one) for one in photos[i : i + step]]))
        for i in range(0, len(photos), step)
    ]
    whole = np.concatenate(parts)
    return np.asarray(whole.reshape(len(photos), each, -1).mean(axis=1))


def _score(
    row: _Row,
    plan: Sequence[Sequence[int]],
    classifiers: Sequence[Classifier],
    targets: NDArray[np.intp],
    ranks: NDArray[np.intp],
    predicted: NDArray[np.intp],
) -> ClassifierScores:
    confusion = confusion_matrix(targets, predicted, len(classifiers[0].classes))
    scales = sorted({plan[network][place] for network, _, place in row.parts()})
    return ClassifierScores(
        networks=tuple(classifiers[network].name for network in row.networks),
        crops=row.crops,
        scales=tuple(scales),
        top1_error=top_k_error(1, ranks),
        top5_error=top_k_error(5, ranks),
        mean_class_accuracy=mean_class_accuracy(confusion),
        confusion=confusion,
    )
