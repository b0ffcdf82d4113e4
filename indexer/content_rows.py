"""The contents as they are stored, with photos and without."""

from __future__ import annotations

import sqlalchemy as sa

from indexer import schema as t
from indexer.catalog import Catalog


def count_contents(catalog: Catalog) -> int:
    return int(catalog.rows(sa.select(sa.func.count().label("n")).select_from(t.contents))[0].n)


def hashes_of_contents(catalog: Catalog) -> set[str]:
    return {row.hash for row in catalog.rows(sa.select(t.contents.c.hash))}
