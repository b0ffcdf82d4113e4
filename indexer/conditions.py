"""Filters as the catalogue's database understands them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from indexer import schema as t  # t: the tables
from indexer.filters import Filters

if TYPE_CHECKING:
    from indexer.catalog import Catalog


_AT_ONCE = 10_000  # numbers in one statement; SQLite takes 32,766, PostgreSQL 65,535


def conditions_of(filters: Filters, catalog: Catalog) -> list[sa.ColumnElement[bool]]:
    """What a photo and its content, joined, must fulfil."""
    c = t.contents.c
    conditions: list[sa.ColumnElement[bool]] = []
    if filters.folder is not None:
        conditions.append(is_under(t.photos, filters.folder))
    if filters.album is not None:
        a = t.album_photos.c
        own = sa.select(a.photo).where(a.album == filters.album, ~a.taken_out)
        conditions.append(t.photos.c.id.in_(own))
    if filters.since is not None:
        conditions.append(c.taken_at >= filters.since)
    if filters.until is not None:
        conditions.append(sa.func.substr(c.taken_at, 1, len(filters.until)) <= filters.until)
    if filters.camera is not None:
        conditions.append(c.camera.in_(cameras_holding(catalog, filters.camera)))
    if filters.label is not None:
        named = t.labels.c.label.in_(labels_holding(catalog, filters.label))
        conditions.append(c.id.in_(sa.select(t.labels.c.content).where(named)))
    if filters.box is not None:
        south, west, north, east = filters.box
        conditions.append(c.latitude.between(south, north))
        inside = (c.longitude >= west, c.longitude <= east)  # may cross the 180th meridian
        conditions.append(sa.and_(*inside) if west <= east else sa.or_(*inside))
    return conditions


def cameras_holding(catalog: Catalog, part: str) -> list[str]:
    """The cameras with this part in their names, upper or lower case alike, in any script."""
    camera = t.contents.c.camera
    rows = catalog.rows(sa.select(camera).where(camera.is_not(None)).distinct())
    return [row.camera for row in rows if part.casefold() in row.camera.casefold()]


def labels_holding(catalog: Catalog, part: str) -> list[str]:
    """The same of labels."""
    return [label for label in known_labels(catalog) if part.casefold() in label.casefold()]


def is_under(table: sa.Table, folder: Path) -> sa.ColumnElement[bool]:
    """The path lies under the folder. One that is not UTF-8 is stored, and compared, as bytes."""
    first = str(folder).rstrip(os.sep) + os.sep
    after = first[:-1] + chr(ord(os.sep) + 1)  # comes right after all that begin with `first`
    low, high = (sa.literal(os.fsencode(end), sa.LargeBinary) for end in (first, after))
    return sa.or_(
        sa.and_(table.c.path >= first, table.c.path < after),
        sa.and_(table.c.path >= low, table.c.path < high),
    )


def known_labels(catalog: Catalog) -> list[str]:
    """Every label that a content has, from A to Z."""
    rows = catalog.rows(sa.select(t.labels.c.label).distinct().order_by("label"))
    return [row.label for row in rows]


def in_parts(numbers: Collection[int]) -> Iterator[list[int]]:
    """All of them, in ascending order, as many at once as a statement takes."""
    rest = iter(sorted(numbers))
    while part := list(islice(rest, _AT_ONCE)):
        yield part
