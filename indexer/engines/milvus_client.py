"""Collections on a Milvus server, of which no answer is taken that lacks a part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.engines.expressions import FACTS, NO_FACTS
from indexer.engines.stores import MilvusAddress
from indexer.engines.witnesses import EXPRESSION, Witnesses, far_vector, rare_code, until_whole
from retrieval.errors import LibraryError, SearchError

WIDTH = 4096
MOST = 16_384  # Milvus answers no more at once
ROWS = 1_000  # descriptors in one message: 16 MB; Milvus refuses more than 64
_PATIENCE = 60.0  # seconds that a whole answer is waited for: a node is replaced in 10 to 80
_A_TRY = 15.0  # seconds for one answer: a paused node gives none, another one may
_NO_SERVER, _NO_COLLECTION, _NOT_LOADED = 2, 100, 101  # Milvus's error codes
T = TypeVar("T")


class Found(NamedTuple):
    """A row of an answer."""

    distance: float  # as Milvus gives it: squared Euclidean, or Hamming
    id: int
    code: bytes  # b"" if it doesn't come with the answer


class MilvusClient:
    """The collections of one library on one server. Used by several threads."""

    def __init__(self, address: MilvusAddress) -> None:
        """Raises LibraryError if pymilvus is missing or the server doesn't answer."""
        self.address = address
        self.writes: dict[str, int] = {}  # how many a collection has had, the newest included
        self._ready: set[str] = set()  # collections that are there and loaded
        self._bits: dict[str, int] = {}  # of the codes in a collection
        try:
            import pymilvus
        except ImportError as error:
            raise LibraryError(
                'a library on Milvus needs more: pip install "fc7[cluster]"'
            ) from error
        if not address.is_server and find_spec("milvus_lite") is None:
            raise LibraryError(
                f"{address.uri} is for milvus-lite, which is not installed: "
                'pip install "milvus-lite<3" "setuptools<81"'  # 3 has no binary vectors
            )
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it is told as a line, below
        with self.told():
            self._client = pymilvus.MilvusClient(
                address.uri, token=address.token, timeout=_PATIENCE
            )

    def close(self) -> None:
        self._client.close()

    def search(
        self, name: str, queries: Sequence[Any], most: int, expression: str, writes: int
    ) -> list[list[Found]]:
        """The nearest of each query, nearest first; of codes with the codes, but by milvus-lite.

        writes: of the collection, that must be seen.
        """
        codes = name != self.address.name
        witnesses = Witnesses(writes, self.address.shards)
        classes = witnesses.classes()
        width = self.width(name)
        callers = [
            rare_code(n, width) if codes else far_vector(n, width) for n in range(len(classes))
        ]
        # Witnesses are farther than any photo, but not by codes: there they need room of their own.
        room = max(map(len, classes), default=0)
        limit = min(MOST, most + sum(map(len, classes)) if codes else max(most, room))

        def ask() -> list[list[Found]]:
            found = self._client.search(
                name,
                data=[*queries, *callers],
                limit=limit,
                filter=f"({expression}) or {EXPRESSION}",
                output_fields=["code"] if codes and self.address.is_server else [],
                consistency_level="Strong",
                timeout=_A_TRY,
            )
            return [[_found(hit) for hit in hits] for hits in found]

        def whole(found: list[list[Found]]) -> bool:
            called = [{hit.id for hit in hits} for hits in found[len(queries) :]]
            return witnesses.missing(called) == 0

        found = self._ask(name, ask, whole)[: len(queries)]
        return [[hit for hit in hits if hit.id > 0][:most] for hits in found]

    def fetch(self, name: str, ids: Sequence[int], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Rows by id, in the order of the ids, which must be known."""
        found: dict[int, dict[str, Any]] = {}
        for some in parts_of(ids, ROWS):

            def ask(some: list[int] = some) -> list[dict[str, Any]]:
                return list(
                    self._client.query(
                        name,
                        filter=f"id in {some}",
                        output_fields=["id", *fields],
                        consistency_level="Strong",
                        timeout=_A_TRY,
                    )
                )

            wanted = frozenset(some)

            def whole(rows: list[dict[str, Any]], wanted: frozenset[int] = wanted) -> bool:
                return wanted <= {row["id"] for row in rows}

            rows = self._ask(name, ask, whole)
            found |= {int(row["id"]): row for row in rows}
        return [found[id_] for id_ in ids]

    def _ask(self, name: str, ask: Callable[[], T], whole: Callable[[T], bool]) -> T:
        """An answer of a collection, once it is whole. Raises LibraryError if it doesn't get so."""
        import grpc
        from pymilvus.exceptions import MilvusException

        def attempt() -> T:
            try:
                self._load(name)
                return ask()
            except MilvusException as error:
                if error.code == _NO_COLLECTION:
                    raise SearchError(f"{self.address.shown} has no collection {name}") from error
                if error.code == _NOT_LOADED:  # the server was started again
                    self._ready.discard(name)
                elif error.code == _NO_SERVER:
                    raise LibraryError(self._trouble(error)) from error
                raise

        with self.told():
            answer = until_whole(attempt, whole, (MilvusException, grpc.RpcError), _PATIENCE)
        if answer is None:
            raise LibraryError(
                f"{self.address.shown} gave only incomplete answers for {_PATIENCE:.0f} seconds: a "
                "part of it is down; see to its query nodes, and try again"
            )
        return answer

    def delete(self, name: str, expression: str) -> None:
        """Delete the rows that fulfil it."""
        self.load(name)
        with self.told():
            self._client.delete(name, filter=expression)

    def has(self, name: str) -> bool:
        with self.told():
            return bool(self._client.has_collection(name))

    def drop(self, name: str) -> None:
        """Drop a collection, if it is there."""
        self._ready.discard(name)
        with self.told():
            self._client.drop_collection(name)

    def collections(self) -> list[str]:
        """Those of this library's name that are there."""
        own = self.address.name
        with self.told():
            found = self._client.list_collections()
        return [name for name in found if name == own or name.startswith(f"{own}_")]

    def load(self, name: str) -> None:
        """Have a collection answer. Raises SearchError if it isn't there."""
        with self.told():
            self._load(name)

    def _load(self, name: str) -> None:
        if name in self._ready:
            return
        if not self._client.has_collection(name):
            raise SearchError(f"{self.address.shown} has no collection {name}")
        self._client.load_collection(name, replica_number=self.address.replicas)
        self._ready.add(name)

    def width(self, name: str) -> int:
        """The numbers, or bits, of a collection's vectors."""
        if name == self.address.name:
            return WIDTH
        if name not in self._bits:
            self.load(name)
            with self.told():
                fields = self._client.describe_collection(name)["fields"]
            self._bits[name] = next(int(f["params"]["dim"]) for f in fields if "dim" in f["params"])
        return self._bits[name]

    def make(self, name: str, kind: str, dim: int) -> None:
        """Make a collection unless it is there, and have it answer.

        kind: "fc7" or "code", of `dim` numbers or bits.
        """
        from pymilvus import DataType

        if name in self._ready:
            return
        index, metric, vector = {
            "fc7": ("FLAT", "L2", DataType.FLOAT_VECTOR),
            "code": ("BIN_FLAT", "HAMMING", DataType.BINARY_VECTOR),
        }[kind]
        if not self.has(name):
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field(kind, vector, dim=dim)
            for fact in FACTS:
                where = fact in ("latitude", "longitude")
                schema.add_field(fact, DataType.DOUBLE if where else DataType.INT64)
            how = self._client.prepare_index_params()
            how.add_index(kind, index_type=index, metric_type=metric, params={})
            with self.told():  # with its index it would be loaded at once, in one replica
                self._client.create_collection(
                    name,
                    schema=schema,
                    num_shards=self.address.shards,
                    consistency_level="Strong",
                )
                self._client.create_index(name, how)
        self.load(name)

    def upsert(
        self,
        name: str,
        field: str,
        ids: NDArray[np.int64],
        vectors: list[Any],
        facts: Sequence[dict[str, Any]],
    ) -> None:
        """Write rows, in messages that each have their witnesses; whatever had these ids goes."""
        rows = [
            {"id": id_, field: vector, **fact}
            for id_, vector, fact in zip(ids.tolist(), vectors, facts, strict=True)
        ]
        for some in parts_of(rows, ROWS):
            number = self.writes[name]
            before, after = self._witnesses(field, number, len(vectors[0]))
            with self.told():
                self._client.upsert(name, [*before, *some, *after])
            self.writes[name] = number + 1

    def _witnesses(
        self, field: str, number: int, width: int
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The rows that a write begins with, and those it ends with."""
        witnesses = Witnesses(number + 1, self.address.shards)
        of_class = witnesses.class_of(number)
        vector = far_vector(of_class, width) if field == "fc7" else rare_code(of_class, 8 * width)
        before, after = witnesses.of_write(number)
        return (
            [{"id": id_, field: vector, **NO_FACTS} for id_ in before],
            [{"id": id_, field: vector, **NO_FACTS} for id_ in after],
        )

    @contextmanager
    def told(self) -> Iterator[None]:
        """A server that is gone, full or refuses: the user's trouble, not a bug."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            raise LibraryError(self._trouble(error)) from error

    def _trouble(self, error: Exception) -> str:
        why = _why(error)
        return f"{self.address.shown} can't be used: {why}: see whether it is up, and try again"


def _found(hit: Any) -> Found:
    return Found(float(hit["distance"]), int(hit["id"]), code_of(hit["entity"]))


def code_of(row: Mapping[str, Any]) -> bytes:
    """The code of a row, which comes as bytes or as a list of one; b"" if it has none."""
    code = row.get("code", b"")
    return bytes(code[0] if isinstance(code, list) else code)


def _why(error: Exception) -> str:
    """The first line of what a server or the connection said."""
    said = getattr(error, "message", "") or getattr(error, "details", str)() or str(error)
    return str(said).strip().splitlines()[0] if str(said).strip() else type(error).__name__


def writes_of(settings: Mapping[str, str], name: str) -> int:
    """How many writes a collection has had that count."""
    return int(settings.get(f"writes:{name}", 0))


def parts_of(items: Sequence[T], most: int) -> Iterator[list[T]]:
    for start in range(0, len(items), most):
        yield list(items[start : start + most])
