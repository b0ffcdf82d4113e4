"""A linear classifier on frozen FC7, by the protocol of Caltech-101.

How good are a network's features for classes that it was not trained on? Fei-Fei, Fergus and Perona
(2004) and, for features of AlexNet, DeCAF (Donahue et al. 2013, section 4.1): so many training
photos a class, drawn several times, and the mean over classes of the accuracy on the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval.errors import EvaluationError, ImageError
from retrieval.ground_truth import Skip, files_below
from retrieval.metrics import confusion_matrix, mean_class_accuracy
from retrieval.reading import describe_files

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

Progress = Callable[[str, int, int], None]  # what ("photos", "splits"), done, in all

LEFT_OUT = "BACKGROUND_Google"  # Caltech-101's clutter: it is no class
MOST_TESTED = 50  # photos a class, as is customary: large classes are the easy ones
STRENGTHS = (1e-3, 1e-4, 1e-5, 1e-6)  # of the penalty, strongest first
_FOLDS = 3
_STEPS = 300


@dataclass(frozen=True, slots=True, eq=False)
class LinearClassifier:
    """Scores of classes that are linear in a descriptor: (row - mean) weights + bias."""

    mean: NDArray[np.float32]  # (d,)
    weights: NDArray[np.float32]  # (d, c)
    bias: NDArray[np.float32]  # (c,)
    strength: float  # of the penalty that it was learned with

    def predict(self, fc7: NDArray[np.float32]) -> NDArray[np.intp]:
        """(n, d) -> (n,) the class of the highest score."""
        return np.asarray(((fc7 - self.mean) @ self.weights + self.bias).argmax(axis=1))


@dataclass(frozen=True, slots=True)
class Split:
    """What one drawing of training photos gave."""

    accuracy: float  # mean over classes, 0..1
    strength: float  # that validation chose


@dataclass(frozen=True, slots=True)
class LinearFigures:
    """What a linear classifier reaches."""

    network: str
    weights: str
    photos: int
    classes: int
    train: int  # photos a class
    most_tested: int  # photos a class
    skipped: tuple[Skip, ...]
    splits: tuple[Split, ...]

    @property
    def mean(self) -> float:
        return float(np.mean([split.accuracy for split in self.splits]))

    @property
    def deviation(self) -> float:
        """Of the splits, as a sample's; 0 for a single one."""
        spread = [split.accuracy for split in self.splits]
        return float(np.std(spread, ddof=1)) if len(spread) > 1 else 0.0

    def summary(self) -> dict[str, object]:
        """The same, ready for JSON."""
        return asdict(self) | {"mean_class_accuracy": self.mean, "deviation": self.deviation}


def evaluate_linear(
    folder: Path,
    extractor: Extractor,
    *,
    train: int = 30,
    splits: int = 5,
    progress: Progress | None = None,
) -> LinearFigures:
    """Describe photos in class folders, learn from `train` of each class and test on the others.

    train: photos a class, at least 3. splits: how often they are drawn, by the seeds 0, 1, ...
    At most 50 photos a class are tested. BACKGROUND_Google is left out, files that give no picture
    are skipped.

    Raises EvaluationError if there are fewer than two classes, or one has too few photos.
    """
    if not folder.is_dir():
        raise EvaluationError(f"no folder {folder}: give a folder of class folders")
    tell = progress or (lambda what, done, total: None)
    paths = [p for p in files_below(folder) if len(p.parts) > 1 and p.parts[0] != LEFT_OUT]
    fc7 = np.empty((len(paths), extractor.fc7_size), np.float32)
    read: list[int] = []
    skipped = []
    files = [folder / path for path in paths]
    for index, row in describe_files(files, extractor, progress=partial(tell, "photos")):
        if isinstance(row, ImageError):
            skipped.append(Skip(paths[index].as_posix(), row.reason))
        else:
            fc7[len(read)] = row.fc7[0]
            read.append(index)
    names, labels = np.unique([paths[index].parts[0] for index in read], return_inverse=True)
    _check(folder, names, labels, train)
    found = []
    for seed in range(splits):
        tell("splits", seed, splits)
        found.append(try_split(fc7[: len(read)], labels, train, seed))
    tell("splits", splits, splits)
    return LinearFigures(
        network=extractor.network,
        weights=extractor.weights,
        photos=len(read),
        classes=len(names),
        train=train,
        most_tested=MOST_TESTED,
        skipped=tuple(skipped),
        splits=tuple(found),
    )


def try_split(fc7: NDArray[np.float32], labels: NDArray[np.intp], train: int, seed: int) -> Split:
    """Draw `train` photos of each class, learn from them, and test on at most 50 of the others.

    fc7: (n, d). labels: (n,), 0 and up, each with more than `train` photos. What is tested has no
    part in learning, nor in choosing the penalty.
    """
    learn, test = draw_split(labels, train, seed)
    classifier = learn_linear(fc7[learn], labels[learn], seed)
    predicted = classifier.predict(fc7[test])
    confusion = confusion_matrix(labels[test], predicted, int(labels.max()) + 1)
    return Split(mean_class_accuracy(confusion), classifier.strength)


def draw_split(
    labels: NDArray[np.intp], train: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places of `train` photos of each class, and of at most 50 others of each."""
    rng = np.random.default_rng(seed)
    mixed = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return (
        np.concatenate([places[:train] for places in mixed]),
        np.concatenate([places[train : train + MOST_TESTED] for places in mixed]),
    )


def learn_linear(
    fc7: NDArray[np.float32], labels: NDArray[np.intp], seed: int = 0
) -> LinearClassifier:
    """Learn logistic regression: soft-max of linear scores, squared weights penalised.

    fc7: (n, d). labels: (n,), every one of 0 ... c - 1 at least 3 times. The penalty's strength is
    the one that is best on thirds of the photos held out in turn; of equals the strongest.
    """
    mean = fc7.mean(axis=0)
    # Rows of mean squared length 1, so that strengths mean the same for every network.
    scale = float(np.sqrt(((fc7 - mean) ** 2).sum(axis=1).mean())) or 1.0
    rows, targets = torch.from_numpy((fc7 - mean) / scale), torch.from_numpy(labels)
    rng = np.random.default_rng(seed)
    fold = np.empty(len(labels), np.intp)
    for label in np.unique(labels):  # each class in all thirds alike
        places = rng.permutation(np.flatnonzero(labels == label))
        fold[places] = np.arange(len(places)) % _FOLDS
    right = np.zeros(len(STRENGTHS))
    for held in range(_FOLDS):
        out = torch.from_numpy(fold == held)
        for place, (weights, bias) in enumerate(_path(rows[~out], targets[~out], STRENGTHS)):
            right[place] += int(((rows[out] @ weights + bias).argmax(1) == targets[out]).sum())
    best = int(right.argmax())
    *_, (weights, bias) = _path(rows, targets, STRENGTHS[: best + 1])
    return LinearClassifier(mean, (weights / scale).numpy(), bias.numpy(), STRENGTHS[best])


def _path(rows: Tensor, targets: Tensor, strengths: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """Solutions for each strength; each starts from the one before, which is near."""
    weights = torch.zeros(rows.shape[1], int(targets.max()) + 1)
    bias = torch.zeros(weights.shape[1])
    found = []
    for strength in strengths:
        weights, bias = _solve(rows, targets, strength, weights, bias)
        found.append((weights, bias))
    return found


def _solve(
    rows: Tensor, targets: Tensor, strength: float, weights: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Minimise mean cross-entropy + strength / 2 * squared weights: a convex function."""
    weights, bias = weights.clone().requires_grad_(), bias.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights, bias],
        max_iter=_STEPS,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(rows @ weights + bias, targets)
        value = value + strength / 2 * weights.pow(2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach(), bias.detach()


def _check(folder: Path, names: NDArray[np.str_], labels: NDArray[np.intp], train: int) -> None:
    if train < _FOLDS:
        raise EvaluationError(f"{train} training photos a class are too few: at least {_FOLDS}")
    if len(names) < 2:
        raise EvaluationError(f"{folder} has no two class folders with photos: name such a folder")
    counts = np.bincount(labels)
    if counts.min() <= train:
        few = names[counts.argmin()]
        raise EvaluationError(
            f"{few} has {counts.min():,} photos, none to test after {train} to learn from: ask for "
            "fewer with --train"
        )
