"""Where a library's vectors are: in its folder, or on a server that it remembers."""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from indexer.catalog import Catalog
from indexer.engines.addresses import FILE, read_addresses, write_addresses
from indexer.segments import SegmentStore
from indexer.vectors import Vectors
from retrieval.errors import LibraryError

EXAMPLE = "milvus://HOST:PORT"
TOKEN = "FC7_MILVUS_TOKEN"
_PORT = 19530
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,99}")
_OPTIONS = {"replicas": 8, "shards": 64}  # the most that make sense


@dataclass(frozen=True, slots=True)
class MilvusAddress:
    """A library's place on a Milvus server, or in a file of milvus-lite."""

    uri: str  # as pymilvus takes it
    name: str  # of the library's collection, and the beginning of its others
    token: str = ""
    replicas: int = 1  # of each collection, in the memory of so many query nodes
    shards: int = 1

    @property
    def is_server(self) -> bool:
        """Not a file of milvus-lite."""
        return self.uri.startswith("http://")

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"Milvus at {self.uri.removeprefix('http://')}"


def open_store(library: Path, catalog: Catalog, address: str | None = None) -> Vectors:
    """Open the store of a library's folder, or make it.

    address: of a Milvus server, milvus://HOST:PORT[/NAME][?replicas=2&shards=2], or a file for
    milvus-lite, FILE.db; for a new library only: an old one must have the same. What is secret in
    it is not kept: later it is taken from $FC7_MILVUS_TOKEN.

    Raises LibraryError if it has not, or the server can't be used.
    """
    known = read_addresses(library)
    if known.store is None and address is None:
        return SegmentStore(library / "segments")
    from indexer.engines.milvus import MilvusStore

    if known.store is not None:
        own = parse_address(known.store)
        asked = own if address is None else parse_address(address, own.name)
        if (asked.uri, asked.name) != (own.uri, own.name):
            raise LibraryError(
                f"{library} has its vectors in {own.shown}: name another library with --library, "
                f"or write the new address into {FILE} there if the server has moved"
            )
        return MilvusStore(replace(own, token=asked.token), catalog)
    segments = library / "segments"
    if segments.is_dir() and any(segments.iterdir()):
        raise LibraryError(
            f"{library} has its vectors in its folder: name another library with --library"
        )
    asked = parse_address(address or "", f"fc7_{uuid.uuid4().hex}")
    store = MilvusStore(asked, catalog)
    try:
        if store.collections():
            raise LibraryError(
                f"{asked.shown} has vectors of another library named {asked.name}: name this one "
                f"otherwise, as in {EXAMPLE}/NAME"
            )
        write_addresses(library, replace(known, store=_written(asked)))
    except BaseException:
        store.close()
        raise
    return store


def parse_address(address: str, name: str = "") -> MilvusAddress:
    """Read an address; name: of the library, where the address gives none.

    Raises LibraryError for what is none.
    """
    file, _, query = address.partition("?")
    if file.endswith(".db") and "://" not in file:
        uri, user = str(Path(file).expanduser().absolute()), ""
    else:
        parts = urlsplit(address)
        try:
            port = parts.port or _PORT
        except ValueError:
            port = 0
        if parts.scheme != "milvus" or not parts.hostname or not port:
            raise LibraryError(f"a store's address is like {EXAMPLE}, not {_public(address)}")
        uri, query, user = f"http://{parts.hostname}:{port}", parts.query, ""
        if parts.username:
            user = f"{parts.username}:{parts.password or ''}"
        name = parts.path.strip("/") or name
    options = dict(parse_qsl(query, keep_blank_values=True))
    name = options.pop("name", name)
    if not _NAME.fullmatch(name):
        raise LibraryError(f"{name!r} can't name a library in Milvus: letters, digits and _ can")
    numbers = {}
    for key, text in options.items():
        most = _OPTIONS.get(key, 0)
        if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= most:
            known = " and ".join(f"{one}=1 to {most}" for one, most in _OPTIONS.items())
            raise LibraryError(f"{key}={text} is nothing that a store takes: {known} are")
        numbers[key] = int(text)
    return MilvusAddress(uri, name, user or os.environ.get(TOKEN, ""), **numbers)


def _written(address: MilvusAddress) -> str:
    """As it is kept: without what is secret."""
    options = f"replicas={address.replicas}&shards={address.shards}"
    if address.is_server:
        return f"milvus://{address.uri.removeprefix('http://')}/{address.name}?{options}"
    return f"{address.uri}?name={address.name}&{options}"


def _public(address: str) -> str:
    return re.sub("//[^@/]*@", "//", address)
