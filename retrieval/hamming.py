"""Codes in memory, and which of them are nearest to a query's by Hamming distance."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

_CARD_MOST = 2048  # neighbours that faiss finds on a card
_SHARE = 2_000_000  # codes (3 ms): fewer are compared before another thread has begun
_FAR = 1 << 30


class Codes:
    """Codes (n, bits / 8) uint8, all compared with each query's. May be used by several threads.

    A single query is shared by the processor's cores. Where a CUDA card and the GPU build of faiss
    are there, the codes are searched on the card, except among some of them, and for many
    neighbours.
    """

    def __init__(self, codes: NDArray[np.uint8]) -> None:
        self.stored = np.ascontiguousarray(codes)
        cores = os.cpu_count() or 1
        parts = min(cores, max(1, len(codes) // _SHARE))
        self._bounds = [len(codes) * part // parts for part in range(parts + 1)]
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="codes")
        self._card: Any = None
        self._guard = threading.Lock()  # an index on the card serves one thread at a time

    @property
    def bits(self) -> int:
        return 8 * int(self.stored.shape[1])

    def nearest(
        self, queries: NDArray[np.uint8], most: int, among: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Where the `most` nearest codes are, nearest first, equally near ones in order: (q, most).

        queries: (q, bits / 8). among: (n,) which codes compete, at least `most`; None is all.
        """
        queries = np.ascontiguousarray(queries)
        if among is None and most <= _CARD_MOST and faiss.get_num_gpus() > 0:
            return self._nearest_on_card(queries, most)
        if len(queries) > 1 or len(self._bounds) == 2:
            return self._scan(queries, most, among, 0, len(self.stored))[1]
        found = list(
            self._pool.map(
                lambda start, end: self._scan(queries, most, among, start, end),
                self._bounds[:-1],
                self._bounds[1:],
            )
        )
        distances, places = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        order = np.argsort(distances, axis=1, kind="stable")[:, :most]
        return np.take_along_axis(places, order, axis=1)

    def _scan(
        self,
        queries: NDArray[np.uint8],
        most: int,
        among: NDArray[np.bool_] | None,
        start: int,
        end: int,
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Distances and places (q, j) of the nearest codes from `start` to `end`, j <= most.

        Where fewer compete, the last ones are far away.
        """
        part = self.stored[start:end]
        shape = (len(queries), min(most, len(part)))
        distances, labels = np.zeros(shape, np.int32), np.full(shape, -1, np.int64)
        options = []
        if among is not None:
            bitmap = np.packbits(among[start:end], bitorder="little")
            options = [faiss.IDSelectorBitmap(bitmap)]
        with threads_for(len(queries)):
            faiss.hammings_knn_mc(
                faiss.swig_ptr(queries), faiss.swig_ptr(part), len(queries), len(part), shape[1],
                part.shape[1], faiss.swig_ptr(distances), faiss.swig_ptr(labels), *options
            )  # fmt: skip
        distances[labels < 0] = _FAR
        return distances, labels + start

    def _nearest_on_card(self, queries: NDArray[np.uint8], most: int) -> NDArray[np.int64]:
        with self._guard:
            if self._card is None:
                index = faiss.IndexBinaryFlat(self.bits)
                index.add(self.stored)
                self._resources = faiss.StandardGpuResources()  # must outlive the index
                self._card = faiss.GpuIndexBinaryFlat(self._resources, index)
            places: NDArray[np.int64] = self._card.search(queries, most)[1]
            return places


@contextmanager
def threads_for(queries: int) -> Iterator[None]:
    """faiss gives each query to one thread; threads without one would only spin, and cost time."""
    most = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(most, queries))  # of this Python thread only
    try:
        yield
    finally:
        faiss.omp_set_num_threads(most)
