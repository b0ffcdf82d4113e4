"""The map as it is stored: queries and statements, no decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from indexer import schema as t
from indexer.catalog import Catalog, Writer

Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """A photo on the map, and what it can be coloured by."""

    photo: int
    x: float  # of no unit; nearer is more alike
    y: float
    file: str  # its path, as text: a hundred thousand Path objects would take a second
    content_hash: str
    taken_at: str | None  # ISO 8601
    label: str | None  # the likeliest class
    probability: float  # of it
    albums: tuple[int, ...]  # that it is in

    @property
    def path(self) -> Path:
        return Path(self.file)


def read_points(catalog: Catalog) -> list[Point]:
    """The photos that have a place, by number."""
    p, c, first = t.photos.c, t.contents.c, t.labels.c
    likeliest = sa.and_(first.content == c.id, first.rank == 1)
    query = (
        sa.select(
            p.id, t.places.c.x, t.places.c.y, p.path, c.hash, c.taken_at, first.label,
            first.probability,
        )
        .join(t.places, t.places.c.content == p.content)
        .join(t.contents, c.id == p.content)
        .outerjoin(t.labels, likeliest)
        .order_by(p.id)
    )  # fmt: skip
    a = t.album_photos.c
    albums: dict[int, list[int]] = {}
    for row in catalog.rows(sa.select(a.photo, a.album).where(~a.taken_out).order_by(a.album)):
        albums.setdefault(row.photo, []).append(row.album)
    return [
        Point(
            row.id,
            row.x,
            row.y,
            row.path,
            row.hash,
            row.taken_at,
            row.label,
            row.probability or 0.0,
            tuple(albums.get(row.id, ())),
        )
        for row in catalog.rows(query)
    ]


def read_places(catalog: Catalog) -> dict[int, Place]:
    """The place of each content that has one."""
    return {row.content: (row.x, row.y) for row in catalog.rows(sa.select(t.places))}


def count_pictures(catalog: Catalog) -> int:
    """How many different contents photos have."""
    query = sa.select(sa.func.count(sa.distinct(t.photos.c.content)).label("n"))
    return int(catalog.rows(query)[0].n)


def count_missing(catalog: Catalog) -> int:
    """How many photos have no place."""
    placed = sa.exists().where(t.places.c.content == t.photos.c.content)
    query = sa.select(sa.func.count().label("n")).select_from(t.photos).where(~placed)
    return int(catalog.rows(query)[0].n)


def read_version(writer: Writer) -> str | None:
    """The map's version as the transaction sees it."""
    query = sa.select(t.settings.c.value).where(t.settings.c.key == "map_version")
    return writer.execute(query).scalar_one_or_none()


def clear_places(writer: Writer) -> None:
    writer.execute(sa.delete(t.places))


def add_places(writer: Writer, places: Mapping[int, Sequence[float]]) -> None:
    """Places of contents that have none; what was forgotten meanwhile gets none."""
    there = set(writer.execute(sa.select(t.contents.c.id)).scalars())
    values = [
        {"content": content, "x": float(place[0]), "y": float(place[1])}
        for content, place in places.items()
        if content in there
    ]
    if values:
        writer.execute(sa.insert(t.places), values)
