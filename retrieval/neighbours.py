"""The nearest others of each photo of a large set: fewer numbers first, then faiss.

4096 numbers a photo are too many to compare each with each: 100,000 photos would take half an
hour. Nearly all that tells photos apart lies in the first hundred or two principal directions, in
which it takes half a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

Progress = Callable[[int, int], None]  # rows done, rows
_SPARE = 16  # directions beyond those asked for, so that the last of them are right too
_PASSES = 3  # power iterations
_BLOCK = 4096  # queries at once
_EXACT = 20_000  # rows; beyond, only some cells of a partition are searched
_SEARCHED = 32  # cells
_LEARNED = 64  # rows a cell that it is learned from


@dataclass(frozen=True, slots=True, eq=False)
class Principal:
    """The principal directions of a set of rows."""

    mean: NDArray[np.float32]  # (d,)
    directions: NDArray[np.float32]  # (dims, d), orthonormal, those of the largest variance first

    def project(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Rows (n, d) -> (n, dims): Euclidean distances are kept as far as the directions go."""
        centred = np.asarray(rows, np.float32) - self.mean
        return np.asarray(centred @ self.directions.T, np.float32)


def principal(rows: NDArray[np.floating], dims: int, seed: int = 0) -> Principal:
    """Find the first `dims` principal directions of rows (n, d); fewer if n or d is smaller.

    By randomized power iteration (Halko, Martinsson and Tropp, 2011, algorithm 4.4).
    """
    x = np.array(rows, np.float32)
    mean = x.mean(axis=0)
    x -= mean
    dims = min(dims, *x.shape)
    wide = min(dims + _SPARE, *x.shape)
    basis = np.random.default_rng(seed).standard_normal((x.shape[1], wide), np.float32)
    for _ in range(_PASSES):
        basis = np.linalg.qr(x.T @ (x @ basis))[0]
    _, _, inside = np.linalg.svd(np.linalg.qr(x @ basis)[1], full_matrices=False)
    return Principal(mean, np.ascontiguousarray((inside @ basis.T)[:dims], np.float32))


def nearest_others(
    rows: NDArray[np.float32], k: int, progress: Progress | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """For each row (n, d) its k nearest others, nearest first; k < n.

    Returns Euclidean distances (n, k) float32 and their places among the rows (n, k) int64.
    Memory: the rows, the answers, and a block of queries; never n x n.
    """
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(np.ascontiguousarray(rows, np.float32))
    distances = np.empty((len(rows), k), np.float32)
    places = np.empty((len(rows), k), np.int64)
    for start in range(0, len(rows), _BLOCK):
        own = np.arange(start, min(start + _BLOCK, len(rows)))
        squared, found = index.search(index.reconstruct_n(start, len(own)), k + 1)
        # A row is its own nearest, but not always the first among others equal to it.
        itself = found == own[:, np.newaxis]
        itself[~itself.any(axis=1), -1] = True
        distances[own] = np.sqrt(np.maximum(squared[~itself].reshape(len(own), k), 0))
        places[own] = found[~itself].reshape(len(own), k)
        if progress:
            progress(int(own[-1]) + 1, len(rows))
    return distances, places


def nearest(
    rows: NDArray[np.float32], asked: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k rows (n, d) nearest to each of those asked with (m, d), nearest first; k <= n.

    Returns Euclidean distances (m, k) float32 and their places among the rows (m, k) int64.
    """
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(np.ascontiguousarray(rows, np.float32))
    return _ask(index, asked, k)


class Rows:
    """Rows (n, d) that are asked which of them are nearest; many at once, and again.

    Up to 20,000 are all compared. Beyond they lie in 4 sqrt(n) cells, learned from them (faiss's
    inverted file), of which each question searches the 32 nearest: work grows as n to the 1.5.
    Only what is far, as copies are not, can be missed.
    """

    def __init__(self, rows: NDArray[np.float32]) -> None:
        rows = np.ascontiguousarray(rows, np.float32)
        self._index = flat = faiss.IndexFlatL2(rows.shape[1])
        if len(rows) > _EXACT:
            cells = min(int(4 * len(rows) ** 0.5), len(rows) // 39)  # faiss warns of fewer a cell
            self._index = faiss.IndexIVFFlat(flat, rows.shape[1], cells)
            self._index.nprobe = _SEARCHED
            self._index.cp.max_points_per_centroid = _LEARNED
            self._index.train(rows)
        self._index.add(rows)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def nearest(
        self, asked: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest to each of those asked with (m, d), nearest first; k <= n.

        Returns Euclidean distances (m, k) float32 and places among the rows (m, k) int64; where
        cells held fewer, distances above 1e18 and -1.
        """
        return _ask(self._index, asked, k)


def _ask(
    index: faiss.Index, asked: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    squared, places = index.search(np.ascontiguousarray(asked, np.float32), k)
    return np.sqrt(np.maximum(squared, 0)), places
