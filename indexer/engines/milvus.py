"""Vectors in Milvus: the `Vectors` of a library that is too large, or too busy, for one machine.

Of a library named NAME there are these collections:

NAME          id, FC7 (Euclidean distance), facts
NAME_<coder>  id, code (Hamming distance), facts; of the coder in use, and while codes are made
              anew of the one before

The id is that of the content in the catalogue. Facts are what never changes of a content and can be
searched by: the day, camera, place and classes; they are numbers (names by a hash), so an
expression needs no quoting and holds what a person typed nowhere. What does change, folders and
albums, is asked of the catalogue, and told Milvus as ids. The catalogue filters the answers again.

Milvus takes half precision only from version 2.4 on: FC7 is rounded to fp16, as in a local library,
and sent in float32. So the same distances come out.

All reading is strongly consistent: what was written before is seen. An answer is known to be whole
by the `Witnesses` that are written along, or by the ids that were asked for; one that isn't, for a
node of the cluster has died, is asked for again, and in the end refused. How many writes a
collection has had, and so which witnesses, the catalogue knows: the setting `writes:<collection>`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog, NewContent, SegmentRow
from indexer.engines.expressions import FACTS, both_of, expression_of, facts_of
from indexer.engines.milvus_client import ROWS, WIDTH, MilvusClient, parts_of, writes_of
from indexer.engines.milvus_ranking import MilvusRanking, Passing
from indexer.engines.stores import MilvusAddress
from indexer.filters import NO_FILTERS, Filters
from indexer.vectors import Ranking
from retrieval.codes import Coder

_IDS = 20_000  # in one expression


class MilvusStore:
    """The `Vectors` of one library on one server; all are one part."""

    def __init__(self, address: MilvusAddress, catalog: Catalog) -> None:
        """Raises LibraryError if pymilvus is missing or the server doesn't answer."""
        self._client = MilvusClient(address)
        self._name = address.name
        self._catalog = catalog
        self._coder: tuple[str, Coder] | None = None

    def close(self) -> None:
        self._client.close()

    def collections(self) -> list[str]:
        """Those of this library's name that are there."""
        return self._client.collections()

    def use(self, name: str, coder: Coder) -> None:
        self._coder = (name, coder)

    def write(
        self,
        ids: NDArray[np.int64],
        descriptors: NDArray[np.float32],
        contents: Sequence[NewContent],
    ) -> SegmentRow:
        in_use = [self._name, *([] if self._coder is None else [self._codes(self._coder[0])])]
        settings = self._catalog.settings()  # a write that did not come to count is overwritten
        self._client.writes = {name: writes_of(settings, name) for name in in_use}
        facts = [facts_of(content) for content in contents]
        rows = descriptors.astype(np.float16)
        self._client.make(self._name, "fc7", WIDTH)
        self._client.upsert(self._name, "fc7", ids, list(rows.astype(np.float32)), facts)
        self._write_codes(ids, rows, facts)
        return SegmentRow(self._name, len(ids))

    def marks(self) -> dict[str, str]:
        return {f"writes:{name}": str(count) for name, count in self._client.writes.items()}

    def encode(self, name: str) -> str | None:
        if self._coder is None:
            return None
        codes = self._codes(self._coder[0])
        if self._client.has(codes):
            if writes_of(self._catalog.settings(), codes):
                return None  # made, and kept up to date
            self._client.drop(codes)  # a killed run began them
        self._client.writes = {codes: 0}
        for ids, rows, facts in self._read(("fc7", *FACTS)):
            self._write_codes(ids, rows, facts)
        return None

    def sweep(self, catalog: Catalog) -> None:
        last = catalog.last_content()
        for name in self._client.collections():
            if name == self._name or self._coder is None or name == self._codes(self._coder[0]):
                self._client.delete(name, f"id > {last}")
            else:
                self._client.drop(name)

    def gather(self, catalog: Catalog) -> None:
        """Milvus does so itself."""

    def drop_hidden(self, catalog: Catalog) -> list[str]:
        dead = catalog.contents_of([self._name], live=False)
        ids = [content for content, _ in dead]
        for some in parts_of(ids, _IDS):
            for collection in self._client.collections():
                self._client.delete(collection, f"id in {some}")
        if dead:
            with catalog.write() as writer:
                writer.add_segment(SegmentRow(self._name, -len(dead)))
                writer.replace_segments([], None, ids)
        return [hash_ for _, hash_ in dead]

    def blocks(self, catalog: Catalog) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        for ids, rows, _ in self._read(("fc7",)):
            yield ids, rows

    def open(self, catalog: Catalog) -> MilvusRanking:
        rows = sum(segment.rows for segment in catalog.segments())
        hidden = catalog.hidden_contents()
        # It asks the catalogue later too, when the moment has passed.
        return MilvusRanking(self._client, self._catalog, hidden, rows - len(hidden))

    def open_codes(self, ranking: Ranking, coder: str) -> None:
        assert isinstance(ranking, MilvusRanking), "a store gets back what it opened"
        ranking.use_codes(self._codes(coder), self._client.width(self._codes(coder)))

    def passing(self, catalog: Catalog, filters: Filters) -> Passing:
        count = catalog.count_passing(filters)
        fixed = expression_of(filters, catalog)
        changing = replace(NO_FILTERS, folder=filters.folder, album=filters.album)
        if changing == NO_FILTERS:
            return Passing((fixed,), count)
        ids = sorted(set(catalog.contents_passing(changing)))
        parts = (both_of(fixed, f"id in {some}") for some in parts_of(ids, _IDS))
        return Passing(tuple(parts), count)

    def lost(self, catalog: Catalog) -> list[str]:
        return [one.name for one in catalog.segments() if not self._client.has(one.name)]

    def _codes(self, coder: str) -> str:
        """The collection of a coder's codes."""
        return f"{self._name}_{coder}"

    def _write_codes(
        self, ids: NDArray[np.int64], rows: NDArray[np.float16], facts: Sequence[dict[str, Any]]
    ) -> None:
        if self._coder is None:
            return
        name, coder = self._codes(self._coder[0]), self._coder[1]
        self._client.make(name, "code", coder.bits)
        codes = [code.tobytes() for code in coder.encode(rows)]
        self._client.upsert(name, "code", ids, codes, facts)

    def _read(
        self, fields: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16], list[dict[str, Any]]]]:
        """All rows that the catalogue knows, by id: ids, FC7, and the facts among the fields."""
        after = 0
        while ids := self._catalog.content_ids(after, ROWS):
            found = self._client.fetch(self._name, ids, fields)
            rows = np.array([row["fc7"] for row in found], np.float16)
            facts = [{fact: row[fact] for fact in FACTS if fact in row} for row in found]
            yield np.array(ids, np.int64), rows, facts
            after = ids[-1]
