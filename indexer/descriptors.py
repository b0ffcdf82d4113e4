"""All descriptors of a library at once, made short enough to be held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog
from indexer.segments import SegmentStore
from retrieval.neighbours import principal
from retrieval.search import stored_ids, stored_rows

DIMS = 128  # principal directions
_SAMPLE = 10_000  # descriptors from which they are found, 160 MB
_BLOCK = 4096  # descriptors read at once, 64 MB


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """The contents of a library that have photos, by id, and their descriptors, shortened."""

    contents: NDArray[np.int64]  # (n,)
    rows: NDArray[np.float32]  # (n, at most 128)


def reduced(
    catalog: Catalog,
    segments: SegmentStore,
    *,
    dims: int = DIMS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Reduced:
    """Describe each content by the first principal directions of all.

    progress: called with (contents done, contents). The same library gives the same rows, however
    it came to be.
    """
    hidden = np.array(catalog.hidden_contents(), np.int64)
    names = [segment.name for segment in catalog.segments()]
    ids = [stored_ids(segments.path(name)) for name in names]
    shown = [np.flatnonzero(~np.isin(part, hidden)) for part in ids]
    contents = np.concatenate(
        [np.empty(0, np.int64), *(part[rows] for part, rows in zip(ids, shown, strict=True))]
    )
    if not len(contents):
        return Reduced(contents, np.empty((0, dims), np.float32))
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(np.sort(contents))[:_SAMPLE])
    sampled = [
        (contents_, rows[np.isin(contents_, chosen)])
        for contents_, rows in _blocks(segments, names, ids, shown)
    ]
    order = np.argsort(np.concatenate([c[np.isin(c, chosen)] for c, _ in sampled]))
    axes = principal(np.concatenate([rows for _, rows in sampled])[order], dims, seed)
    del sampled
    short = np.empty((len(contents), len(axes.directions)), np.float32)
    done = 0
    for block, rows in _blocks(segments, names, ids, shown):
        short[done : done + len(block)] = axes.project(rows)
        done += len(block)
        if progress:
            progress(done, len(contents))
    order = np.argsort(contents)
    return Reduced(contents[order], short[order])


def _blocks(
    segments: SegmentStore,
    names: list[str],
    ids: list[NDArray[np.int64]],
    shown: list[NDArray[np.intp]],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
    """Contents (m,) and their descriptors (m, d), as many at once as memory should hold."""
    for name, own, rows in zip(names, ids, shown, strict=True):
        stored = stored_rows(segments.path(name))
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            yield own[block], stored[block]
