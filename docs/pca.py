"""What retrieval keeps where FC7 is kept as fp16, or as fewer numbers by PCA: docs/scaling.md.

    python docs/pca.py --learn-from FOLDER --data FOLDER --labels folder

PCA is learned on photos of one folder and measured on those of another, as
`fc7 evaluate retrieval` measures them. Every photo must be readable.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.extractor import Extractor
from retrieval.ground_truth import files_below, read_ground_truth
from retrieval.reading import describe_files
from retrieval.scores import Asked, rank_by_distance, score_exact

NUMBERS = (1024, 512, 256, 128)
NEAREST = (10, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learn-from", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", default="folder")
    options = parser.parse_args()
    extractor = Extractor("alexnet", "bundled", "auto")

    below = options.learn_from
    learned = describe([below / file for file in files_below(below)], extractor)
    mean = learned.mean(axis=0)
    axes = np.linalg.svd(learned - mean, full_matrices=False)[2]

    truth = read_ground_truth(options.data, options.labels)
    fc7 = describe([options.data / path for path in truth.paths], extractor)
    asked = [
        Asked(query.photo, truth.groups[query.group], np.array([query.photo]))
        for query in truth.queries
    ]
    _, nearest = score_exact(fc7, len(fc7), asked)
    print(f"{len(learned):,} photos learned from, {len(fc7):,} measured")
    tell("FC7, fp16", fc7, asked, nearest)
    for numbers in NUMBERS:
        tell(f"PCA, {numbers:,}", (fc7 - mean) @ axes[:numbers].T, asked, nearest)


def describe(files: Sequence[Path], extractor: Extractor) -> NDArray[np.float32]:
    """FC7 (n, 4096). Raises the first file's ImageError."""
    rows = []
    for _, found in describe_files(files, extractor):
        if isinstance(found, Exception):
            raise found
        rows.append(found.fc7[0])
    return np.stack(rows)


def tell(
    name: str,
    rows: NDArray[np.float32],
    asked: Sequence[Asked],
    nearest: Sequence[NDArray[np.intp]],
) -> None:
    """Print mAP, and which share of the nearest ten by FC7 are among the first by these rows."""
    kept = rows.astype(np.float16).astype(np.float32)
    scores, _ = score_exact(kept, len(kept), asked)
    found: list[list[float]] = []
    orders = rank_by_distance(kept, len(kept), np.array([query.row for query in asked]))
    for query, ten, order in zip(asked, nearest, orders, strict=True):
        answer = order[order != query.row]
        found.append([float(np.isin(ten, answer[:most]).mean()) for most in NEAREST])
    recalls = ", ".join(
        f"{share:.4f} in {most}"
        for most, share in zip(NEAREST, np.mean(found, axis=0), strict=True)
    )
    print(f"{name:12} mAP {scores.mean_average_precision:.4f}  of the ten nearest {recalls}")


if __name__ == "__main__":
    main()
