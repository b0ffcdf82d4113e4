"""Groups of rows that lie together: by density, without a number to choose, or by k-means.

Density: each row climbs to its nearest denser neighbours until it reaches a peak; a peak that
stands too little above the saddle to a higher one joins it (ToMATo: Chazal, Guibas, Oudot and
Skraba, 2013, "Persistence-based clustering in Riemannian manifolds"). How little is too little is
the one thing to choose, from few big groups to many small ones. What is farther from its
neighbours than is usual belongs nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.neighbours import nearest_others

NEIGHBOURS = 10  # whose mean distance tells how dense it is around a row
SMALLEST = 4  # rows; fewer are no group
_CLIMB = 5  # neighbours a row climbs by
_LONELY = 1.35  # times the median mean distance: farther out is nowhere
_DENSEST = 0.5  # times the same: copies of one photo are no peak above all others
_FLAT = 0.4  # persistence at granularity 0; it falls to 0 with the square
_REPEATS = 5  # of k-means, of which the tightest counts
_ITERATIONS = 25
_EVENT = 6 * 3600.0  # seconds; photos so far apart in time are hardly of one occasion any more
_PLACE = 2.0  # kilometres, likewise
_EARTH = 6371.0  # kilometres, its radius
_BLOCK = 65_536  # pairs compared at once


@dataclass(frozen=True, slots=True, eq=False)
class Occasion:
    """When and where photos were taken: seconds (n,), degrees (n, 2); NaN where it isn't known."""

    seconds: NDArray[np.float64] | None = None
    degrees: NDArray[np.float64] | None = None


def group_by_density(
    rows: NDArray[np.float32], granularity: float = 0.5, occasion: Occasion | None = None
) -> NDArray[np.int64]:
    """Return the group of each row (n, d), 0, 1, ... from the largest on; -1 for none.

    granularity: from 0, few big groups, to 1, many small ones.
    occasion: what else brings rows together; it weighs as much as how they look.
    """
    if len(rows) < SMALLEST:
        return np.full(len(rows), -1)
    distances, places = nearest_others(rows, min(NEIGHBOURS, len(rows) - 1))
    if occasion is not None:
        distances, places = _nearest_in_all(rows, places, occasion)
    spread = distances.mean(axis=1)
    usual = float(np.median(spread))
    least = max(_DENSEST * usual, float(np.finfo(np.float32).tiny))
    density = -np.log(np.maximum(spread, least))
    persistence = _FLAT * (1 - granularity) ** 2
    peaks = _climb(places[:, :_CLIMB], density, persistence)
    peaks[spread > _LONELY * usual] = -1
    return _by_size(peaks)


def group_by_kmeans(rows: NDArray[np.float32], number: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the group of each row (n, d), 0 to number - 1, the largest first; number <= n."""
    means = faiss.Kmeans(
        rows.shape[1],
        number,
        niter=_ITERATIONS,
        nredo=_REPEATS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=10**6,
    )
    means.train(np.ascontiguousarray(rows, np.float32))
    return _by_size(means.index.search(np.ascontiguousarray(rows, np.float32), 1)[1][:, 0], 1)


def medoid(rows: NDArray[np.float32]) -> int:
    """Which row (n, d) has the least squared distances to the others: the nearest to their mean."""
    return int(np.argmin(_apart(rows, rows.mean(axis=0))))


def cohesion(rows: NDArray[np.float32]) -> float:
    """Mean cosine similarity between any two of these rows (n, d), each with itself too.

    rows: unit rows, or their places along principal directions, which keep their distances.
    """
    return float(1 - (_apart(rows, rows.mean(axis=0)) ** 2).mean())


def _climb(
    places: NDArray[np.int64], density: NDArray[np.floating], persistence: float
) -> NDArray[np.int64]:
    """The peak (n,) that each row belongs to. places: (n, k), a row's neighbours."""
    order = np.argsort(-density, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    n, k = places.shape
    one, other = np.repeat(np.arange(n), k), places.ravel()
    # Each edge once, from its lower end; lower ends in the order in which they are met.
    low = np.where(rank[one] > rank[other], one, other)
    high = np.where(rank[one] > rank[other], other, one)
    sort = np.lexsort((rank[high], rank[low]))
    height = density.tolist()
    ranks = rank.tolist()
    root = list(range(n))

    def peak(row: int) -> int:
        while root[row] != row:
            root[row] = row = root[root[row]]
        return row

    for lower, higher in zip(low[sort].tolist(), high[sort].tolist(), strict=True):
        mine, theirs = peak(lower), peak(higher)
        if mine == theirs:
            continue
        less, more = (mine, theirs) if ranks[mine] > ranks[theirs] else (theirs, mine)
        if less == lower or height[less] - height[lower] < persistence:
            root[less] = more
    return np.array([peak(row) for row in range(n)], np.int64)


def _nearest_in_all(
    rows: NDArray[np.float32], places: NDArray[np.int64], occasion: Occasion
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The nearest neighbours (n, k) when time and place count as much as the rows do.

    places: (n, k), the nearest by the rows alone; they compete with the nearest in time and place.
    """
    n, k = places.shape
    rivals = [places]
    if occasion.seconds is not None:
        rivals.append(_beside(occasion.seconds, k))
    if occasion.degrees is not None:
        latitude, longitude = occasion.degrees.T
        rivals += [_beside(latitude, k), _beside(longitude, k)]
    others = np.concatenate(rivals, axis=1)
    distances = np.empty(others.shape, np.float32)
    for start in range(0, n, max(1, _BLOCK // others.shape[1])):
        own = slice(start, start + max(1, _BLOCK // others.shape[1]))
        distances[own] = _joint_distances(rows, others[own], np.arange(n)[own], occasion)
    # What comes twice counts once.
    order = np.argsort(others, axis=1, kind="stable")
    others = np.take_along_axis(others, order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    distances[:, 1:][others[:, 1:] == others[:, :-1]] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(others, order, axis=1)


def _beside(values: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """The k rows on both sides of each one when they are sorted by these values (n,); k < n."""
    n = len(values)
    order = np.argsort(values, kind="stable")  # NaN comes last
    steps = np.concatenate([np.arange(-(k // 2), 0), np.arange(1, k - k // 2 + 1)])
    beside = np.empty((n, k), np.int64)
    beside[order] = order[(np.arange(n)[:, np.newaxis] + steps) % n]
    return beside


def _joint_distances(
    rows: NDArray[np.float32],
    others: NDArray[np.int64],
    own: NDArray[np.int64],
    occasion: Occasion,
) -> NDArray[np.float32]:
    """Root mean square (m, r) of the distance by rows and how far apart the occasions are, 0 to 1.

    What isn't known of a photo is far from all others.
    """
    parts = [np.linalg.norm(rows[others] - rows[own][:, np.newaxis], axis=2)]
    if occasion.seconds is not None:
        hours = np.abs(occasion.seconds[others] - occasion.seconds[own][:, np.newaxis])
        parts.append(_far(hours / _EVENT))
    if occasion.degrees is not None:
        there, here = np.radians(occasion.degrees[others]), np.radians(occasion.degrees[own])
        north, east = np.moveaxis(there - here[:, np.newaxis], 2, 0)
        haversine = np.sin(north / 2) ** 2 + (
            np.cos(there[..., 0]) * np.cos(here[:, np.newaxis, 0]) * np.sin(east / 2) ** 2
        )
        parts.append(_far(2 * _EARTH * np.arcsin(np.sqrt(np.minimum(haversine, 1))) / _PLACE))
    return np.asarray(np.sqrt(np.mean(np.square(parts), axis=0)), np.float32)


def _far(measure: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 where it is the same occasion, towards 1 where it is another, or isn't known."""
    return np.where(np.isnan(measure), 1.0, 1 - np.exp(-measure))


def _by_size(groups: NDArray[np.int64], smallest: int = SMALLEST) -> NDArray[np.int64]:
    """Number groups 0, 1, ... from the largest on; equals by their first row; small ones are -1."""
    names, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    real = (names >= 0) & (sizes >= smallest)
    order = np.lexsort((first[real], -sizes[real]))
    numbers = np.full(len(names), -1)
    numbers[np.flatnonzero(real)[order]] = np.arange(real.sum())
    return numbers[np.searchsorted(names, groups)]


def _apart(rows: NDArray[np.float32], point: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(rows - point, axis=1), np.float64)
