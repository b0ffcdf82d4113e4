"""A library that is given a PostgreSQL address: which it takes, and what it says of others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from postgres_server import *  # noqa: F403
from postgres_server import HOUSE, PASSWORD, Server, check_line
from serving import serving

from indexer import Library, open_library
from indexer.engines.addresses import read_addresses
from retrieval.errors import LibraryError
from retrieval.extractor import Extractor


def fc7(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ui.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=HOUSE,
        env={**os.environ, **environment},
    )


def name_of(address: str) -> str:
    return address.rpartition("/")[2]


# --- the command


@pytest.mark.light
def test_a_library_is_made_with_an_address_and_found_again_without_it(
    postgres: Server, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    database = name_of(postgres.new_database())
    full = postgres.address(database, password=PASSWORD)
    home = tmp_path / "library"
    made = fc7("index", photos, "--library", home, "--catalog", full)
    assert made.returncode == 0, made.stderr
    assert "8" in made.stdout
    assert postgres.sql("SELECT count(*) FROM photos", database) == "8"
    assert not (home / "catalog.sqlite").exists()
    for file in home.rglob("*"):
        if file.is_file():
            assert PASSWORD.encode() not in file.read_bytes(), file
            assert b"a+secret" not in file.read_bytes(), file
            assert b"a%20secret" not in file.read_bytes(), file

    query = photos / "shoes" / "shoe-01.jpg"
    search = fc7("search", query, "--library", home, "-k", "1")
    assert search.returncode == 1
    check_line(search.stderr, "PGPASSWORD")
    search = fc7("search", query, "--library", home, "-k", "1", PGPASSWORD=PASSWORD)
    assert search.returncode == 0, search.stderr
    assert "shoe-02.jpg" in search.stdout
    pgpass = tmp_path / "pgpass"
    said = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    pgpass.write_text(f"127.0.0.1:{postgres.port}:{database}:fc7:{said}\n")
    pgpass.chmod(0o600)
    status = fc7("status", "--library", home, PGPASSFILE=str(pgpass))
    assert status.returncode == 0, status.stderr
    assert postgres.address(database) in status.stdout
    again = fc7("index", "--library", home, "--catalog", full, "--json")  # the same, said again
    assert '"unchanged": 8' in again.stdout, again.stderr


def test_the_browser_follows_the_library_to_its_database(library: Library, photos: Path) -> None:
    library.index([photos])
    photo = library.photos()[0]
    with serving(library.path) as server, urlopen(f"{server}/thumb/{photo.id}.jpg") as answer:
        assert answer.read() == library.thumbnail(photo.id)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql+psycopg://fc7@127.0.0.1:1/photos", ["refused", "is the server running"]),
        ("postgresql+psycopg://fc7@no-such-host.invalid/photos", ["no-such-host"]),
        ("postgresql+psycopg://fc7@127.0.0.1", ["names no database"]),
        ("postgresql+psycopg://fc7@127.0.0.1:port/photos", ["address is like postgresql+psycopg"]),
        ("mysql://fc7@127.0.0.1/photos", ["no catalogues on mysql"]),
        ("photos", ["address is like postgresql+psycopg://USER@HOST/DATABASE"]),
    ],
)
@pytest.mark.light
def test_an_address_that_leads_nowhere_is_told_in_one_line(
    tmp_path: Path, photos: Path, address: str, words: list[str]
) -> None:
    home = tmp_path / "library"
    ran = fc7("index", photos, "--library", home, "--catalog", address)
    assert ran.returncode == 1
    check_line(ran.stderr, *words)
    assert not home.exists() or not list(home.iterdir())  # the next try begins anew


def test_what_the_server_refuses_is_told_in_one_line(
    postgres: Server, tmp_path: Path, photos: Path
) -> None:
    def index(address: str, **environment: str) -> str:
        home = tmp_path / "library"
        ran = fc7("index", photos, "--library", home, "--catalog", address, **environment)
        assert ran.returncode == 1, ran.stdout
        return ran.stderr

    free = name_of(postgres.new_database())
    check_line(index(postgres.address(free), PGPASSWORD="wrong"), "authentication", "~/.pgpass")
    check_line(index(postgres.address(free, password="wrong")), "authentication", "~/.pgpass")
    absent = postgres.address("absent", password=PASSWORD)
    check_line(index(absent), '"absent" does not exist', "createdb")
    postgres.sql("CREATE TABLE settings (volume INTEGER)", free)
    check_line(index(postgres.address(free, password=PASSWORD)), "a database of its own")
    postgres.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    check_line(index(postgres.address("latin", password=PASSWORD)), "LATIN1", "-E UTF8")
    readonly = name_of(postgres.new_database())
    postgres.sql(f"ALTER DATABASE {readonly} SET default_transaction_read_only = on")
    check_line(index(postgres.address(readonly, password=PASSWORD)), "read-only")


def test_a_role_that_may_only_read_searches_and_is_told_that_it_may_not_write(
    postgres: Server, library: Library, address: str, photos: Path, extractor: Extractor
) -> None:
    library.index([photos])
    database = name_of(address)
    postgres.sql("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    postgres.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", database)
    theirs = f"postgresql+psycopg://guest:guest@127.0.0.1:{postgres.port}/{database}"
    with open_library(library.path, catalog=theirs, extractor=extractor) as guest:
        assert guest.search(1, 3) == library.search(1, 3)
        with pytest.raises(LibraryError, match="permission denied"):
            guest.albums.create("mine", [1])


def test_a_missing_psycopg_is_told_in_one_line(tmp_path: Path, photos: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['psycopg'] = None\n"  # as if it were not installed
        "from ui.cli import main\n"
        f"sys.exit(main(['index', {str(photos)!r}, '--library', {str(tmp_path / 'library')!r},"
        " '--catalog', 'postgresql://fc7@127.0.0.1/photos']))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=HOUSE
    )
    assert ran.returncode == 1
    check_line(ran.stderr, "psycopg", 'pip install "fc7[cluster]"')


# --- one library, one database


def test_an_old_library_stays_where_it_was_made(
    postgres: Server, library: Library, address: str, tmp_path: Path, photos: Path
) -> None:
    library.index([photos])
    other = postgres.new_database()
    with pytest.raises(LibraryError, match=r"has its catalogue in postgresql.*engines\.json"):
        open_library(library.path, catalog=other)
    assert (
        postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname='public'", name_of(other))
        == "0"
    )
    with open_library(tmp_path / "local") as local:
        assert (local.path / "catalog.sqlite").is_file()
    with pytest.raises(LibraryError, match=r"has its catalogue in catalog\.sqlite"):
        open_library(tmp_path / "local", catalog=other)


@pytest.mark.light
def test_no_two_libraries_share_a_database(
    library: Library, address: str, tmp_path: Path, photos: Path
) -> None:
    library.index([photos])
    with pytest.raises(LibraryError, match="a database of its own"):
        open_library(tmp_path / "second", catalog=address)
    assert not (tmp_path / "second" / "engines.json").exists()
    assert library.count() == 8


def test_an_empty_database_in_the_place_of_the_librarys_own_costs_no_segment(
    postgres: Server, library: Library, address: str, photos: Path
) -> None:
    library.index([photos])
    library.close()
    segments = set((library.path / "segments").iterdir())
    postgres.sql(f"ALTER DATABASE {name_of(address)} RENAME TO away")
    postgres.sql(f"CREATE DATABASE {name_of(address)} TEMPLATE template0")
    with pytest.raises(LibraryError, match=r"is empty, but .* restore the database"):
        open_library(library.path)
    assert set((library.path / "segments").iterdir()) == segments
    postgres.sql(f"DROP DATABASE {name_of(address)}")
    postgres.sql(f"ALTER DATABASE away RENAME TO {name_of(address)}")
    with open_library(library.path) as again:
        assert again.count() == 8


def test_a_kill_while_a_library_is_made_leaves_one_that_can_be_made(
    address: str, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import indexer.engines.catalogs as catalogs\n"
        "from indexer import open_library\n"
        "write = catalogs.write_addresses\n"
        "def dying(*arguments):\n"
        "    write(*arguments)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "catalogs.write_addresses = dying\n"
        "open_library(Path(sys.argv[1]), catalog=sys.argv[2])\n"
    )
    home = tmp_path / "library"
    killed = subprocess.run([sys.executable, "-c", code, home, address], check=False, cwd=HOUSE)
    assert killed.returncode == -signal.SIGKILL
    assert read_addresses(home).catalog == address
    with open_library(home) as library:
        assert library.count() == 0
