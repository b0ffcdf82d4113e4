"""What finding duplicates asks of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from indexer import schema as t
from indexer.catalog import Catalog, Photo


@dataclass(frozen=True, slots=True)
class Found:
    """A photo, the content that it shares with files equal to it, and its file's time."""

    photo: Photo
    content: int
    mtime_ns: int


def read_found(catalog: Catalog) -> list[Found]:
    """All photos."""
    p = t.photos.c
    rows = catalog.rows(sa.select(p.id, p.content, p.mtime_ns))
    known = {row.id: (row.content, row.mtime_ns) for row in rows}
    photos = catalog.photos(offset=0, limit=None)
    return [Found(photo, *known[photo.id]) for photo in photos if photo.id in known]
