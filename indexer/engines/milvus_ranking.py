"""Searching a library's vectors in Milvus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog
from indexer.engines.expressions import both_of
from indexer.engines.milvus_client import MOST, WIDTH, Found, MilvusClient, code_of, writes_of
from retrieval.codes import WIDER, shorten
from retrieval.errors import LibraryError, SearchError
from retrieval.search import nearest_of, rank_rows


@dataclass(frozen=True, slots=True)
class Passing:
    """Filters, as Milvus is told them."""

    expressions: tuple[str, ...]  # that exclude each other; what passes one of them passes
    count: int  # of the contents that do, by the catalogue


class MilvusRanking:
    """The rows of a library that the catalogue knew when this was made: a `Ranking`."""

    def __init__(
        self, client: MilvusClient, catalog: Catalog, hidden: Sequence[int], rows: int
    ) -> None:
        """hidden: contents that must not be answered; rows: how many may."""
        self._client = client
        self._name = client.address.name
        self._catalog = catalog
        self._rows = rows
        self._last = catalog.last_content()
        self._settings = catalog.settings()
        self._shown = f"id > 0 and id <= {self._last}"
        if hidden:
            self._shown = both_of(self._shown, f"id not in {list(hidden)}")
        self._codes = ("", 0)

    @property
    def bits(self) -> int:
        return self._codes[1]

    def use_codes(self, collection: str, bits: int) -> None:
        """From now on these codes can be searched."""
        self._codes = (collection, bits)

    def count(self, only: Passing | None = None) -> int:
        return self._rows if only is None else only.count

    def some(self, count: int, seed: int = 0) -> NDArray[np.int64]:
        drawn = np.random.default_rng(seed).permutation(min(self._last, 1_000_000))[: 10 * count]
        step = max(1, self._last // 1_000_000)  # of more, each so many-th may be drawn
        there = self._catalog.photos_of((1 + step * drawn).tolist())
        return np.sort(np.array(list(there)[:count], np.int64))

    def exact(
        self, queries: NDArray[np.float32], k: int, only: Passing | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        found = self._search(self._name, list(queries), k, only)
        return nearest_of([_padded(found)], len(queries), k)

    def by_codes(
        self,
        queries: NDArray[np.float32],
        activations: NDArray[np.float32],
        k: int,
        shortlist: int,
        only: Passing | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        collection, bits = self._codes
        if activations.shape[1] != bits:
            raise SearchError(
                f"the photo's code has {activations.shape[1]} bits, those of {collection} {bits}"
            )
        shortlist = max(k, shortlist)
        asked = [row.tobytes() for row in np.packbits(activations > 0, axis=1)]
        listed = self._search(collection, asked, min(WIDER * shortlist, MOST), only)
        found = []
        for query, mine, some in zip(queries, activations, listed, strict=True):
            if not some:
                return nearest_of([], len(queries), k)
            near = sorted(some, key=lambda row: row.id)
            ids = [row.id for row in near]
            codes = [row.code for row in near]
            if not all(codes):
                codes = [code_of(row) for row in self._client.fetch(collection, ids, ["code"])]
            packed = np.array([np.frombuffer(code, np.uint8) for code in codes])
            kept = np.array(ids)[np.sort(shorten(packed, mine, shortlist))]
            found.append(rank_rows(query, kept, self._fp16(kept.tolist()), k))
        squared, nearest = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return nearest_of([(squared, nearest)], len(queries), k)

    def descriptors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        return self._fp16(ids).astype(np.float32)

    def _fp16(self, ids: Sequence[int]) -> NDArray[np.float16]:
        found = self._client.fetch(self._name, ids, ["fc7"])
        return np.array([row["fc7"] for row in found], np.float16).reshape(len(ids), WIDTH)

    def _search(
        self, name: str, queries: Sequence[Any], most: int, only: Passing | None
    ) -> list[list[Found]]:
        """The nearest of each query among what passes one of the expressions."""
        if most > MOST:
            raise LibraryError(f"{most:,} answers were asked for: Milvus gives at most {MOST:,}")
        found: list[list[Found]] = [[] for _ in queries]
        writes = writes_of(self._settings, name)
        for one in ("",) if only is None else only.expressions:
            both = both_of(self._shown, one)
            answers = self._client.search(name, queries, most, both, writes)
            found = [[*a, *b] for a, b in zip(found, answers, strict=True)]
        return [sorted(one)[:most] for one in found]


def _padded(
    found: Sequence[Sequence[Found]],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Answers of any length, as faiss would give them: padded with id -1."""
    longest = max(map(len, found), default=0)
    squared = np.full((len(found), longest), np.inf, np.float32)
    ids = np.full((len(found), longest), -1, np.int64)
    for row, hits in enumerate(found):
        for at, hit in enumerate(hits):
            squared[row, at], ids[row, at] = hit.distance, hit.id
    return squared, ids
