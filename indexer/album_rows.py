"""The albums as they are stored: queries and statements, no decisions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from indexer import schema as t
from indexer.catalog import Catalog, Writer
from indexer.conditions import in_parts, is_under
from indexer.regrouping import Known


@dataclass(frozen=True, slots=True)
class Album:
    """A group of photos under one name."""

    id: int
    name: str  # a person's, else the title
    title: str  # by what its photos show
    named: bool  # by a person
    hidden: bool
    kept: bool  # a person had a hand in it: grouping may add photos, and takes none
    photos: int
    cover: int | None  # the number of the photo nearest to the mean of all
    cohesion: float | None  # mean cosine similarity of any two, 0 to 1


@dataclass(frozen=True, slots=True)
class Fact:
    """What of a photo matters for grouping it."""

    content: int
    path: Path
    taken_at: str | None  # ISO 8601
    latitude: float | None  # degrees
    longitude: float | None


@dataclass(frozen=True, slots=True)
class About:
    """What is found out about the photos of an album."""

    title: str
    cover: int | None
    cohesion: float | None


def read_albums(source: Catalog | Writer) -> list[Album]:
    """All, those with most photos first; hidden ones too."""
    inside = t.album_photos.c.album == t.albums.c.id
    count = sa.func.count(t.album_photos.c.photo).label("photos")
    query = (
        sa.select(t.albums, count)
        .outerjoin(t.album_photos, sa.and_(inside, ~t.album_photos.c.taken_out))
        .group_by(t.albums.c.id)
        .order_by(count.desc(), t.albums.c.id)
    )
    return [
        Album(
            id=row.id,
            name=row.name or row.title,
            title=row.title,
            named=row.name is not None,
            hidden=row.hidden,
            kept=row.kept,
            photos=row.photos,
            cover=row.cover,
            cohesion=row.cohesion,
        )
        for row in _rows(source, query)
    ]


def read_known(source: Catalog | Writer, only: Collection[int] | None = None) -> list[Known]:
    """The same as grouping needs them, by number. A Writer sees them as its transaction does.

    only: the numbers of few albums; those that are not there are left out.
    """
    albums_query = sa.select(t.albums.c.id, t.albums.c.kept).order_by("id")
    photos_query = sa.select(t.album_photos)
    if only is not None:
        albums_query = albums_query.where(t.albums.c.id.in_(only))
        photos_query = photos_query.where(t.album_photos.c.album.in_(only))
    albums = _rows(source, albums_query)
    photos: dict[int, set[int]] = {row.id: set() for row in albums}
    taken_out: dict[int, set[int]] = {row.id: set() for row in albums}
    for row in _rows(source, photos_query):
        (taken_out if row.taken_out else photos)[row.album].add(row.photo)
    return [
        Known(row.id, frozenset(photos[row.id]), frozenset(taken_out[row.id]), row.kept)
        for row in albums
    ]


def albums_with(source: Catalog | Writer, photos: Collection[int]) -> dict[int, set[int]]:
    """Which of these photos each album has, by its number."""
    a = t.album_photos.c
    found: dict[int, set[int]] = {}
    for part in in_parts(photos):
        query = sa.select(a.album, a.photo).where(a.photo.in_(part), ~a.taken_out)
        for row in _rows(source, query):
            found.setdefault(row.album, set()).add(row.photo)
    return found


def contents_of_album(source: Catalog | Writer, album: int) -> dict[int, int]:
    """The content of each of its photos, by photo."""
    a, p = t.album_photos.c, t.photos.c
    query = sa.select(p.id, p.content).join(t.album_photos, a.photo == p.id)
    query = query.where(a.album == album, ~a.taken_out).order_by(p.path)
    return {row.id: row.content for row in _rows(source, query)}


def read_facts(source: Catalog | Writer, photos: Collection[int] | None = None) -> dict[int, Fact]:
    """The facts of these photos, those of all if none are named, by photo."""
    p, c = t.photos.c, t.contents.c
    query = sa.select(p.id, p.content, p.path, c.taken_at, c.latitude, c.longitude).join(
        t.contents, c.id == p.content
    )
    queries = (
        [query] if photos is None else (query.where(p.id.in_(part)) for part in in_parts(photos))
    )
    return {
        row.id: Fact(row.content, Path(row.path), row.taken_at, row.latitude, row.longitude)
        for one in queries
        for row in _rows(source, one)
    }


def read_contents(source: Catalog | Writer) -> dict[int, int]:
    """The content of every photo, by photo."""
    query = sa.select(t.photos.c.id, t.photos.c.content)
    return {row.id: row.content for row in _rows(source, query)}


def sum_labels(source: Catalog | Writer, contents: Collection[int]) -> dict[str, float]:
    """The probability of each class, summed over these contents."""
    found: dict[str, float] = {}
    total = sa.func.sum(t.labels.c.probability).label("total")
    for part in in_parts(contents):
        query = sa.select(t.labels.c.label, total).where(t.labels.c.content.in_(part))
        for row in _rows(source, query.group_by(t.labels.c.label)):
            found[row.label] = found.get(row.label, 0.0) + row.total
    return found


def count_under(source: Catalog | Writer, folder: Path) -> int:
    """How many photos lie under a folder."""
    query = sa.select(sa.func.count().label("n")).select_from(t.photos)
    return int(_rows(source, query.where(is_under(t.photos, folder)))[0].n)


def add_album(writer: Writer, title: str, *, name: str | None = None, kept: bool = False) -> int:
    """A new album without photos; return its number."""
    values = {"title": title, "name": name, "hidden": False, "kept": kept}
    made = writer.execute(sa.insert(t.albums).values(values))
    assert made.inserted_primary_key is not None
    return int(made.inserted_primary_key[0])


def change_album(writer: Writer, album: int, **columns: object) -> None:
    writer.execute(sa.update(t.albums).where(t.albums.c.id == album).values(**columns))


def describe_album(writer: Writer, album: int, about: About) -> None:
    change_album(writer, album, title=about.title, cover=about.cover, cohesion=about.cohesion)


def remove_albums(writer: Writer, albums: Collection[int]) -> None:
    for part in in_parts(albums):
        writer.execute(sa.delete(t.albums).where(t.albums.c.id.in_(part)))


def put_photos(
    writer: Writer, album: int, photos: Collection[int], *, taken_out: bool = False
) -> None:
    """These photos are in the album, or shall not come back into it, whatever held before."""
    values = [{"album": album, "photo": photo, "taken_out": taken_out} for photo in sorted(photos)]
    writer.upsert(t.album_photos, ["album", "photo"], values)


def forget_photos(writer: Writer, album: int, photos: Collection[int]) -> None:
    """The album says nothing of these photos any more."""
    a = t.album_photos.c
    for part in in_parts(photos):
        writer.execute(sa.delete(t.album_photos).where(a.album == album, a.photo.in_(part)))


def albums_by_photo(catalog: Catalog) -> Mapping[int, list[int]]:
    """The albums of each photo that is in some, hidden ones too."""
    a = t.album_photos.c
    found: dict[int, list[int]] = {}
    for row in catalog.rows(sa.select(a.photo, a.album).where(~a.taken_out).order_by(a.album)):
        found.setdefault(row.photo, []).append(row.album)
    return found


def _rows(source: Catalog | Writer, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
    return source.rows(query) if isinstance(source, Catalog) else source.execute(query).all()
