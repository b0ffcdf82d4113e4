"""The catalogue: what the library knows of its photos. Rows in, dataclasses out.

It is in an SQLite file, or on a server: see indexer/database.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from indexer import schema as t  # t: the tables
from indexer.conditions import conditions_of, in_parts, is_under
from indexer.database import Database, SqliteFile, migrate, told
from indexer.filters import NO_FILTERS, Filters
from indexer.schema import MIGRATIONS, Migration


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of the library: a path, and what its file says of itself."""

    id: int
    path: Path
    content_hash: str  # sha256 of the file, hex
    size: int  # bytes
    width: int  # pixels, upright
    height: int
    format: str
    orientation: int  # EXIF, 1 to 8
    taken_at: str | None  # ISO 8601, with the offset where the file gives one
    camera: str | None
    lens: str | None
    latitude: float | None  # degrees
    longitude: float | None
    norm: float  # Euclidean norm of FC7 before it was made a unit row
    indexed_at: str  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class Skip:
    """A file that gave no picture, and why."""

    path: Path
    reason: str
    lasts: bool = True  # the file is to blame: it is not read again until it changes


@dataclass(frozen=True, slots=True)
class FileStat:
    """A file as the folder lists it; equal size and mtime mean that it is not read again."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class NewContent:
    """A content about to be stored: its hash and the columns of its row."""

    hash: str
    columns: dict[str, Any]
    labels: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A part of the vectors that counts: a FAISS file, or a collection on a server."""

    name: str
    rows: int
    sha256: str | None = None  # of the file, hex; None: none, or of an older fc7
    codes_sha256: str | None = None  # of its codes


# Asked once a file: making the statement anew took longer than SQLite did.
_WITH_HASH = sa.select(t.contents.c.id).where(t.contents.c.hash == sa.bindparam("hash"))


class Catalog:
    """A library's catalogue. Safe to read from several threads while one run writes."""

    def __init__(
        self, place: Path | Database, migrations: Sequence[Migration] = MIGRATIONS
    ) -> None:
        """Open, create or migrate it. place: an SQLite file, or a database.

        Raises LibraryError if it is newer or can't be used.
        """
        self._database: Database = SqliteFile(place) if isinstance(place, Path) else place
        self._moment: sa.Connection | None = None  # of a snapshot
        where = str(place.parent) if isinstance(place, Path) else place.name
        try:
            with told(self._database, "can't be used as a library"):
                migrate(self._database, migrations, where)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def write(self, *, contents: bool = True) -> Iterator[Writer]:
        """All that is written inside happens at once, or not at all.

        contents: it may change what is searched; else open searches need not look again.
        """
        with self._told(), self._database.writing() as connection, connection.begin():
            writer = Writer(connection, self._database)
            yield writer
            now = uuid.uuid4().hex
            writer.set(change=now, **({"generation": now} if contents else {}))

    @contextmanager
    def snapshot(self) -> Iterator[Catalog]:
        """The catalogue as it is now, whatever is written meanwhile. For one thread, to read."""
        with self._told(), self._database.snapshot() as connection, connection.begin():
            view = copy(self)
            view._moment = connection
            view.generation()  # the first statement is the moment
            yield view

    def _told(self) -> AbstractContextManager[None]:
        return told(self._database, "can't be used")

    def faults(self) -> tuple[list[str], dict[str, list[int]]]:
        """What `Database.faults` says."""
        with self._told(), self._database.reading() as connection:
            return self._database.faults(connection)

    # --- settings, folders, segments

    def settings(self) -> dict[str, str]:
        return {row.key: row.value for row in self.rows(sa.select(t.settings))}

    def generation(self) -> str:
        """Another text each time that what is searched may have changed."""
        return self.settings().get("generation", "")

    def folders(self) -> list[Path]:
        return [Path(row.path) for row in self.rows(sa.select(t.folders).order_by("path"))]

    def segments(self) -> list[SegmentRow]:
        rows = self.rows(sa.select(t.segments).order_by("name"))
        return [SegmentRow(row.name, row.rows, row.sha256, row.codes_sha256) for row in rows]

    def live_rows(self) -> dict[str, int]:
        """How many rows of each segment still have a photo; looks at every content."""
        query = (
            sa.select(t.contents.c.segment, sa.func.count().label("live"))
            .where(_has_photo())
            .group_by(t.contents.c.segment)
        )
        return {row.segment: row.live for row in self.rows(query)}

    def contents_of(self, segments: Sequence[str], *, live: bool) -> list[tuple[int, str]]:
        """(id, hash) of the contents of these segments that have (or have lost) their photos."""
        query = sa.select(t.contents.c.id, t.contents.c.hash).where(
            t.contents.c.segment.in_(segments), _has_photo() if live else ~_has_photo()
        )
        return [(row.id, row.hash) for row in self.rows(query)]

    def live_contents(self) -> list[int]:
        """The contents that have photos, in the order of their ids."""
        query = sa.select(t.contents.c.id).where(_has_photo()).order_by(t.contents.c.id)
        return [row.id for row in self.rows(query)]

    def content_ids(self, after: int, most: int) -> list[int]:
        """The first `most` contents with an id above `after`, in order."""
        c = t.contents.c.id
        return [row.id for row in self.rows(sa.select(c).where(c > after).order_by(c).limit(most))]

    def last_content(self) -> int:
        """The greatest id of a content, or 0."""
        query = sa.select(sa.func.coalesce(sa.func.max(t.contents.c.id), 0).label("last"))
        return int(self.rows(query)[0].last)

    def contents_in(self, segment: str) -> list[int]:
        """The contents whose rows a segment has, in the order of their ids."""
        c = t.contents.c
        found = self.rows(sa.select(c.id).where(c.segment == segment).order_by(c.id))
        return [row.id for row in found]

    def hashes(self) -> set[str]:
        """Of all contents that have photos."""
        return {row.hash for row in self.rows(sa.select(t.contents.c.hash).where(_has_photo()))}

    def hidden_contents(self) -> list[int]:
        """Contents whose photos are gone, but whose rows are still in a segment."""
        return [row.id for row in self.rows(sa.select(t.contents.c.id).where(~_has_photo()))]

    # --- photos

    def count(self) -> int:
        return int(self.rows(sa.select(sa.func.count().label("n")).select_from(t.photos))[0].n)

    def is_empty(self) -> bool:
        """Whether there is no photo; unlike `count`, it doesn't look at all of them."""
        return not self.rows(sa.select(t.photos.c.id).limit(1))

    def photos(
        self,
        *,
        offset: int,
        limit: int | None,
        filters: Filters = NO_FILTERS,
        oldest_first: bool = False,
    ) -> list[Photo]:
        """Those that pass, newest taken first; those without a date last, by path."""
        taken = t.contents.c.taken_at
        query = photo_query().where(*conditions_of(filters, self))
        query = query.order_by(
            taken.is_(None), taken if oldest_first else taken.desc(), t.photos.c.path
        )
        return [photo_of(row) for row in self.rows(query.offset(offset).limit(limit))]

    def photo(self, photo_id: int) -> Photo | None:
        return self._first_photo(photo_query().where(t.photos.c.id == photo_id))

    def photo_at(self, path: str) -> Photo | None:
        return self._first_photo(photo_query().where(t.photos.c.path == path))

    def photos_of(
        self, contents: Sequence[int], filters: Filters = NO_FILTERS
    ) -> dict[int, list[Photo]]:
        """The photos of each content id that pass, by path."""
        found: dict[int, list[Photo]] = {}
        query = photo_query().where(*conditions_of(filters, self)).order_by(t.photos.c.path)
        for part in in_parts(contents):
            for row in self.rows(query.where(t.photos.c.content.in_(part))):
                found.setdefault(row.content, []).append(photo_of(row))
        return found

    def content_of(self, photo_id: int) -> int | None:
        rows = self.rows(sa.select(t.photos.c.content).where(t.photos.c.id == photo_id))
        return int(rows[0].content) if rows else None

    def content_with(self, hash_: str) -> int | None:
        with self._told(), self._reading() as connection:
            found = connection.execute(_WITH_HASH, {"hash": hash_}).scalar_one_or_none()
        return None if found is None else int(found)

    def contents_with(self, hashes: Collection[str]) -> dict[str, int]:
        """The contents that are known of these, by hash."""
        query = sa.select(t.contents.c.hash, t.contents.c.id).where(t.contents.c.hash.in_(hashes))
        return {row.hash: row.id for row in self.rows(query)}

    def next_content_id(self) -> int:
        """One more than any content id ever given."""
        with self._told(), self._reading() as connection:
            return self._database.next_content(connection)

    # --- filters

    def contents_passing(self, filters: Filters) -> list[int]:
        """The contents of the photos that pass; one may come several times."""
        query = sa.select(t.photos.c.content).join(t.contents).where(*conditions_of(filters, self))
        return [row.content for row in self.rows(query)]

    def count_passing(self, filters: Filters) -> int:
        """How many contents that is."""
        count = sa.func.count(sa.distinct(t.photos.c.content)).label("n")
        query = sa.select(count).join(t.contents).where(*conditions_of(filters, self))
        return int(self.rows(query)[0].n)

    # --- files

    def skipped(self) -> list[Skip]:
        rows = self.rows(sa.select(t.skipped).order_by("path"))
        return [Skip(Path(row.path), row.reason) for row in rows]

    def sizes(self) -> set[int]:
        """The sizes in bytes that photos' files have."""
        return {row.size for row in self.rows(sa.select(t.photos.c.size).distinct())}

    def known_under(self, folder: str) -> tuple[dict[str, FileStat], dict[str, FileStat]]:
        """(photos, skipped files) whose path is `folder` or lies under it, by path."""
        return self._stats_under(t.photos, folder), self._stats_under(t.skipped, folder)

    def _stats_under(self, table: sa.Table, folder: str) -> dict[str, FileStat]:
        columns = (table.c.path, table.c.size, table.c.mtime_ns)
        rows = self.rows(sa.select(*columns).where(is_under(table, Path(folder))))
        return {row.path: FileStat(row.path, row.size, row.mtime_ns) for row in rows}

    def _first_photo(self, query: sa.Select[Any]) -> Photo | None:
        rows = self.rows(query)
        return photo_of(rows[0]) if rows else None

    def rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """What a query finds. For the files of this package that hold queries."""
        with self._told(), self._reading() as connection:
            return connection.execute(query).all()

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        return self._database.reading() if self._moment is None else nullcontext(self._moment)


class Writer:
    """What may be changed, inside one transaction of `Catalog.write`."""

    def __init__(self, connection: sa.Connection, database: Database) -> None:
        self._connection = connection
        self._database = database

    def execute(self, statement: sa.Executable, values: Any = None) -> sa.CursorResult[Any]:
        """Run a statement. For the files of this package that hold statements."""
        return self._connection.execute(statement, values)

    def upsert(self, table: sa.Table, keys: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows, all of the same columns; change those whose keys are there already."""
        if rows:
            self._connection.execute(self._database.upsert(table, keys, list(rows[0])), rows)

    def set(self, **settings: str) -> None:
        rows = [{"key": key, "value": value} for key, value in settings.items()]
        self.upsert(t.settings, ["key"], rows)

    def add_folder(self, folder: Path) -> None:
        self.upsert(t.folders, ["path"], [{"path": str(folder)}])

    def remove_folder(self, folder: Path) -> None:
        self._connection.execute(sa.delete(t.folders).where(t.folders.c.path == str(folder)))

    def add_segment(self, segment: SegmentRow) -> None:
        """List a part of the vectors, with its rows, or so many more (or less) if it is there."""
        known = self._connection.execute(
            sa.update(t.segments)
            .where(t.segments.c.name == segment.name)
            .values(rows=t.segments.c.rows + segment.rows)
        )
        if not known.rowcount:
            self._connection.execute(sa.insert(t.segments).values(**asdict(segment)))

    def put_sums(self, segments: Sequence[SegmentRow]) -> None:
        """Note what the files of these segments hold now."""
        for one in segments:
            self._connection.execute(
                sa.update(t.segments)
                .where(t.segments.c.name == one.name)
                .values(rows=one.rows, sha256=one.sha256, codes_sha256=one.codes_sha256)
            )

    def add_contents(
        self, ids: Sequence[int], segment: str, contents: Sequence[NewContent]
    ) -> None:
        """Store contents whose rows are in this segment, and their labels, likeliest first."""
        rows = [
            {"id": id_, "hash": content.hash, "segment": segment, **content.columns}
            for id_, content in zip(ids, contents, strict=True)
        ]
        labels = [
            {"content": id_, "rank": rank, "label": label, "probability": probability}
            for id_, content in zip(ids, contents, strict=True)
            for rank, (label, probability) in enumerate(content.labels, start=1)
        ]
        for table, values in ((t.contents, rows), (t.labels, labels)):
            if values:
                self._connection.execute(sa.insert(table), values)
        if ids:
            self._database.keep_contents(self._connection, max(ids))

    def next_content_id(self) -> int:
        """One more than any content id ever given."""
        return self._database.next_content(self._connection)

    def put_photos(self, photos: Sequence[tuple[FileStat, int]]) -> None:
        """Each path holds this content now, whatever it held before."""
        rows = [
            {"path": stat.path, "size": stat.size, "mtime_ns": stat.mtime_ns, "content": id_}
            for stat, id_ in photos
        ]
        self.upsert(t.photos, ["path"], rows)
        self.remove_skips(stat.path for stat, _ in photos)

    def move_photo(self, old: str, stat: FileStat) -> None:
        """The photo at `old` is now at `stat.path`, under the same id."""
        self._connection.execute(
            sa.update(t.photos)
            .where(t.photos.c.path == old)
            .values(path=stat.path, size=stat.size, mtime_ns=stat.mtime_ns)
        )
        self._connection.execute(sa.delete(t.skipped).where(t.skipped.c.path == stat.path))

    def put_skip(self, stat: FileStat, reason: str, lasts: bool = True) -> None:
        """lasts: until the file changes. Else it is read again, and its photo, if any, is kept."""
        if lasts:
            self.remove_photos([stat.path])
        size = stat.size if lasts else -1  # no file has it
        row = {"path": stat.path, "size": size, "mtime_ns": stat.mtime_ns, "reason": reason}
        self.upsert(t.skipped, ["path"], [row])

    def remove_photos(self, paths: Iterable[str]) -> None:
        self._remove(t.photos.c.path, paths)

    def remove_skips(self, paths: Iterable[str]) -> None:
        self._remove(t.skipped.c.path, paths)

    def _remove(self, column: sa.Column[Any], values: Iterable[object]) -> None:
        gone = [{"gone": value} for value in values]
        if gone:
            statement = sa.delete(column.table).where(column == sa.bindparam("gone"))
            self._connection.execute(statement, gone)

    def replace_segments(self, old: Sequence[str], new: str | None, dead: Sequence[int]) -> None:
        """The rows of `old` are in `new` now, but for the contents `dead`, which are forgotten."""
        self._remove(t.labels.c.content, dead)
        self._remove(t.contents.c.id, dead)
        if new is not None:
            self._connection.execute(
                sa.update(t.contents).where(t.contents.c.segment.in_(old)).values(segment=new)
            )
        self._connection.execute(sa.delete(t.segments).where(t.segments.c.name.in_(old)))

    def contents_at(self, paths: Sequence[str]) -> dict[str, int]:
        """The contents that these paths held when they were last indexed, by path."""
        query = sa.select(t.photos.c.path, t.photos.c.content).where(t.photos.c.path.in_(paths))
        return {row.path: row.content for row in self._connection.execute(query)}

    def paths_of(self, content: int) -> list[str]:
        query = sa.select(t.photos.c.path).where(t.photos.c.content == content)
        return list(self._connection.execute(query).scalars())


def _has_photo() -> sa.ColumnElement[bool]:
    return sa.exists().where(t.photos.c.content == t.contents.c.id)


def photo_query() -> sa.Select[Any]:
    """The columns of a Photo in the order of its fields, and then its content: for `photo_of`."""
    c, p = t.contents.c, t.photos.c
    return sa.select(
        p.id, p.path, c.hash, p.size, c.width, c.height, c.format, c.orientation, c.taken_at,
        c.camera, c.lens, c.latitude, c.longitude, c.norm, c.indexed_at, p.content,
    ).join(t.contents, c.id == p.content)  # fmt: skip


def photo_of(row: sa.Row[Any]) -> Photo:
    values = tuple(row)
    return Photo(values[0], Path(values[1]), *values[2:15])
