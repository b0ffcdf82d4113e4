"""Thumbnails by content hash, in one SQLite file: a file a photo takes ten times as long to write.

They are a cache, in a file of their own so that the catalogue stays small. A batch's are stored
before the rows that name their contents.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from indexer.database import address_of, readable_only
from retrieval.errors import LibraryError

_TABLE = "CREATE TABLE thumbnails (hash TEXT PRIMARY KEY, jpeg BLOB NOT NULL{})"
_SCHEMA = (None, _TABLE.format(""), _TABLE.format(", checksum INTEGER"))  # None: its own index
_PATIENCE = 60.0  # seconds to wait for another process's transaction


class ThumbnailStore:
    """The file. Several processes and threads may read while one writes."""

    def __init__(self, file: Path) -> None:
        """The file is made at the first writing."""
        self._file = file

    def put(self, jpegs: Mapping[str, bytes]) -> None:
        """Store JPEGs by hash, all at once, whatever was there."""
        with self._open("rwc") as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # on disk before the rows that follow
            connection.execute(
                "CREATE TABLE IF NOT EXISTS thumbnails "
                "(hash TEXT PRIMARY KEY, jpeg BLOB NOT NULL, checksum INTEGER)"
            )
            _add_checksums(connection)
            rows = [(hash_, jpeg, _checksum(hash_, jpeg)) for hash_, jpeg in jpegs.items()]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)", rows)

    def get(self, hash_: str) -> bytes | None:
        """The JPEG, or None if there is none."""
        if not self._file.exists():
            return None
        with self._open("ro") as connection:
            row = connection.execute(
                "SELECT jpeg FROM thumbnails WHERE hash = ?", (hash_,)
            ).fetchone()
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def damaged(self, wanted: Collection[str]) -> set[str]:
        """Which of the wanted hashes have no thumbnail, or one that isn't as it was stored.

        Raises LibraryError if the file itself is damaged.
        """
        left = set(wanted)
        if self._file.exists():
            with self._open("ro") as connection:
                (told,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
                if told != "ok":
                    raise LibraryError(f"{self._file} is damaged: {told}")
                columns = connection.execute("SELECT * FROM thumbnails LIMIT 0").description
                own = "checksum" if len(columns) == 3 else "NULL"  # of an older fc7
                for hash_, jpeg, checksum in connection.execute(
                    f"SELECT CAST(hash AS BLOB), jpeg, {own} FROM thumbnails"
                ):
                    name = hash_.decode("ascii", "replace")
                    sound = isinstance(jpeg, bytes)
                    if sound and checksum in (None, _checksum(name, jpeg)):
                        left.discard(name)
        return left

    def is_unreadable(self) -> bool:
        """Whether the file is so damaged that nothing can be stored in it."""
        try:
            self.damaged(())
        except LibraryError:
            return True
        return False

    def clear(self) -> None:
        """Remove the file."""
        for end in ("", "-wal", "-shm"):
            self._file.with_name(self._file.name + end).unlink(missing_ok=True)

    def count(self) -> int:
        return self._select("count(*)")[0][0] if self._file.exists() else 0

    def hashes(self) -> set[str]:
        return {row[0] for row in self._select("hash")} if self._file.exists() else set()

    def _select(self, what: str) -> list[tuple[Any, ...]]:
        with self._open("rw") as connection:  # "ro" would leave SQLite's other files behind
            return connection.execute(f"SELECT {what} FROM thumbnails").fetchall()

    def remove(self, hashes: Iterable[str]) -> None:
        """Forget these; the file's room is used again."""
        gone = [(hash_,) for hash_ in hashes]
        if gone and self._file.exists():
            with self._open("rw") as connection, connection:
                connection.executemany("DELETE FROM thumbnails WHERE hash = ?", gone)

    @contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            address = f"{self._file.absolute().as_uri()}?mode={mode}"
            if mode == "ro" and readable_only(self._file):
                address = address_of(self._file)
            with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE)) as connection:
                self._refuse_strange(connection)
                yield connection
        except sqlite3.OperationalError as error:  # a full disk, a folder that is read-only
            raise LibraryError(f"{self._file} can't be used: {error}") from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise  # its other subclasses are bugs
            raise LibraryError(f"{self._file} is damaged: {error}") from error

    def _refuse_strange(self, connection: sqlite3.Connection) -> None:
        """A file from elsewhere may have triggers, or a view in the table's place."""
        for (sql,) in connection.execute("SELECT sql FROM sqlite_schema"):
            if sql not in _SCHEMA:
                raise LibraryError(
                    f"{self._file} was changed by another program: remove it, and fc7 check "
                    "--repair makes another"
                )


def _checksum(hash_: str, jpeg: bytes) -> int:
    return zlib.crc32(jpeg, zlib.crc32(hash_.encode()))


def _add_checksums(connection: sqlite3.Connection) -> None:
    """Give those of an older fc7 theirs."""
    if len(connection.execute("SELECT * FROM thumbnails LIMIT 0").description) == 2:
        connection.create_function("checksum_of", 2, _checksum, deterministic=True)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ALTER TABLE thumbnails ADD COLUMN checksum INTEGER")
            connection.execute("UPDATE thumbnails SET checksum = checksum_of(hash, jpeg)")
