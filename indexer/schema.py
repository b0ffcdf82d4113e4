"""The tables of the catalogue, and how a file of an older fc7 comes to have them.

contents   a picture by the sha256 of its file: its descriptor's segment, its metadata
photos     a path that holds a content; ids survive renames and edits, and are never used again
labels     the five likeliest classes of a content
albums     a group of photos: its title by what they show, and what a person said of it
album_photos  which photos an album has, and which a person took out of it
places     where a content lies on the map
skipped    a path that gave no picture, and why; tried again only when it changes
segments   the FAISS files that count; a file that no row names is rubbish
folders    what was indexed
settings   the model, its stamp, the last run, and `generation`, which each write changes
           that changes what is searched

Two files of the same content share one descriptor; a renamed file finds its own again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from retrieval.errors import LibraryError

Migration = Callable[[sa.Connection], None]


class PathText(sa.TypeDecorator[str]):
    """A path. Names that are not UTF-8 (Linux allows them) are kept as their bytes."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        try:
            value.encode()
        except UnicodeEncodeError:
            return os.fsencode(value)
        return value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:
        return os.fsdecode(value) if isinstance(value, bytes) else value


tables = sa.MetaData()
settings = sa.Table(
    "settings",
    tables,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.String),
)
folders = sa.Table("folders", tables, sa.Column("path", PathText, primary_key=True))
segments = sa.Table(
    "segments",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("rows", sa.Integer, nullable=False),
)
contents = sa.Table(
    "contents",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("hash", sa.String, nullable=False, unique=True),
    sa.Column("segment", sa.ForeignKey("segments.name"), nullable=False, index=True),
    sa.Column("format", sa.String, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("orientation", sa.Integer, nullable=False),
    sa.Column("taken_at", sa.String, index=True),
    sa.Column("camera", sa.String),
    sa.Column("lens", sa.String),
    sa.Column("latitude", sa.Float),
    sa.Column("longitude", sa.Float),
    sa.Column("norm", sa.Float, nullable=False),
    sa.Column("indexed_at", sa.String, nullable=False),
    sqlite_autoincrement=True,
)
labels = sa.Table(
    "labels",
    tables,
    sa.Column("content", sa.ForeignKey("contents.id"), primary_key=True),
    sa.Column("rank", sa.Integer, primary_key=True),
    sa.Column("label", sa.String, nullable=False, index=True),
    sa.Column("probability", sa.Float, nullable=False),
)
photos = sa.Table(
    "photos",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("path", PathText, nullable=False, unique=True),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("mtime_ns", sa.Integer, nullable=False),
    sa.Column("content", sa.ForeignKey("contents.id"), nullable=False, index=True),
    sqlite_autoincrement=True,
)
albums = sa.Table(
    "albums",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("title", sa.String, nullable=False),  # by what its photos show
    sa.Column("name", sa.String),  # by a person, instead
    sa.Column("hidden", sa.Boolean, nullable=False),
    sa.Column("kept", sa.Boolean, nullable=False),  # a person had a hand in it
    sa.Column("cover", sa.ForeignKey("photos.id", ondelete="SET NULL")),
    sa.Column("cohesion", sa.Float),
    sqlite_autoincrement=True,
)
album_photos = sa.Table(
    "album_photos",
    tables,
    sa.Column("album", sa.ForeignKey("albums.id", ondelete="CASCADE"), primary_key=True),
    sa.Column(
        "photo", sa.ForeignKey("photos.id", ondelete="CASCADE"), primary_key=True, index=True
    ),
    sa.Column("taken_out", sa.Boolean, nullable=False),  # by a person: it shall not come back
)
places = sa.Table(
    "places",
    tables,
    sa.Column("content", sa.ForeignKey("contents.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("x", sa.Float, nullable=False),
    sa.Column("y", sa.Float, nullable=False),
)
skipped = sa.Table(
    "skipped",
    tables,
    sa.Column("path", PathText, primary_key=True),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("mtime_ns", sa.Integer, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
)


def first_schema(connection: sa.Connection) -> None:
    """Version 1. Frozen: a later change of the tables above is a later function."""
    for statement in (
        "CREATE TABLE settings (key VARCHAR NOT NULL PRIMARY KEY, value VARCHAR)",
        "CREATE TABLE folders (path VARCHAR NOT NULL PRIMARY KEY)",
        "CREATE TABLE segments (name VARCHAR NOT NULL PRIMARY KEY, rows INTEGER NOT NULL)",
        """CREATE TABLE contents (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, hash VARCHAR NOT NULL UNIQUE,
            segment VARCHAR NOT NULL REFERENCES segments (name),
            format VARCHAR NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
            orientation INTEGER NOT NULL, taken_at VARCHAR, camera VARCHAR, lens VARCHAR,
            latitude FLOAT, longitude FLOAT, norm FLOAT NOT NULL, indexed_at VARCHAR NOT NULL)""",
        "CREATE INDEX ix_contents_segment ON contents (segment)",
        "CREATE INDEX ix_contents_taken_at ON contents (taken_at)",
        """CREATE TABLE labels (
            content INTEGER NOT NULL REFERENCES contents (id), rank INTEGER NOT NULL,
            label VARCHAR NOT NULL, probability FLOAT NOT NULL, PRIMARY KEY (content, rank))""",
        "CREATE INDEX ix_labels_label ON labels (label)",
        """CREATE TABLE photos (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, path VARCHAR NOT NULL UNIQUE,
            size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
            content INTEGER NOT NULL REFERENCES contents (id))""",
        "CREATE INDEX ix_photos_content ON photos (content)",
        """CREATE TABLE skipped (
            path VARCHAR NOT NULL PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
            reason VARCHAR NOT NULL)""",
    ):
        connection.execute(sa.text(statement))


def albums_and_map(connection: sa.Connection) -> None:
    """Version 2. Frozen."""
    for statement in (
        """CREATE TABLE albums (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, title VARCHAR NOT NULL, name VARCHAR,
            hidden BOOLEAN NOT NULL, kept BOOLEAN NOT NULL,
            cover INTEGER REFERENCES photos (id) ON DELETE SET NULL, cohesion FLOAT)""",
        """CREATE TABLE album_photos (
            album INTEGER NOT NULL REFERENCES albums (id) ON DELETE CASCADE,
            photo INTEGER NOT NULL REFERENCES photos (id) ON DELETE CASCADE,
            taken_out BOOLEAN NOT NULL, PRIMARY KEY (album, photo))""",
        "CREATE INDEX ix_album_photos_photo ON album_photos (photo)",
        """CREATE TABLE places (
            content INTEGER NOT NULL PRIMARY KEY REFERENCES contents (id) ON DELETE CASCADE,
            x FLOAT NOT NULL, y FLOAT NOT NULL)""",
    ):
        connection.execute(sa.text(statement))


MIGRATIONS: tuple[Migration, ...] = (first_schema, albums_and_map)


def configure(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's advice: we say BEGIN ourselves, see _begin
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.execute("PRAGMA journal_mode = WAL")  # readers never wait for the run that writes
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("fc7_write", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # else one SELECT, a transaction by itself


def migrate(engine: sa.Engine, migrations: Sequence[Migration], file: Path) -> None:
    """Bring the schema to the newest version: each step and its number in one transaction."""
    with engine.connect() as plain:
        version = int(plain.exec_driver_sql("PRAGMA user_version").scalar_one())
    if version > len(migrations):
        raise LibraryError(
            f"{file.parent} was made by a newer fc7 (schema {version}, this one knows "
            f"{len(migrations)}): update fc7"
        )
    while version < len(migrations):
        with engine.connect().execution_options(fc7_write=True) as connection, connection.begin():
            version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
            if version < len(migrations):  # another process may have been quicker
                migrations[version](connection)
                version += 1
                connection.exec_driver_sql(f"PRAGMA user_version = {version}")
