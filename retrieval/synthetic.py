"""Descriptors for benches: as many as are wanted, with the structure of real ones.

A million photos are not at hand everywhere, and Gaussian noise is no stand-in: FC7 is sparse, its
rows lie in clusters, and codes live from that. So real rows are mixed and perturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import ImageError
from retrieval.images import frame, read_photo

if TYPE_CHECKING:
    from retrieval.extractor import Extractor
    from retrieval.reading import PhotoProgress

VIEWS = 10  # of a photo
_PART = 0.6  # of each side, in the views of a corner
_MIXED = 3  # real rows in one of ours
_SPREAD = 0.5  # each number is multiplied by 1 - _SPREAD to 1 + _SPREAD


def describe_views(
    paths: Sequence[Path], extractor: Extractor, progress: PhotoProgress | None = None
) -> NDArray[np.float32]:
    """Describe ten views of each photo: whole and its four corners, and all of these mirrored.

    Returns (10 n, d) unit rows; files that give no picture are left out.
    """
    described = []
    for done, path in enumerate(paths, start=1):
        try:
            pixels, _ = read_photo(path)
        except ImageError:
            continue
        described.append(extractor.describe(_views(pixels, extractor)).fc7)
        if progress:
            progress(done, len(paths))
    return np.concatenate(described) if described else np.empty((0, 0), np.float32)


def _views(pixels: NDArray[np.uint8], extractor: Extractor) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    down, across = max(1, round(_PART * height)), max(1, round(_PART * width))
    parts = [
        pixels,
        *(rows[:, side] for rows in (pixels[:down], pixels[-down:])
          for side in (slice(across), slice(-across, None))),
    ]  # fmt: skip
    framed = np.stack(
        [frame(np.ascontiguousarray(p), extractor.framing, extractor.side) for p in parts]
    )
    return np.concatenate([framed, framed[:, :, ::-1]])


def mix(seeds: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw `count` unit rows (count, d): each a mean of three seeds (n, d), perturbed.

    The weights of the three are drawn evenly from all that sum to 1. Every number is multiplied by
    a random one, so what no seed activates stays zero.
    """
    rows = np.zeros((count, seeds.shape[1]), np.float32)
    weights = rng.dirichlet(np.ones(_MIXED), count).astype(np.float32)
    for weight in weights.T:
        rows += weight[:, np.newaxis] * seeds[rng.integers(len(seeds), size=count)]
    noise = rng.random(rows.shape, np.float32)
    noise *= 2 * _SPREAD
    noise += 1 - _SPREAD
    rows *= noise
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
