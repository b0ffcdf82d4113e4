"""Vectors in Milvus: the `Vectors` of a library that is too large, or too busy, for one machine.

Of a library named NAME there are these collections:

NAME          id, FC7 (Euclidean distance), facts
NAME_<coder>  id, code (Hamming distance), facts; of the coder in use, and while codes are made anew
              of the one before

The id is that of the content in the catalogue. Facts are what never changes of a content and can be
searched by: the day, camera, place and classes; they are numbers (names by a hash), so an
expression needs no quoting and holds what a person typed nowhere. What does change, folders and
albums, is asked of the catalogue, and told Milvus as ids. The catalogue filters the answers again.

Milvus takes half precision only from version 2.4 on: FC7 is rounded to fp16, as in a local library,
and sent in float32. So the same distances come out.

All reading is strongly consistent: what was written before is seen. `Witnesses` say how an answer
is known to be whole.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog, NewContent
from indexer.engines.stores import MilvusAddress
from indexer.filters import NO_FILTERS, Filters
from indexer.vectors import Ranking
from retrieval.codes import WIDER, Coder, shorten
from retrieval.errors import LibraryError, SearchError
from retrieval.search import nearest_of, rank_rows

WIDTH = 4096
MOST = 16_384  # Milvus answers no more at once
_PATIENCE = 30.0  # seconds that a call may take
_ROWS = 1_000  # descriptors in one message: 16 MB; Milvus refuses more than 64
_IDS = 20_000  # ids in one expression
_LABELS = 5
_NOWHERE = 999.0  # degrees; what says nothing of its place passes no filter on it
_FACTS = ("day", "camera", "latitude", "longitude", *(f"label{n}" for n in range(_LABELS)))
T = TypeVar("T")


class MilvusStore:
    """The collections of one library on one server. Used by several threads."""

    def __init__(self, address: MilvusAddress) -> None:
        """Raises LibraryError if pymilvus is missing or the server doesn't answer."""
        self.address = address
        self._coder: tuple[str, Coder] | None = None
        self._ready: set[str] = set()  # collections that are there and loaded
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise LibraryError(
                'a library on Milvus needs more: pip install "fc7[cluster]"'
            ) from error
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it is told as a line, below
        with self._told():
            self._client = MilvusClient(address.uri, token=address.token, timeout=_PATIENCE)

    def close(self) -> None:
        self._client.close()

    def collections(self) -> list[str]:
        """Those of this library's name that are there."""
        with self._told():
            return self._own_collections()

    # --- what `Vectors` says

    def use(self, name: str, coder: Coder) -> None:
        self._coder = (name, coder)

    def write(
        self,
        ids: NDArray[np.int64],
        descriptors: NDArray[np.float32],
        contents: Sequence[NewContent],
    ) -> str:
        facts = [facts_of(content) for content in contents]
        self._write(ids, descriptors.astype(np.float16), facts)
        return self.address.name

    def encode(self, name: str) -> None:
        if self._coder is None:
            return
        coder_name, _ = self._coder
        codes = self._codes_name(coder_name)
        with self._told():
            made = self._client.has_collection(codes)
            if not made or self._count(codes, "") < self._count(name, ""):
                last = self._greatest(name)
                for ids, rows, facts in self._blocks(last, with_facts=True):
                    self._write_codes(ids, rows, facts)

    def sweep(self, catalog: Catalog) -> None:
        last = catalog.last_content()
        with self._told():
            for name in self._own_collections():
                in_use = self._coder is None or name == self._codes_name(self._coder[0])
                if name == self.address.name or in_use:
                    self._load(name)
                    self._client.delete(name, filter=f"id > {last}")
                else:
                    self._client.drop_collection(name)
                    self._ready.discard(name)

    def gather(self, catalog: Catalog) -> None:
        """Milvus does so itself."""

    def drop_hidden(self, catalog: Catalog) -> list[str]:
        name = self.address.name
        dead = catalog.contents_of([name], live=False)
        ids = [content for content, _ in dead]
        with self._told():
            for some in _parts(ids, _IDS):
                for collection in self._own_collections():
                    self._load(collection)
                    self._client.delete(collection, filter=f"id in {some}")
        if dead:
            with catalog.write() as writer:
                writer.add_segment(name, -len(dead))
                writer.replace_segments([], None, ids)
        return [hash_ for _, hash_ in dead]

    def blocks(self, catalog: Catalog) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        for ids, rows, _ in self._blocks(catalog.last_content()):
            yield ids, rows

    def open(self, catalog: Catalog) -> MilvusRanking:
        name = self.address.name
        rows = sum(segment.rows for segment in catalog.segments())
        hidden = catalog.hidden_contents()
        with self._told():
            if rows:
                self._load(name)
        return MilvusRanking(self, catalog.last_content(), hidden, rows - len(hidden))

    def open_codes(self, ranking: Ranking, coder: str) -> None:
        assert isinstance(ranking, MilvusRanking), "a store gets back what it opened"
        with self._told():
            ranking.use_codes(self._codes_name(coder), self._load(self._codes_name(coder)))

    def passing(self, catalog: Catalog, filters: Filters) -> tuple[str, ...]:
        """Expressions that exclude each other; what passes one of them passes."""
        fixed = expression_of(filters, catalog)
        changing = replace(NO_FILTERS, folder=filters.folder, album=filters.album)
        if changing == NO_FILTERS:
            return (fixed,)
        ids = sorted(set(catalog.contents_passing(changing)))
        return tuple(_both(fixed, f"id in {some}") for some in _parts(ids, _IDS))

    def lost(self, catalog: Catalog) -> list[str]:
        names = [segment.name for segment in catalog.segments()]
        with self._told():
            return [name for name in names if not self._client.has_collection(name)]

    # --- for the ranking

    def search(
        self, name: str, queries: list[Any], most: int, expression: str
    ) -> list[list[tuple[float, int]]]:
        """(distance as Milvus gives it, id) of the nearest of each query, nearest first."""
        with self._told():
            found = self._client.search(
                name, data=queries, limit=most, filter=expression, consistency_level="Strong"
            )
        return [[(float(hit["distance"]), int(hit["id"])) for hit in hits] for hits in found]

    def fetch(self, name: str, ids: NDArray[np.int64], field: str) -> dict[int, Any]:
        """A field of these rows, by id."""
        found: dict[int, Any] = {}
        with self._told():
            for some in _parts(ids.tolist(), _ROWS):
                rows = self._client.query(
                    name,
                    filter=f"id in {some}",
                    output_fields=["id", field],
                    consistency_level="Strong",
                )
                found |= {int(row["id"]): row[field] for row in rows}
        return found

    def count(self, name: str, expression: str) -> int:
        with self._told():
            return self._count(name, expression)

    # --- collections

    def _codes_name(self, coder: str) -> str:
        return f"{self.address.name}_{coder}"

    def _own_collections(self) -> list[str]:
        own = self.address.name
        return [
            name
            for name in self._client.list_collections()
            if name == own or name.startswith(f"{own}_")
        ]

    def _load(self, name: str) -> int:
        """Have a collection answer; return the bits or numbers of its vectors.

        Raises SearchError if it isn't there.
        """
        if name not in self._ready:
            if not self._client.has_collection(name):
                raise SearchError(f"{self.address.shown} has no collection {name}")
            self._client.load_collection(name, replica_number=self.address.replicas)
            self._ready.add(name)
        fields = self._client.describe_collection(name)["fields"]
        return next(int(f["params"]["dim"]) for f in fields if "dim" in f["params"])

    def _make(self, name: str, kind: str, dim: int) -> None:
        """Make a collection unless it is there, and have it answer."""
        if name in self._ready:
            return
        from pymilvus import DataType

        if not self._client.has_collection(name):
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field(kind, _vector_type(kind), dim=dim)
            for fact in _FACTS:
                where = fact in ("latitude", "longitude")
                schema.add_field(fact, DataType.DOUBLE if where else DataType.INT64)
            index = self._client.prepare_index_params()
            how = {"fc7": ("FLAT", "L2"), "code": ("BIN_FLAT", "HAMMING")}[kind]
            index.add_index(kind, index_type=how[0], metric_type=how[1], params={})
            self._client.create_collection(
                name,
                schema=schema,
                index_params=index,
                num_shards=self.address.shards,
                consistency_level="Strong",
            )
        self._load(name)

    def _write(
        self, ids: NDArray[np.int64], rows: NDArray[np.float16], facts: Sequence[dict[str, Any]]
    ) -> None:
        with self._told():
            self._make(self.address.name, "fc7", WIDTH)
            vectors = list(rows.astype(np.float32))
            self._upsert(self.address.name, "fc7", ids, vectors, facts)
            if self._coder is not None:
                self._write_codes(ids, rows, facts)

    def _write_codes(
        self, ids: NDArray[np.int64], rows: NDArray[np.float16], facts: Sequence[dict[str, Any]]
    ) -> None:
        assert self._coder is not None, "asked for by who knows it"
        coder_name, coder = self._coder
        self._make(self._codes_name(coder_name), "code", coder.bits)
        codes = [code.tobytes() for code in coder.encode(rows)]
        self._upsert(self._codes_name(coder_name), "code", ids, codes, facts)

    def _upsert(
        self,
        name: str,
        field: str,
        ids: NDArray[np.int64],
        vectors: list[Any],
        facts: Sequence[dict[str, Any]],
    ) -> None:
        rows = [
            {"id": id_, field: vector, **fact}
            for id_, vector, fact in zip(ids.tolist(), vectors, facts, strict=True)
        ]
        for some in _parts(rows, _ROWS):
            self._client.upsert(name, some)

    def _blocks(
        self, last: int, *, with_facts: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16], list[dict[str, Any]]]]:
        """All rows up to an id, by id."""
        fields = ["id", "fc7", *(_FACTS if with_facts else ())]
        with self._told():
            if last:
                self._load(self.address.name)
        for start in range(0, last, _ROWS):
            with self._told():
                found = self._client.query(
                    self.address.name,
                    filter=f"id > {start} and id <= {min(start + _ROWS, last)}",
                    output_fields=fields,
                    consistency_level="Strong",
                )
            if found:
                found = sorted(found, key=lambda row: int(row["id"]))
                ids = np.array([row["id"] for row in found], np.int64)
                rows = np.array([row["fc7"] for row in found], np.float16)
                yield ids, rows, [{k: row[k] for k in _FACTS if k in row} for row in found]

    def _greatest(self, name: str) -> int:
        """An id that none of a collection is greater than."""
        greatest = 1
        while self._count(name, f"id > {greatest}"):
            greatest *= 4
        return greatest

    def _count(self, name: str, expression: str) -> int:
        self._load(name)
        found = self._client.query(
            name, filter=expression, output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(found[0]["count(*)"])

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A server that is gone, full or refuses: the user's trouble, not a bug."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            why = getattr(error, "message", "") or type(error).__name__
            raise LibraryError(
                f"{self.address.shown} can't be used: {str(why).splitlines()[0]}: see whether the "
                "server is up, and try again"
            ) from error


class MilvusRanking:
    """The rows of a library that the catalogue knew when this was made: a `Ranking`."""

    def __init__(self, store: MilvusStore, last: int, hidden: Sequence[int], rows: int) -> None:
        """last: the greatest content that counts; hidden: those that must not be answered.

        rows: how many may be answered.
        """
        self._store = store
        self._last = last
        self._rows = rows
        self._shown = f"id <= {last}"
        if hidden:
            self._shown = _both(self._shown, f"id not in {list(hidden)}")
        self._hidden = frozenset(hidden)
        self._codes = ("", 0)

    @property
    def bits(self) -> int:
        return self._codes[1]

    def use_codes(self, collection: str, bits: int) -> None:
        """From now on these codes can be searched."""
        self._codes = (collection, bits)

    def count(self, only: Sequence[str] | None = None) -> int:
        if only is None:
            return self._rows
        name = self._store.address.name
        return sum(self._store.count(name, _both(self._shown, one)) for one in only)

    def some(self, count: int, seed: int = 0) -> NDArray[np.int64]:
        rng = np.random.default_rng(seed)
        drawn = (
            rng.permutation(min(self._last, 100 * count))
            if self._last <= 100 * count
            else (rng.choice(self._last, 4 * count, replace=False))
        )
        asked = [int(one) + 1 for one in drawn if int(one) + 1 not in self._hidden]
        there = self._store.fetch(self._store.address.name, np.array(asked, np.int64), "day")
        return np.sort(np.array([one for one in asked if one in there][:count], np.int64))

    def exact(
        self, queries: NDArray[np.float32], k: int, only: Sequence[str] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        found = self._search(self._store.address.name, list(queries), k, only)
        return nearest_of([_padded(found)], len(queries), k)

    def by_codes(
        self,
        queries: NDArray[np.float32],
        activations: NDArray[np.float32],
        k: int,
        shortlist: int,
        only: Sequence[str] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        collection, bits = self._codes
        if activations.shape[1] != bits:
            raise SearchError(
                f"the photo's code has {activations.shape[1]} bits, those of {collection} {bits}"
            )
        shortlist = max(k, shortlist)
        codes = [row.tobytes() for row in np.packbits(activations > 0, axis=1)]
        listed = self._search(collection, codes, min(WIDER * shortlist, MOST), only)
        found = []
        for query, mine, near in zip(queries, activations, listed, strict=True):
            ids = np.sort(np.array([id_ for _, id_ in near], np.int64))
            stored = self._store.fetch(collection, ids, "code")
            packed = np.array([np.frombuffer(_bytes(stored[i]), np.uint8) for i in ids.tolist()])
            kept = ids[np.sort(shorten(packed, mine, shortlist))] if len(ids) else ids
            rows = self._fp16(kept)
            found.append(rank_rows(query, kept, rows, k))
        squared, ids = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return nearest_of([(squared, ids)], len(queries), k)

    def descriptors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        return self._fp16(np.asarray(ids, np.int64)).astype(np.float32)

    def _fp16(self, ids: NDArray[np.int64]) -> NDArray[np.float16]:
        """Rows (n, d). An unknown id is a KeyError."""
        rows = self._store.fetch(self._store.address.name, np.unique(ids), "fc7")
        found = [np.asarray(rows[id_], np.float32) for id_ in ids.tolist()]
        return np.array(found, np.float16).reshape(len(ids), WIDTH)

    def _search(
        self, name: str, queries: list[Any], most: int, only: Sequence[str] | None
    ) -> list[list[tuple[float, int]]]:
        """The nearest of each query among what passes one of the expressions."""
        if most > MOST:
            raise LibraryError(f"{most:,} answers were asked for: Milvus gives at most {MOST:,}")
        found: list[list[tuple[float, int]]] = [[] for _ in queries]
        for one in ("",) if only is None else only:
            answers = self._store.search(name, queries, most, _both(self._shown, one))
            found = [[*a, *b] for a, b in zip(found, answers, strict=True)]
        return [sorted(one)[:most] for one in found]


def facts_of(content: NewContent) -> dict[str, Any]:
    """What filters can ask of a content, as numbers."""
    columns = content.columns
    place = (columns.get("latitude"), columns.get("longitude"))
    latitude, longitude = place if None not in place else (_NOWHERE, _NOWHERE)
    labels = [number_of(label) for label, _ in content.labels[:_LABELS]]
    labels += [0] * (_LABELS - len(labels))
    return {
        "day": day_of(columns.get("taken_at") or ""),
        "camera": number_of(columns.get("camera")),
        "latitude": latitude,
        "longitude": longitude,
        **{f"label{n}": label for n, label in enumerate(labels)},
    }


def day_of(date: str, missing: int = 0) -> int:
    """2023-05-17, or the beginning of one, as 20230517; `missing`, twice, for month and day."""
    parts = [int(part) for part in date[:10].split("-") if part]
    if not parts:
        return 0
    year, month, day = (*parts, missing, missing)[:3]
    return 10_000 * year + 100 * month + day


def number_of(name: str | None) -> int:
    """A name as a number from 1 to 2**62; 0 for none. Two names share one as good as never."""
    if not name:
        return 0
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % 2**62 + 1


def expression_of(filters: Filters, catalog: Catalog) -> str:
    """What filters on facts are to Milvus; "" for none."""
    wanted = []
    if filters.since is not None:
        wanted.append(f"day >= {day_of(filters.since)}")
    if filters.until is not None:
        wanted.append(f"day > 0 and day <= {day_of(filters.until, 99)}")
    if filters.camera is not None:
        numbers = [number_of(name) for name in catalog.cameras_holding(filters.camera)]
        wanted.append(f"camera in {numbers}" if numbers else "id < 0")
    if filters.label is not None:
        numbers = [number_of(name) for name in catalog.labels_holding(filters.label)]
        any_of = " or ".join(f"label{n} in {numbers}" for n in range(_LABELS))
        wanted.append(f"({any_of})" if numbers else "id < 0")
    if filters.box is not None:
        south, west, north, east = filters.box
        sides = "and" if west <= east else "or"  # it may cross the 180th meridian
        wanted.append(f"latitude >= {south!r} and latitude <= {north!r}")
        wanted.append(f"(longitude >= {west!r} {sides} longitude <= {east!r}) and longitude < 900")
    return " and ".join(f"({one})" for one in wanted)


def _both(one: str, other: str) -> str:
    return f"({one}) and ({other})" if one and other else one or other


def _parts(items: Sequence[T], most: int) -> Iterator[list[T]]:
    for start in range(0, len(items), most):
        yield list(items[start : start + most])


def _padded(
    found: Sequence[Sequence[tuple[float, int]]],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Answers of any length, as faiss would give them: padded with id -1."""
    longest = max(map(len, found), default=0)
    squared = np.full((len(found), longest), np.inf, np.float32)
    ids = np.full((len(found), longest), -1, np.int64)
    for row, hits in enumerate(found):
        for at, (distance, id_) in enumerate(hits):
            squared[row, at], ids[row, at] = distance, id_
    return squared, ids


def _bytes(stored: Any) -> bytes:
    """A binary vector, as one client or another gives it."""
    return bytes(stored[0] if isinstance(stored, list) else stored)


def _vector_type(kind: str) -> Callable[..., Any] | Any:
    from pymilvus import DataType

    return DataType.FLOAT_VECTOR if kind == "fc7" else DataType.BINARY_VECTOR
