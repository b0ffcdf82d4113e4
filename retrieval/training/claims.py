"""What AlexNet's section 3 claims, tried small: ReLU, response normalisation, overlapping pooling.

The photos are CIFAR-10's, the network is small: `retrieval.papers.four_layers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from retrieval.errors import TrainingError
from retrieval.extractor import has_bfloat16
from retrieval.networks import MEAN, STD
from retrieval.papers import four_layers
from retrieval.training.augment import draw_epoch, mirror, padded, random_crops
from retrieval.training.photos import Photos, View
from retrieval.training.split import Listed

BATCH = 128
GOAL = 0.25  # of the training photos wrong, as in Figure 1
RATES = (0.005, 0.01, 0.02)  # of which each gets the one it is fastest with, as in Figure 1
_WINDOW = 100  # steps that the training error is the mean of
_LONGEST = 12  # epochs
_RATE = 0.01  # where errors are compared
_SIDE, _MARGIN = 32, 4

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the networks that are compared."""

    name: str
    activation: Literal["relu", "tanh"] = "relu"
    normalised: bool = False
    overlapping: bool = True
    start: Literal["published", "even"] = "published"


PLAIN = Variant("ReLU")
NORMALISED = Variant("response normalisation", normalised=True)
APART = Variant("pooling 2/2, not 3/2", overlapping=False)
QUICK = (
    PLAIN,
    Variant("tanh", activation="tanh"),
    Variant("ReLU, even start", start="even"),
    Variant("tanh, even start", activation="tanh", start="even"),
)


@dataclass(frozen=True, slots=True)
class Speed:
    """Figure 1: steps until a network makes no more than 25 % mistakes on what it learns from."""

    name: str
    rate: float  # the learning rate it was fastest with
    steps: tuple[float, ...]  # one a seed; infinite where it never came so far


@dataclass(frozen=True, slots=True)
class Error:
    """Sections 3.3 and 3.4: mistakes on other photos after the same training."""

    name: str
    top1: tuple[float, ...]  # share that is wrong, one a seed


@dataclass(frozen=True, slots=True)
class Claims:
    """What came of it."""

    photos: int  # that train
    epochs: int
    seeds: int
    speeds: tuple[Speed, ...]
    errors: tuple[Error, ...]


@dataclass(frozen=True, slots=True)
class Squares:
    """Photos of one split in memory."""

    pixels: NDArray[np.uint8]  # (n, 32, 32, 3)
    labels: NDArray[np.int64]  # (n,)


def measure_claims(
    train: Squares, val: Squares, *, seeds: int, epochs: int, tell: Tell = lambda line: None
) -> Claims:
    """Train each variant with several seeds. epochs: of each network that is asked for errors.

    tell: called with a line of words after each training.
    """
    speeds = []
    for variant in QUICK:
        steps_by_rate = {}
        for rate in RATES:
            steps_by_rate[rate] = steps_to_goal(variant, train, rate, seed=0)
            tell(f"{variant.name}, rate {rate}: {steps_by_rate[rate]:g} steps")
        best = min(RATES, key=lambda rate: steps_by_rate[rate])
        steps = [steps_by_rate[best]]
        for seed in range(1, seeds):
            steps.append(steps_to_goal(variant, train, best, seed))
            tell(f"{variant.name}, rate {best}, seed {seed}: {steps[-1]:g} steps")
        speeds.append(Speed(variant.name, best, tuple(steps)))
    errors = []
    for variant in (PLAIN, NORMALISED, APART):
        top1 = []
        for seed in range(seeds):
            top1.append(error_after(variant, train, val, epochs, seed))
            tell(f"{variant.name}, seed {seed}: {top1[-1]:.4f} wrong")
        errors.append(Error(variant.name, tuple(top1)))
    return Claims(len(train.labels), epochs, seeds, tuple(speeds), tuple(errors))


def steps_to_goal(variant: Variant, train: Squares, rate: float, seed: int) -> float:
    """Count the steps until the mean error of the last 100 is 25 %; infinity after 12 epochs.

    "No regularization of any kind" (Figure 1): no decay, crops or mirror images.
    """
    learner = _Learner(variant, seed, decay=0.0)
    wrong: list[float] = []
    for batch in _epochs(train, _LONGEST, seed, plain=True):
        wrong.append(learner.step(batch, rate))
        if not math.isfinite(wrong[-1]):
            return math.inf
        if len(wrong) >= _WINDOW and np.mean(wrong[-_WINDOW:]) <= GOAL:
            return float(len(wrong))
    return math.inf


def error_after(variant: Variant, train: Squares, val: Squares, epochs: int, seed: int) -> float:
    """The share of `val` that is wrong after so many epochs, the rate falling evenly to 0."""
    learner = _Learner(variant, seed, decay=0.0005)
    steps = epochs * (len(train.labels) // BATCH)
    for step, batch in enumerate(_epochs(train, epochs, seed, plain=False)):
        learner.step(batch, _RATE * (1 - step / steps))
    network = learner.network.eval()
    wrong = 0
    with torch.inference_mode():
        for start in range(0, len(val.labels), 500):
            part = slice(start, start + 500)
            found = network(_input(val.pixels[part])).argmax(dim=1).numpy()
            wrong += int((found != val.labels[part]).sum())
    return wrong / len(val.labels)


def read_squares(photos: Sequence[Listed], split: str, most: int, seed: int = 0) -> Squares:
    """Read photos of a split as squares of 32, `most` of them drawn at random."""
    mine = [photo for photo in photos if photo.split == split]
    names = sorted({photo.label for photo in photos})
    if len(mine) < BATCH:
        raise TrainingError(f"{len(mine)} photos to {split} with are too few: {BATCH} at least")
    chosen = np.random.default_rng(seed).permutation(len(mine))[:most]
    labels = np.array([names.index(mine[i].label) for i in chosen], np.int64)
    source = Photos(
        [mine[i].path for i in chosen], labels, View("frame", _SIDE, "squash"), fill=False
    )
    (batch,) = source.batches([np.arange(len(chosen))])
    return Squares(batch.pixels, batch.labels)


class _Learner:
    """A network and its optimizer."""

    def __init__(self, variant: Variant, seed: int, *, decay: float) -> None:
        torch.manual_seed(seed)
        self.network = four_layers(
            activation=variant.activation,
            normalised=variant.normalised,
            overlapping=variant.overlapping,
            start=variant.start,
        ).to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.0, momentum=0.9, weight_decay=decay
        )

    def step(self, batch: Squares, rate: float) -> float:
        """Learn from a batch; return the share of it that was wrong, NaN if the loss ran over."""
        labels = torch.from_numpy(batch.labels)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            logits = self.network(_input(batch.pixels)).float()
        loss = nn.functional.cross_entropy(logits, labels)
        if not loss.isfinite():
            return math.nan
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return float((logits.argmax(dim=1) != labels).float().mean())


def _epochs(train: Squares, epochs: int, seed: int, *, plain: bool) -> Iterator[Squares]:
    """All batches of so many epochs; plain: the photos as they are."""
    for epoch in range(epochs):
        order, draws = draw_epoch(seed, epoch, len(train.labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            pixels = train.pixels[rows]
            if not plain:
                pixels = random_crops(padded(pixels, _MARGIN), _SIDE, draws.places[rows])
                pixels = mirror(pixels, draws.mirrored[rows])
            yield Squares(pixels, train.labels[rows])


def _input(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(n, 32, 32, 3) uint8 -> (n, 3, 32, 32) float32, normalised, channels last."""
    photos = torch.from_numpy(pixels).float().div_(255)
    return photos.sub_(torch.tensor(MEAN)).div_(torch.tensor(STD)).permute(0, 3, 1, 2)
