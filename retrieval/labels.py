"""Naming what a photo shows: fc8's probabilities as words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prediction:
    """A class of fc8 and how likely the network finds it."""

    label: str
    probability: float  # 0..1


def top_labels(
    probabilities: NDArray[np.float32], classes: Sequence[str], k: int = 5
) -> list[list[Prediction]]:
    """Name the k likeliest classes of each photo, likeliest first, equals in fc8's order.

    probabilities: (n, len(classes)), each row adding up to 1.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return [
        [Prediction(classes[column], float(row[column])) for column in columns]
        for row, columns in zip(probabilities, order, strict=True)
    ]
