"""Where a catalogue is kept: in an SQLite file, or on a server (engines/postgres.py).

What the two do differently is said here and there, and in the types of schema.py's migrations.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from indexer.schema import Migration, columns_of, row_crc
from retrieval.errors import LibraryError, NewerLibraryError

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql


class Database(Protocol):
    """What a catalogue asks of either."""

    @property
    def name(self) -> str:
        """How messages call it."""

    def close(self) -> None:
        """Close the connections; the next question opens new ones."""

    def reading(self) -> sa.Connection:
        """A connection on which each statement sees whole transactions."""

    def snapshot(self) -> sa.Connection:
        """One whose transaction sees all as it was at its first statement; it waits for nobody."""

    def writing(self) -> sa.Connection:
        """One whose transactions wait for those of other writers to end, anybody's."""

    def read_version(self, connection: sa.Connection) -> int:
        """The number of the schema; 0 before there is one."""

    def write_version(self, connection: sa.Connection, version: int) -> None:
        """Change it, in the transaction that changed the schema."""

    def strange(self, connection: sa.Connection, migrations: Sequence[Migration]) -> str | None:
        """What of the schema isn't as these migrations make it; None: nothing is."""

    def faults(self, connection: sa.Connection) -> tuple[list[str], dict[str, list[int]]]:
        """What is wrong with the file, and the rows that changed by themselves: by table, rowids.

        Of a server nothing is known.
        """

    def next_content(self, connection: sa.Connection) -> int:
        """One more than any content id ever given."""

    def keep_contents(self, connection: sa.Connection, last: int) -> None:
        """Content ids up to this one are given."""

    def upsert(self, table: sa.Table, keys: Sequence[str], columns: Sequence[str]) -> sa.Insert:
        """Insert rows; where one with these keys is there, change its other columns instead."""

    def complaint(self, error: sa.exc.DBAPIError) -> str | None:
        """What the user should be told of an error; None if it is a bug of ours."""


class SqliteFile:
    """An SQLite file."""

    def __init__(self, file: Path) -> None:
        self.name = str(file)
        url = sa.URL.create("sqlite", database=str(file))
        self._is_readable_only = readable_only(file)
        if self._is_readable_only:  # who may write it can do so between any two questions
            self._engine = sa.create_engine(url, poolclass=sa.NullPool)
            sa.event.listen(self._engine, "do_connect", lambda *_: sqlite3.connect(
                address_of(file), uri=True, check_same_thread=False))  # fmt: skip
        else:
            # No most number of connections: who waits to write would keep others from reading.
            self._engine = sa.create_engine(url, poolclass=sa.QueuePool, max_overflow=-1)
            if file != _MEMORY:
                # Made by the first connection alone: later its disk may have been unplugged.
                modes = chain(["rwc"], repeat("rw"))
                sa.event.listen(self._engine, "do_connect", lambda *_: sqlite3.connect(
                    f"{file.absolute().as_uri()}?mode={next(modes)}", uri=True,
                    check_same_thread=False))  # fmt: skip
            sa.event.listen(self._engine, "connect", _configure)
        sa.event.listen(self._engine, "connect", bring_row_sum)
        sa.event.listen(self._engine, "begin", _begin)

    def close(self) -> None:
        self._engine.dispose()

    def reading(self) -> sa.Connection:
        return self._engine.connect()

    def snapshot(self) -> sa.Connection:
        return self._engine.connect().execution_options(fc7_begin="BEGIN")

    def writing(self) -> sa.Connection:
        return self._engine.connect().execution_options(fc7_begin="BEGIN IMMEDIATE")

    def read_version(self, connection: sa.Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def write_version(self, connection: sa.Connection, version: int) -> None:
        connection.exec_driver_sql(f"PRAGMA user_version = {version}")

    def strange(self, connection: sa.Connection, migrations: Sequence[Migration]) -> str | None:
        made = _schema_of(tuple(migrations))
        odd = made ^ frozenset(tuple(row) for row in connection.exec_driver_sql(_SCHEMA))
        return min((f"{kind} {name}" for kind, name, _, _ in odd), default=None)

    def faults(self, connection: sa.Connection) -> tuple[list[str], dict[str, list[int]]]:
        said = connection.exec_driver_sql("PRAGMA integrity_check").scalars()
        wrong = [line for line in said if line != "ok"]
        astray = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        wrong += [
            f"row {row} of {table} names no row of {other}" for table, row, other, _ in astray
        ]
        changed = {}
        for table, columns in columns_of(connection).items():
            query = f"SELECT rowid FROM {table} WHERE checksum IS NOT {row_crc(columns)}"
            rows = connection.exec_driver_sql(query).scalars().all()
            if rows:
                changed[table] = list(rows)
        return wrong, changed

    def next_content(self, connection: sa.Connection) -> int:
        used = sa.text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'contents'")
        return int(connection.execute(used).scalar_one()) + 1

    def keep_contents(self, connection: sa.Connection, last: int) -> None:
        """AUTOINCREMENT has seen it."""

    def upsert(self, table: sa.Table, keys: Sequence[str], columns: Sequence[str]) -> sa.Insert:
        return upsert(sqlite.insert(table), keys, columns)

    def complaint(self, error: sa.exc.DBAPIError) -> str | None:
        """A full disk, a read-only folder, a damaged file. Other subclasses are bugs."""
        if type(error) not in (sa.exc.OperationalError, sa.exc.DatabaseError):
            return None
        said = str(error.orig)
        if self._is_readable_only:
            return f"{said} (its folder can't be written)"
        return f"{said}; somebody else is writing: try again" if "locked" in said else said


def readable_only(file: Path) -> bool:
    """Whether an SQLite file is there, in a folder that this process can't write."""
    return file.exists() and not os.access(file.parent, os.W_OK)


def address_of(file: Path) -> str:
    """How SQLite opens a file in a folder that can't be written, as a URI.

    Beside a file in WAL mode it makes two others even to read it. Where they are, it reads them;
    else it must be told that nobody writes, which is certain only if nobody can.
    """
    folder = file.absolute().parent
    nobody_writes = (
        bool(os.statvfs(folder).f_flag & os.ST_RDONLY) or not folder.stat().st_mode & 0o222
    )
    alone = nobody_writes and not Path(f"{file}-wal").exists()
    return f"{file.absolute().as_uri()}?{'immutable=1' if alone else 'mode=ro'}"


def migrate(database: Database, migrations: Sequence[Migration], where: str) -> None:
    """Bring the schema to the newest version: each step and its number in one transaction.

    where: what was made by a newer fc7, if it was. Raises NewerLibraryError then.
    """
    with database.reading() as plain:
        version = database.read_version(plain)
    if version > len(migrations):
        raise NewerLibraryError(made_by_newer(where, "schema", version, len(migrations)))
    while version < len(migrations):
        with database.writing() as connection, connection.begin():
            version = database.read_version(connection)
            if version < len(migrations):  # another process may have been quicker
                made, step = migrations[:version], migrations[version]
                if database.strange(connection, made) is None:
                    step(connection)
                elif database.strange(connection, (*made, step)) is not None:
                    _refuse_strange(database, connection, made, where)
                # Else the number alone is wrong: for half a day schema 4 was made under the 3.
                version += 1
                database.write_version(connection, version)
    with database.reading() as plain:
        _refuse_strange(database, plain, migrations, where)


def made_by_newer(what: object, number: str, found: int, known: int) -> str:
    """What is said of a library or a backup whose `number` is greater than this fc7 knows."""
    return f"{what} was made by a newer fc7 ({number} {found}, this one knows {known}): update fc7"


def _refuse_strange(
    database: Database, connection: sa.Connection, migrations: Sequence[Migration], where: str
) -> None:
    """Before its triggers and views have a part in anything."""
    strange = database.strange(connection, migrations)
    if strange is not None:
        raise LibraryError(
            f"{where} is damaged, or was changed by another program ({strange} is not as fc7 makes "
            "it): fc7 restore a backup, or delete the library and index again"
        )


_MEMORY = Path(":memory:")
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema"


@cache
def _schema_of(migrations: tuple[Migration, ...]) -> frozenset[tuple[str, ...]]:
    """What is in a catalogue that these have made."""
    database = SqliteFile(_MEMORY)
    with database.writing() as connection, connection.begin():
        for migration in migrations:
            migration(connection)
        found = frozenset(tuple(row) for row in connection.exec_driver_sql(_SCHEMA))
    database.close()
    return found


@contextmanager
def told(database: Database, what: str) -> Iterator[None]:
    """Make the user's troubles a LibraryError: "<name> <what>: <complaint>"."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        complaint = database.complaint(error)
        if complaint is None:
            raise
        raise LibraryError(f"{database.name} {what}: {complaint}") from error
    except UnicodeDecodeError as error:  # SQLite's own message of a damaged schema
        raise LibraryError(f"{database.name} {what}: it is damaged") from error


def upsert(
    statement: sqlite.Insert | postgresql.Insert, keys: Sequence[str], columns: Sequence[str]
) -> sa.Insert:
    """Both dialects say it alike."""
    rest = {name: statement.excluded[name] for name in columns if name not in keys}
    if not rest:
        return statement.on_conflict_do_nothing(index_elements=keys)
    return statement.on_conflict_do_update(index_elements=keys, set_=rest)


class AtMax(FunctionElement[Any]):
    """In a query that also asks for max(by): the value in a row that has that maximum."""

    inherit_cache = True

    def __init__(self, value: sa.ColumnElement[Any], by: sa.ColumnElement[Any]) -> None:
        super().__init__(value, by)
        self.type = value.type


class Unindexed(FunctionElement[Any]):
    """The column, said so that SQLite doesn't take its index."""

    inherit_cache = True

    def __init__(self, column: sa.ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(AtMax)
def _at_max(element: AtMax, compiler: SQLCompiler, **options: Any) -> str:
    """A bare column: SQLite promises to take it from such a row."""
    value, _ = element.clauses
    return compiler.process(value, **options)


@compiles(AtMax, "postgresql")
def _at_max_of_array(element: AtMax, compiler: SQLCompiler, **options: Any) -> str:
    value, by = (compiler.process(one, **options) for one in element.clauses)
    return f"(array_agg({value} ORDER BY {by} DESC))[1]"


@compiles(Unindexed)
def _unindexed(element: Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    (column,) = element.clauses
    return f"+{compiler.process(column, **options)}"


@compiles(Unindexed, "postgresql")
def _plain(element: Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    (column,) = element.clauses
    return compiler.process(column, **options)


def _configure(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's advice: we say BEGIN ourselves, see _begin
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.execute("PRAGMA journal_mode = WAL")  # readers never wait for the run that writes
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def bring_row_sum(connection: Any, _record: Any = None) -> None:
    """What the triggers ask for that keep a checksum of each row (indexer/schema.py).

    C functions that call nothing: anything of Python's would raise the KeyboardInterrupt of a
    Ctrl-C, and SQLite would make an error of its own of it. The old `row_sum` is so; migrations
    alone ask for it.
    """
    connection.create_function("crc32", 1, zlib.crc32, deterministic=True)
    connection.create_function("real_bytes", 1, struct.Struct("<d").pack, deterministic=True)
    connection.create_function("row_sum", -1, _repr_sum, deterministic=True)


def _repr_sum(*values: str | float | bytes | None) -> int:
    return zlib.crc32(repr(values).encode())


def _begin(connection: sa.Connection) -> None:
    said = connection.get_execution_options().get("fc7_begin")
    if said is not None:
        connection.exec_driver_sql(said)  # else one SELECT, a transaction by itself
