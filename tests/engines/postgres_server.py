"""A real PostgreSQL server, Debian's, for the length of a module's tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from serving import free_port

from indexer import Library, open_library
from indexer.catalog import Catalog
from indexer.engines.postgres import PostgresServer
from retrieval.extractor import Extractor

HOUSE = Path(__file__).parent.parent.parent
USER, PASSWORD = "fc7", "a secret: /@?&"
SETTINGS = ("fsync=off", "listen_addresses=127.0.0.1", "timezone=UTC", "lc_messages=C")


@dataclass
class Server:
    """One that runs on a port of this machine, in a folder of its own."""

    programs: Path
    folder: Path
    port: int
    names: Iterator[int] = field(default_factory=count)

    def address(self, database: str, *, password: str | None = None) -> str:
        url = sa.URL.create("postgresql+psycopg", USER, password, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)

    def new_database(self, template: str = "template0") -> str:
        """The address of a new one: empty, or a copy. It throws out who uses the template."""
        name = f"library{next(self.names)}"
        if template != "template0":
            self.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = '{template}'"
            )
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'")
        return self.address(name)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql, which is no part of fc7, says."""
        command = [self.programs / "psql", "-XAtqc", statement, "-h", "127.0.0.1", "-U", USER]
        ran = subprocess.run(
            [*command, "-p", str(self.port), "-d", database],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def start(self) -> None:
        settings = [word for one in (*SETTINGS, f"port={self.port}") for word in ("-c", one)]
        options = " ".join([*settings, "-c", f"unix_socket_directories={self.folder}"])
        self._run("pg_ctl", "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        """how: "fast" ends in order; "immediate" as if it crashed, with a recovery at the start."""
        self._run("pg_ctl", "-w", "-m", how, "stop")

    def make(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        words = ("-U", USER, "-A", "scram-sha-256", "--pwfile", self.folder / "password")
        self._run("initdb", *words, "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync")

    def _run(self, program: str, *words: str | Path) -> None:
        command = [str(self.programs / program), "-D", str(self.folder / "data"), *map(str, words)]
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            command = ["runuser", "-u", _somebody(), "--", *command]
        with (self.folder / "out").open("a+") as out:  # a pipe would be held open by the server
            ran = subprocess.run(command, stdout=out, stderr=out, cwd="/", check=False)
            assert ran.returncode == 0, (self.folder / "out").read_text()


def _somebody() -> str:
    names = {one.pw_name for one in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def find_programs() -> Path | None:
    """Debian's folder of the newest PostgreSQL, or where `initdb` is found."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: p.parts[-3])
    elsewhere = shutil.which("initdb")
    return found[-1].parent if found else Path(elsewhere).parent if elsewhere else None


@contextmanager
def running_postgres() -> Iterator[Server]:
    """Start a server, and stop it and remove its folder in the end. Skips where there is none."""
    pytest.importorskip("psycopg", reason='psycopg is not installed: pip install "fc7[cluster]"')
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="fc7-postgres-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, _somebody())
        server = Server(programs, folder, free_port())
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    """A server. What the tests of a module start knows its password, as ~/.pgpass would tell."""
    with running_postgres() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        yield server


@pytest.fixture
def address(postgres: Server) -> str:
    """Of an empty database."""
    return postgres.new_database()


@pytest.fixture
def catalog(address: str) -> Iterator[Catalog]:
    opened = Catalog(PostgresServer(address))
    yield opened
    opened.close()


@pytest.fixture
def library(tmp_path: Path, extractor: Extractor, address: str) -> Iterator[Library]:
    with open_library(tmp_path / "library", extractor=extractor, catalog=address) as opened:
        yield opened


def check_line(said: str, *words: str) -> None:
    """One line for people: no traceback, no password."""
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    assert PASSWORD not in said
    for word in words:
        assert word in said
