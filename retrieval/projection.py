"""Many numbers a photo -> two: a map on which photos that look alike lie side by side.

By t-SNE (van der Maaten and Hinton, 2008) from the two principal directions, as Kobak and Berens
(2019, "The art of using t-SNE for single-cell transcriptomics") advise: so groups that are alike
come to lie beside each other, and the same rows give the same map. A row that comes later is put
where its nearest neighbours lie, and nothing else moves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from retrieval.neighbours import nearest, nearest_others, principal

Progress = Callable[[int, int], None]  # steps done, steps

PERPLEXITY = 30.0  # how many neighbours a row keeps close, about
FEW = 8  # rows; with fewer, two principal directions say as much
_GROUPING, _SPREADING = 250, 500  # steps
_EARLY = 12.0  # how much stronger neighbours pull while groups form
_REPORT = 10  # steps between two reports
_TREE = 10_000  # rows; up to here forces are summed over a tree (Barnes and Hut), then over a grid
_START = 1e-4  # standard deviation of the first places
_NEAREST = 10  # old neighbours that say where a new row goes


def project(
    rows: NDArray[np.float32], seed: int = 0, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Give each row (n, d) a place (n, 2), around (0, 0); their unit means nothing.

    The same rows and seed give the same places on the same machine. Rows that are equal come to lie
    close to each other, not on each other. Memory: some 6 KB a row.
    """
    if len(rows) < FEW:
        return _flat(rows)
    import openTSNE  # takes a second

    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    distances, others = nearest_others(rows, int(3 * perplexity))
    known = openTSNE.nearest_neighbors.PrecomputedNeighbors(others, distances.astype(np.float64))
    affinities = openTSNE.affinity.PerplexityBasedNN(
        knn_index=known, perplexity=perplexity, random_state=seed
    )
    embedding = openTSNE.TSNEEmbedding(
        _start(rows, seed),
        affinities,
        negative_gradient_method="bh" if len(rows) <= _TREE else "fft",
        n_jobs=1,  # sums in another order would give another map
        random_state=seed,
    )
    for early, steps, before in ((_EARLY, _GROUPING, 0), (1.0, _SPREADING, _GROUPING)):
        embedding.optimize(
            steps,
            exaggeration=early,
            momentum=0.5 if early > 1 else 0.8,
            learning_rate=len(rows) / early,
            callbacks=_Told(progress, before),
            callbacks_every_iters=_REPORT,
            inplace=True,
        )
    found: NDArray[np.float32] = np.array(embedding, np.float32)
    found -= found.mean(axis=0)
    return found


def place(
    new: NDArray[np.float32],
    old: NDArray[np.float32],
    places: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Give new rows (m, d) places (m, 2) among old ones (n, d), whose places (n, 2) stay; n > 0.

    Each comes to the mean place of its nearest old rows, nearer ones counting more; those that lie
    in another corner of the map than most count next to nothing, or the mean would be in a desert.
    Where a row comes to lie depends on no other new one.
    """
    k = min(_NEAREST, len(old))
    distances, found = nearest(old, new, k)
    # A neighbour twice as far from the nearest as is usual for this row counts e times less.
    beyond = distances - distances[:, :1]
    usual = np.maximum(beyond.mean(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    weights = np.exp(-beyond / usual)
    around = places[found]  # (m, k, 2)
    middle = np.stack([_median(around[..., axis], weights) for axis in (0, 1)], axis=1)
    apart = ((around - middle[:, np.newaxis]) ** 2).sum(axis=2)
    weights /= 1 + apart  # t-SNE's own kernel
    return np.asarray(
        (around * weights[..., np.newaxis]).sum(axis=1) / weights.sum(axis=1, keepdims=True),
        np.float32,
    )


def _median(values: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weighted median (m,) of values (m, k): half the weight lies on either side."""
    order = np.argsort(values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    weights = np.take_along_axis(weights, order, axis=1)
    middle = (np.cumsum(weights, axis=1) - weights / 2) / weights.sum(axis=1, keepdims=True)
    after = np.minimum((middle < 0.5).sum(axis=1), values.shape[1] - 1)
    return np.asarray(values[np.arange(len(values)), after], np.float32)


def _flat(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The two principal directions (n, 2), those that rows do not have being 0."""
    found = np.zeros((len(rows), 2), np.float32)
    if len(rows):
        axes = principal(rows, 2)
        flat = axes.project(rows)
        found[:, : flat.shape[1]] = flat
    return found


def _start(rows: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """The two principal directions, small, and shaken a little, so that equal rows can part."""
    flat = _flat(rows).astype(np.float64)
    spread = flat[:, 0].std()
    if spread > 0:
        flat *= _START / spread
    return flat + np.random.default_rng(seed).normal(0, _START / 100, flat.shape)


class _Told:
    """What openTSNE calls on its way."""

    def __init__(self, progress: Progress | None, before: int) -> None:
        self._progress, self._before = progress, before

    def __call__(self, step: int, _error: float, _places: object) -> None:
        if self._progress:
            self._progress(self._before + step, _GROUPING + _SPREADING)
