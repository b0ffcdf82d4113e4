"""How well grouping finds the groups that people made: of FC7, and of what is simpler than FC7."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.clustering import group_by_density, group_by_kmeans
from retrieval.errors import EvaluationError, ImageError
from retrieval.extractor import Extractor
from retrieval.ground_truth import Skip, read_ground_truth
from retrieval.images import frame, read_photo
from retrieval.metrics import adjusted_rand_index, mutual_information, purity
from retrieval.neighbours import principal
from retrieval.reading import describe_files, read_ahead

Progress = Callable[[str, int, int], None]  # stage, done, of how many
DIMS = 128  # as in a library
_SIDE = 32  # pixels of the raw picture
_LEVELS = 4  # of each colour in the histogram
_AHEAD = 256


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """How one way of grouping compares with the labels."""

    groups: int
    nmi: float  # of all photos; those left out count as one more group
    ari: float  # likewise
    purity: float  # of the photos in groups
    left_out: float  # share of the photos that are in none


@dataclass(frozen=True, slots=True)
class AlbumFigures:
    """What was found, and on what."""

    photos: int
    labels: int
    skipped: tuple[Skip, ...]
    network: str
    weights: str
    granularity: float
    by: dict[str, dict[str, GroupFigures]]  # descriptor -> kmeans, density

    def summary(self) -> dict[str, object]:
        """The same, ready for JSON: FC7's figures on top, the simpler ones below `baselines`."""
        found = {
            name: {way: asdict(figures) for way, figures in ways.items()}
            for name, ways in self.by.items()
        }
        about = {
            "photos": self.photos,
            "labels": self.labels,
            "skipped": [asdict(skip) for skip in self.skipped],
            "network": self.network,
            "weights": self.weights,
            "granularity": self.granularity,
        }
        return about | found.pop("FC7") | {"baselines": found}


def evaluate_albums(
    folder: Path,
    labels: str | Path,
    extractor: Extractor,
    progress: Progress = lambda stage, done, total: None,
    *,
    granularity: float = 0.5,
) -> AlbumFigures:
    """Group labelled photos by k-means, told how many labels there are, and by density, not told.

    labels: as `read_ground_truth` takes them, if each photo has one.
    Raises EvaluationError if they can't be read, or there are not two labels.
    """
    truth = read_ground_truth(folder, labels)
    paths = [folder / path for path in truth.paths]
    owner = np.full(len(paths), -1)
    for number, group in enumerate(truth.groups):
        owner[group] = number
    fc7: list[NDArray[np.float32]] = []
    kept, skipped = [], list(truth.skipped)
    tell = partial(progress, "photos")
    for index, described in describe_files(paths, extractor, progress=tell):
        if isinstance(described, ImageError):
            skipped.append(Skip(truth.paths[index].as_posix(), described.reason))
        elif owner[index] >= 0:
            kept.append(index)
            fc7.append(described.fc7[0])
    own = owner[kept]
    if len(np.unique(own)) < 2:
        raise EvaluationError(f"{folder} holds no two readable photos of different labels")
    pixels, colours = _plainly([paths[index] for index in kept], partial(progress, "pixels"))
    by = {}
    for name, rows in (("FC7", np.array(fc7)), ("raw pixels", pixels), ("colours", colours)):
        short = principal(rows, DIMS).project(rows)
        by[name] = {
            "kmeans": _compare(own, group_by_kmeans(short, len(np.unique(own)))),
            "density": _compare(own, group_by_density(short, granularity)),
        }
    return AlbumFigures(
        photos=len(kept),
        labels=len(np.unique(own)),
        skipped=tuple(skipped),
        network=extractor.network,
        weights=extractor.weights,
        granularity=granularity,
        by=by,
    )


def _compare(labels: NDArray[np.intp], groups: NDArray[np.int64]) -> GroupFigures:
    inside = groups >= 0
    return GroupFigures(
        groups=int(groups.max()) + 1,
        nmi=mutual_information(labels, groups),
        ari=adjusted_rand_index(labels, groups),
        purity=purity(labels[inside], groups[inside]),
        left_out=float((~inside).mean()),
    )


def _plainly(
    paths: Sequence[Path], progress: Callable[[int, int], None]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixels (n, 32 * 32 * 3), 0 to 1, and histograms (n, 64) of colours, whose squares sum to 1.

    Euclidean distance of the roots of histograms is Hellinger's.
    """
    pixels, colours = [], []
    for done, small in enumerate(read_ahead(paths, _small, _AHEAD), start=1):
        pixels.append(small.reshape(-1) / np.float32(255))
        level = (small.reshape(-1, 3) // (256 // _LEVELS)) @ [_LEVELS**2, _LEVELS, 1]
        counts = np.bincount(level, minlength=_LEVELS**3)
        colours.append(np.sqrt(counts / counts.sum()))
        progress(done, len(paths))
    return np.array(pixels, np.float32), np.array(colours, np.float32)


def _small(path: Path) -> NDArray[np.uint8]:
    return frame(read_photo(path)[0], "squash", _SIDE)
