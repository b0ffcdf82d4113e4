"""Where this is imported, the libraries of tests that know nothing of PostgreSQL go there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from postgres_server import *  # noqa: F403
from postgres_server import Server

import indexer.library
from indexer.catalog import Catalog
from indexer.engines.addresses import read_addresses, write_addresses
from indexer.engines.catalogs import has_catalog, open_catalog


@pytest.fixture(scope="module", autouse=True)
def on_postgres(postgres: Server) -> Iterator[None]:
    """New libraries get a database each, and a copied library a copy of its own."""
    homes: dict[str, Path] = {}

    def open_there(library: Path, address: str | None = None) -> Catalog:
        known = read_addresses(library)
        if known.catalog is not None and homes.setdefault(known.catalog, library) != library:
            own = postgres.new_database(known.catalog.rpartition("/")[2])
            write_addresses(library, replace(known, catalog=own))
            homes[own] = library
        elif not has_catalog(library):
            address = address or postgres.new_database()
            homes[address] = library
        return open_catalog(library, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexer.library, "open_catalog", open_there)
        yield
    assert not [home for home in homes.values() if (home / "catalog.sqlite").exists()]
