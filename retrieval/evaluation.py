"""How well do descriptors find what belongs together? Measured on labelled photos.

Every photo asks for the others of its label. All figures are over the photos that have at least one
other of their label; the rest (distractors) only stand in the way.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import EvaluationError, ImageError
from retrieval.metrics import average_precision, n_s_score, precision_at
from retrieval.reading import PhotoProgress, describe_files

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

_DIMENSIONS = 4096
_BLOCK = 256  # queries at a time: with 50,000 photos, 50 MB of distances


@dataclass(frozen=True, slots=True)
class Skip:
    """A photo that was left out, and why."""

    path: str  # relative to the folder
    reason: str


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Means over the queries. The query is left out of its answer, except as n_s counts it."""

    mean_average_precision: float  # uninterpolated, over all relevant photos, 0..1
    precision_at_10: float  # divided by 10, even where fewer are relevant, 0..1
    n_s: float  # same label among the first four, the query itself being one, 1..4


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """What an evaluation found, and on what."""

    photos: int  # described and searched
    queries: int  # those with another photo of their label: the figures are means over them
    without_relevant: int  # those without
    labels: int
    skipped: tuple[Skip, ...]
    network: str
    weights: str
    exact: RetrievalScores  # unit FC7, Euclidean distance, every photo compared

    def summary(self) -> dict[str, object]:
        """The same, ready for JSON, the figures under their usual names."""
        return {
            "photos": self.photos,
            "queries": self.queries,
            "without_relevant": self.without_relevant,
            "labels": self.labels,
            "skipped": [asdict(skip) for skip in self.skipped],
            "network": self.network,
            "weights": self.weights,
            "exact": {
                "mAP": self.exact.mean_average_precision,
                "precision@10": self.exact.precision_at_10,
                "n_s": self.exact.n_s,
            },
        }


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A photo of the ground truth: its place relative to the folder, and its label."""

    path: PurePath
    label: str


def evaluate_retrieval(
    folder: Path,
    labels: str | Path,
    extractor: Extractor,
    progress: PhotoProgress | None = None,
) -> RetrievalFigures:
    """Describe labelled photos and measure how well each finds the others of its label.

    labels: "folder" (a photo's label is the folder that holds it, relative to `folder`; photos
    directly in `folder` have none and are skipped; hidden files and linked folders are passed over)
    or a CSV file with the columns path (relative to `folder`) and label.

    Files that are missing or give no picture are skipped and listed. Memory: 16 KB a photo.
    Raises EvaluationError if the ground truth can't be read or gives no query.
    """
    if not folder.is_dir():
        raise EvaluationError(f"no folder {folder}: give the folder of the labelled photos")
    if labels == "folder":
        truth, skipped = _label_by_folder(folder)
    else:
        truth, skipped = _read_csv(Path(labels)), []
    fc7 = np.empty((len(truth), _DIMENSIONS), np.float32)
    kept: list[str] = []
    paths = [folder / photo.path for photo in truth]
    for index, described in describe_files(paths, extractor, progress=progress):
        if isinstance(described, ImageError):
            skipped.append(Skip(truth[index].path.as_posix(), described.reason))
        else:
            fc7[len(kept)] = described.fc7[0]
            kept.append(truth[index].label)
    names, codes, counts = np.unique(kept, return_inverse=True, return_counts=True)
    queries = int(counts[counts > 1].sum())
    if not queries:
        raise EvaluationError(
            f"{folder} holds no two readable photos of one label: there is nothing to measure"
        )
    return RetrievalFigures(
        photos=len(kept),
        queries=queries,
        without_relevant=len(kept) - queries,
        labels=len(names),
        skipped=tuple(skipped),
        network=extractor.network,
        weights=extractor.weights,
        exact=score_exact(fc7[: len(kept)], codes),
    )


def score_exact(fc7: NDArray[np.float32], labels: NDArray[np.integer]) -> RetrievalScores:
    """Search with every photo that has another of its label, and average the figures.

    fc7: (n, d) descriptors. labels: (n,), equal for photos that belong together, at least two.
    """
    scores = []
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    others = counts[codes] - 1
    for query, answer in enumerate(rank_by_distance(fc7)):
        if others[query]:
            relevant = codes[answer] == codes[query]
            scores.append(
                (
                    average_precision(relevant, int(others[query])),
                    precision_at(10, relevant),
                    n_s_score(relevant),
                )
            )
    mean_average_precision, precision_at_10, n_s = np.mean(scores, axis=0).tolist()
    return RetrievalScores(mean_average_precision, precision_at_10, n_s)


def rank_by_distance(fc7: NDArray[np.float32]) -> Iterator[NDArray[np.intp]]:
    """For each row: the indices of all other rows (n - 1,), nearest first.

    Euclidean distance; at equal distance the lower index comes first.
    """
    squares = np.einsum("nd,nd->n", fc7, fc7)
    for start in range(0, len(fc7), _BLOCK):
        # Squared distances, less the query's own square: the same for its whole row.
        distances = squares - 2 * (fc7[start : start + _BLOCK] @ fc7.T)
        for query, row in enumerate(distances, start):
            order = np.argsort(row, kind="stable")
            yield order[order != query]


def _label_by_folder(folder: Path) -> tuple[list[_Labelled], list[Skip]]:
    """Label every file below a folder by the folder that holds it."""
    truth, skipped = [], []
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if any(part.startswith(".") for part in place.parts) or path.is_dir():
            continue
        if len(place.parts) == 1:
            skipped.append(Skip(place.as_posix(), "no label (not in a subfolder)"))
        else:
            truth.append(_Labelled(place, place.parent.as_posix()))
    return truth, skipped


def _read_csv(path: Path) -> list[_Labelled]:
    """Read ground truth from a CSV file whose first line names the columns path and label."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            columns = rows.fieldnames or []
            if not {"path", "label"} <= set(columns):
                raise EvaluationError(
                    f"{path} must begin with a line that names the columns path,label; it has "
                    f"{','.join(columns) or 'nothing'}"
                )
            truth = [_labelled(row, f"{path}, line {rows.line_num}") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{path} can't be read as CSV: {error}") from error
    _refuse_repeats(truth, path)
    return truth


def _labelled(row: dict[str, str | None], where: str) -> _Labelled:
    """Check one line: both fields there, and the photo inside the folder."""
    name, label = row["path"], row["label"]
    if not name or not label:
        raise EvaluationError(f"{where}: path or label is empty")
    place = PurePath(name)
    if place.is_absolute() or ".." in place.parts or "\0" in name:
        raise EvaluationError(f"{where}: {name} leaves the folder; paths are relative to it")
    return _Labelled(place, label)


def _refuse_repeats(truth: Sequence[_Labelled], path: Path) -> None:
    """A photo listed twice would be its own best answer."""
    seen: set[PurePath] = set()
    for photo in truth:
        if photo.path in seen:
            raise EvaluationError(f"{path} lists {photo.path} twice: keep one line a photo")
        seen.add(photo.path)
