"""The three classifier matrices, made of what is measured and what was learned.

FC6 holds the averages of pool5 over regions (never negative, so ReLU lets them through) and the
student's hidden neurons. FC7 holds the averages again, which keep pool5's geometry and so tell
instances apart; then the student's scores twice, as +z and, weaker, -z (ReLU keeps both signs that
way), which tell categories apart. FC8 adds the two halves up to the scores again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retrieval.compact import Block, Matrix, Regions
from retrieval.training.features import PYRAMID
from retrieval.training.student import Student

WIDTH = 4096
GRIDS = {"alexnet": 6, "vgg16": 7}
_NAMES = {"alexnet": ("classifier.1", "classifier.4", "classifier.6")} | {
    "vgg16": ("classifier.0", "classifier.3", "classifier.6")
}


@dataclass(frozen=True, slots=True)
class Geometry:
    """Which averages FC7 keeps, and how strong the learned scores are beside them."""

    quarters: float  # weight of the 2 x 2 regions beside the whole photo's averages; 0: left out
    scores: float  # mean energy of the scores in FC7, relative to the averages'
    negative: float = 0.5  # of -z in FC7, relative to +z

    def kept(self, channels: int) -> int:
        return channels * (5 if self.quarters else 1)

    def weights(self, channels: int) -> Tensor:
        """(kept,) of the averages: four regions a channel, so half the weight each."""
        weights = torch.ones(self.kept(channels))
        weights[channels:] = self.quarters / 2
        return weights


GEOMETRIES = {"alexnet": Geometry(0.5, 0.25), "vgg16": Geometry(0.0, 0.3)}


@torch.no_grad()
def classifier(
    network: str, student: Student, bias8: Tensor, averages: Tensor, geometry: Geometry
) -> dict[str, Tensor | Matrix]:
    """The classifier's weights and biases, under torchvision's names.

    bias8: (classes,) what fc8 adds to the student's scores. averages: (n, 14 c) of typical photos,
    by which the scores are scaled.
    """
    channels = averages.shape[1] // sum(k * k for k in PYRAMID)
    kept, hidden = geometry.kept(channels), student.expand.out_features
    classes = student.scores.out_features
    scores = student(averages)
    pairs = torch.cat([scores.relu(), geometry.negative * torch.relu(-scores)], dim=1)
    energy = pairs.pow(2).sum(dim=1).mean()
    beside = (averages[:, :kept] * geometry.weights(channels)).pow(2).sum(dim=1).mean()
    scale = float((geometry.scores * beside / energy).sqrt())
    bias6, bias7 = torch.zeros(WIDTH), torch.zeros(WIDTH)
    bias6[kept : kept + hidden] = student.expand.bias
    bias7[kept : kept + classes] = student.scores.bias * scale
    bias7[kept + classes : kept + 2 * classes] = -student.scores.bias * scale * geometry.negative
    fc7 = (
        Block(0, 0, (torch.ones(kept),)),
        Block(kept, kept, (student.scores.weight * scale,), mirrored=geometry.negative),
    )
    fc8 = (
        Block(0, kept, (torch.full((classes,), 1 / scale),)),
        Block(0, kept + classes, (torch.full((classes,), -1 / scale / geometry.negative),)),
    )
    one, two, three = _NAMES[network]
    return {
        f"{one}.weight": _fc6(network, student, channels, geometry),
        f"{one}.bias": bias6,
        f"{two}.weight": Matrix((WIDTH, WIDTH), fc7),
        f"{two}.bias": bias7,
        f"{three}.weight": Matrix((classes, WIDTH), fc8),
        f"{three}.bias": bias8,
    }


def _fc6(network: str, student: Student, channels: int, geometry: Geometry) -> Matrix:
    grid, kept = GRIDS[network], geometry.kept(channels)
    levels = PYRAMID[:2] if geometry.quarters else PYRAMID[:1]
    factors = (student.expand.weight.detach(), student.reduce.weight.detach())
    averages = Block(0, 0, (geometry.weights(channels),), regions=Regions(grid, levels))
    hidden = Block(kept, 0, factors, regions=Regions(grid, PYRAMID))
    return Matrix((WIDTH, channels * grid * grid), (averages, hidden))
