"""A catalogue on PostgreSQL: the same tables and queries, for readers on many machines.

Needs psycopg. The database is the library's alone: `createdb -E UTF8 -T template0 photos`.

Each write takes one advisory lock for the length of its transaction, so writers follow one another
as they do in SQLite, whichever machine they are on. What keeps two *runs* apart is the lock file in
the library's folder (indexer/work.py): where machines share the folder, and its file system locks
across them (NFS does, unless mounted with nolock), one run waits for the other. Without such a lock
they would sweep each other's segments, so a library's folder belongs on a file system that has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from indexer.database import upsert
from indexer.schema import Migration
from retrieval.errors import LibraryError

EXAMPLE = "postgresql+psycopg://USER@HOST/DATABASE"
_SECRETS = ("password", "sslpassword")
# libpq waits for ever for a server that is gone without a word. In seconds, the last in ms.
_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_LOCK = 0xFC7
# As SQLite does: wait for other writers half a minute; what is committed is on the server's disk,
# for the files that a commit makes superfluous are removed next.
_BEGIN = f"""
SET LOCAL lock_timeout = '30s';
SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') = 'off';
SELECT pg_advisory_xact_lock({_LOCK})"""
# What a user can do something about, beside OperationalError; see PostgreSQL's appendix A.
_TROUBLES = {
    "25006": "",  # a standby, or a database set to read only
    "42501": "",  # no permission
    "42P01": "; tables of the library were removed: restore the database",
    "42P07": "; it holds tables of something else: give the library a database of its own",
}
_ASKED = " Is the server running on that host and accepting TCP/IP connections?"
_HINTS = {
    "password": "; give it in PGPASSWORD or in ~/.pgpass",
    "does not exist": "; createdb -E UTF8 -T template0 makes a database",
    "Connection refused": "; is the server running, and the address right?",
    "lock timeout": "; somebody else is writing: try again",
}


class PostgresServer:
    """A database on a PostgreSQL server."""

    def __init__(self, address: str) -> None:
        """Raises LibraryError if the address is none, or psycopg is missing. Doesn't connect."""
        url = _parse(address)
        self.address = without_password(address)
        self.name = _of_parts("postgresql", url, {}).render_as_string()
        patience = {name: value for name, value in _PATIENCE.items() if name not in url.query}
        try:
            self._engine = sa.create_engine(
                url,
                pool_pre_ping=True,  # a server that was restarted dropped our connections
                max_overflow=-1,  # who waits to write keeps nobody from reading
                use_native_hstore=False,  # it would be asked for at each connection
                connect_args={"application_name": "fc7", "client_encoding": "utf8"} | patience,
            )
        except ImportError as error:
            raise LibraryError(
                f'{self.name} needs psycopg, which is not installed: pip install "fc7[cluster]"'
            ) from error
        sa.event.listen(self._engine, "begin", _begin)
        # A reader's statement is a transaction by itself, without a BEGIN and a COMMIT of its own.
        self._readers = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        self._engine.dispose()

    def reading(self) -> sa.Connection:
        return self._readers.connect()

    def snapshot(self) -> sa.Connection:
        return self._engine.connect().execution_options(isolation_level="REPEATABLE READ")

    def writing(self) -> sa.Connection:
        options: dict[str, Any] = {"isolation_level": "READ COMMITTED", "fc7_write": True}
        return self._engine.connect().execution_options(**options)

    def read_version(self, connection: sa.Connection) -> int:
        # Not to_regclass: its memory is older than the lock, when another just made the tables.
        there = (
            "SELECT count(*) FROM pg_tables "
            "WHERE tablename = 'fc7_schema' AND schemaname = ANY (current_schemas(false))"
        )
        if not connection.exec_driver_sql(there).scalar_one():
            return 0
        return int(connection.exec_driver_sql("SELECT version FROM fc7_schema").scalar_one())

    def write_version(self, connection: sa.Connection, version: int) -> None:
        if version == 1:
            _check_encoding(connection, self.name)
            connection.exec_driver_sql("CREATE TABLE fc7_schema (version BIGINT NOT NULL)")
            connection.exec_driver_sql("INSERT INTO fc7_schema VALUES (0)")
        connection.execute(sa.text("UPDATE fc7_schema SET version = :now"), {"now": version})

    def strange(self, connection: sa.Connection, migrations: Sequence[Migration]) -> str | None:
        """A server has others to guard it."""
        return None

    def faults(self, connection: sa.Connection) -> tuple[list[str], dict[str, list[int]]]:
        return [], {}

    def next_content(self, connection: sa.Connection) -> int:
        query = "SELECT last_value + CAST(is_called AS INTEGER) FROM contents_id_seq"
        return int(connection.exec_driver_sql(query).scalar_one())

    def keep_contents(self, connection: sa.Connection, last: int) -> None:
        """A sequence doesn't see ids that are given to it. A rollback leaves a gap, never harm."""
        statement = sa.text(
            "SELECT setval('contents_id_seq', CAST(:last AS BIGINT)) FROM contents_id_seq "
            "WHERE last_value <= :last"
        )
        connection.execute(statement, {"last": last})

    def upsert(self, table: sa.Table, keys: Sequence[str], columns: Sequence[str]) -> sa.Insert:
        return upsert(postgresql.insert(table), keys, columns)

    def complaint(self, error: sa.exc.DBAPIError) -> str | None:
        """A server that is gone, full, read-only or says no."""
        state = getattr(error.orig, "sqlstate", None) or ""
        if not isinstance(error, sa.exc.OperationalError) and state not in _TROUBLES:
            return None
        said = " ".join(str(error.orig).split()).removeprefix("connection failed: ")
        said = said.removesuffix(_ASKED)
        hint = next((hint for part, hint in _HINTS.items() if part in said), "")
        return said + _TROUBLES.get(state, hint)


def without_password(address: str) -> str:
    """The address as it may be written down."""
    url = _parse(address).difference_update_query(_SECRETS)
    return _of_parts(url.drivername, url, url.query).render_as_string()


def same_place(one: str, other: str) -> bool:
    """Whether two addresses name one database, whoever asks."""
    return _place(one) == _place(other)


def _place(address: str) -> sa.URL:
    url = _parse(without_password(address))
    return url.set(username="", port=url.port or 5432)


def _of_parts(name: str, url: sa.URL, query: Mapping[str, Any]) -> sa.URL:
    """All but the password: URL.set can't take one away."""
    return sa.URL.create(name, url.username, None, url.host, url.port, url.database, query)


def _parse(address: str) -> sa.URL:
    """Raises LibraryError for what is no address of a PostgreSQL database."""
    try:
        url = sa.make_url(address)
    except (sa.exc.ArgumentError, ValueError):
        raise LibraryError(f"a catalogue's address is like {EXAMPLE}") from None
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise LibraryError(f"no catalogues on {url.drivername}: give an address like {EXAMPLE}")
    if not url.database:
        raise LibraryError(f"{url.render_as_string()} names no database: it is like {EXAMPLE}")
    return url.set(drivername="postgresql+psycopg")


def _check_encoding(connection: sa.Connection, name: str) -> None:
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise LibraryError(
            f"{name} can't hold all letters, for it is {encoding}: make the database with "
            "createdb -E UTF8 -T template0"
        )


def _begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("fc7_write", False):
        connection.exec_driver_sql(_BEGIN)
