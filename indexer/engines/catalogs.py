"""Which catalogue a library has: a file in its folder, or a database that it remembers.

A database belongs to one library: both hold its mark. So a second library in the same database, or
an empty one that took the place of a lost one, is told before a run takes its segments for rubbish.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

from indexer.catalog import Catalog
from indexer.engines.addresses import FILE, Addresses, read_addresses, write_addresses
from indexer.inside import CATALOG
from retrieval.errors import LibraryError

_MARK = "library"  # the setting


def has_catalog(library: Path) -> bool:
    """Whether the folder is a library's already."""
    return (library / CATALOG).is_file() or read_addresses(library).catalog is not None


def open_catalog(library: Path, address: str | None = None) -> Catalog:
    """Open the catalogue of a library's folder, or make it.

    address: of a database, for a new library; an old one must have the same, but for its user and
    its password. Raises LibraryError if it has not, or the database can't be used.
    """
    known = read_addresses(library)
    if known.catalog is None and address is None:
        return Catalog(library / CATALOG)
    from indexer.engines.postgres import PostgresServer, same_place

    if (library / CATALOG).is_file():
        raise LibraryError(
            f"{library} has its catalogue in {CATALOG}, and can't have it in a database too: name "
            "another library with --library"
        )
    if known.catalog is not None and address is not None and not same_place(known.catalog, address):
        raise LibraryError(
            f"{library} has its catalogue in {known.catalog}: name another library with --library, "
            f"or write the new address into {FILE} there if the database has moved"
        )
    server = PostgresServer(address or known.catalog or "")
    catalog = Catalog(server)
    try:
        wanted = known.library or uuid.uuid4().hex
        if catalog.settings().get(_MARK) != wanted:
            addresses = replace(known, catalog=known.catalog or server.address, library=wanted)
            _claim(catalog, library, addresses, server.name)
    except BaseException:
        catalog.close()
        raise
    return catalog


def _claim(catalog: Catalog, library: Path, addresses: Addresses, name: str) -> None:
    """Mark a new database as this library's, and write that down in its folder."""
    with catalog.write() as writer:
        settings = catalog.settings()  # no other writer can change them now
        if settings.get(_MARK) == addresses.library:
            return
        if settings:
            raise LibraryError(
                f"{name} holds the catalogue of another library: give each a database of its own"
            )
        segments = library / "segments"
        if addresses.store is not None or (segments.is_dir() and any(segments.iterdir())):
            raise LibraryError(
                f"{name} is empty, but {library} holds photos: restore the database, or delete the "
                "library and index again"
            )
        write_addresses(library, addresses)
        writer.set(**{_MARK: addresses.library or ""})
