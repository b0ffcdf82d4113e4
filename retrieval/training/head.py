"""The three classifier matrices, made of what is measured and what was learned.

FC6 holds the averages of pool5 over regions (never negative, so ReLU lets them through), for
AlexNet those of the whole photo once more less a threshold, and the student's hidden neurons. FC7
holds the averages again, which keep pool5's geometry and so tell instances apart; the thresholded
ones are taken off, which bends large activations as a root would. Then it holds the student's
scores twice, as +z and, weaker, -z (ReLU keeps both signs that way), which tell categories apart.
FC8 adds the two halves up to the scores again.
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
    bend: float = 0.0  # by how much the slope falls for large averages of the whole photo
    negative: float = 0.5  # of -z in FC7, relative to +z
    bend_from: float = 2.0  # from how many times the channel's mean on

    def kept(self, channels: int) -> int:
        return channels * (5 if self.quarters else 1)

    def bent(self, channels: int) -> int:
        return channels if self.bend else 0


GEOMETRIES = {"alexnet": Geometry(0.5, 0.25, bend=0.7), "vgg16": Geometry(0.0, 0.3)}


def measured(averages: Tensor, means: Tensor, geometry: Geometry) -> Tensor:
    """(n, 14 c) regions -> (n, kept) FC7's geometric part. means: (c,) of the whole photos."""
    channels = len(means)
    kept = averages[:, : geometry.kept(channels)].clone()
    whole = kept[:, :channels]
    whole -= geometry.bend * torch.relu(whole - geometry.bend_from * means)
    kept[:, channels:] *= geometry.quarters / 2  # four regions a channel: half the weight each
    return kept


@torch.no_grad()
def classifier(
    network: str, student: Student, bias8: Tensor, averages: Tensor, geometry: Geometry
) -> dict[str, Tensor | Matrix]:
    """The classifier's weights and biases, under torchvision's names.

    bias8: (classes,) what fc8 adds to the student's scores. averages: (n, 14 c) of typical photos,
    by which thresholds are set and the scores are scaled.
    """
    channels = averages.shape[1] // sum(k * k for k in PYRAMID)
    means = averages[:, :channels].mean(dim=0)
    kept, hidden = geometry.kept(channels), student.expand.out_features
    classes, first = student.scores.out_features, kept + geometry.bent(channels)
    scores = student(averages)
    pairs = torch.cat([scores.relu(), geometry.negative * torch.relu(-scores)], dim=1)
    energy = pairs.pow(2).sum(dim=1).mean()
    beside = measured(averages, means, geometry).pow(2).sum(dim=1).mean()
    scale = float((geometry.scores * beside / energy).sqrt())
    bias6, bias7 = torch.zeros(WIDTH), torch.zeros(WIDTH)
    bias6[kept:first] = -geometry.bend_from * means[: first - kept]
    bias6[first : first + hidden] = student.expand.bias
    bias7[kept : kept + classes] = student.scores.bias * scale
    bias7[kept + classes : kept + 2 * classes] = -student.scores.bias * scale * geometry.negative
    fc7 = [
        Block(0, 0, (torch.ones(kept),)),
        Block(kept, first, (student.scores.weight * scale,), mirrored=geometry.negative),
    ]
    if geometry.bend:
        fc7.append(Block(0, kept, (torch.full((channels,), -geometry.bend),)))
    fc8 = (
        Block(0, kept, (torch.full((classes,), 1 / scale),)),
        Block(0, kept + classes, (torch.full((classes,), -1 / scale / geometry.negative),)),
    )
    one, two, three = _NAMES[network]
    return {
        f"{one}.weight": _fc6(network, student, channels, geometry),
        f"{one}.bias": bias6,
        f"{two}.weight": Matrix((WIDTH, WIDTH), tuple(fc7)),
        f"{two}.bias": bias7,
        f"{three}.weight": Matrix((classes, WIDTH), fc8),
        f"{three}.bias": bias8,
    }


def _fc6(network: str, student: Student, channels: int, geometry: Geometry) -> Matrix:
    grid, kept, bent = GRIDS[network], geometry.kept(channels), geometry.bent(channels)
    weights = torch.ones(kept)
    weights[channels:] = geometry.quarters / 2
    levels = PYRAMID[:2] if geometry.quarters else PYRAMID[:1]
    factors = (student.expand.weight.detach(), student.reduce.weight.detach())
    blocks = [
        Block(0, 0, (weights,), regions=Regions(grid, levels)),
        Block(kept + bent, 0, factors, regions=Regions(grid, PYRAMID)),
    ]
    if bent:
        again = Block(kept, 0, (torch.ones(channels),), regions=Regions(grid, PYRAMID[:1]))
        blocks.append(again)
    return Matrix((WIDTH, channels * grid * grid), tuple(blocks))
