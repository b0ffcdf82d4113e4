"""All descriptors of a library at once, made short enough to be held in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog
from indexer.coding import chosen_rows
from indexer.moments import at_one_moment
from indexer.vectors import Blocks, Vectors
from retrieval.neighbours import principal

DIMS = 128  # principal directions
_SAMPLE = 10_000  # descriptors from which they are found, 160 MB


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """The contents of a library that have photos, by id, and their descriptors, shortened."""

    contents: NDArray[np.int64]  # (n,)
    rows: NDArray[np.float32]  # (n, at most 128)


def reduced(
    catalog: Catalog,
    vectors: Vectors,
    *,
    dims: int = DIMS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Reduced:
    """Describe each content by the first principal directions of all.

    progress: called with (contents done, contents). The same library gives the same rows, however
    it came to be.
    """

    def open_at(view: Catalog) -> tuple[NDArray[np.int64], Blocks, Blocks]:
        contents = np.array(view.live_contents(), np.int64)
        return contents, vectors.blocks(view), vectors.blocks(view)

    contents, first, second = at_one_moment(catalog, open_at)
    if not len(contents):
        return Reduced(contents, np.empty((0, dims), np.float32))
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(contents)[:_SAMPLE])
    axes = principal(chosen_rows(first, chosen), dims, seed)
    short = np.empty((len(contents), len(axes.directions)), np.float32)
    found = np.zeros(len(contents), np.bool_)
    for ids, rows in second:
        at = np.minimum(np.searchsorted(contents, ids), len(contents) - 1)
        live = contents[at] == ids
        if live.any():
            short[at[live]] = axes.project(rows[live])
            found[at[live]] = True
            if progress:
                progress(int(found.sum()), len(contents))
    return Reduced(contents[found], short[found])  # a server's may have gone meanwhile
