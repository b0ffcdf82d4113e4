"""A library whose catalogue is on a real PostgreSQL: what a file doesn't have to go through."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from postgres_server import PASSWORD, Server, running_postgres
from serving import serving

from indexer import Library, open_library
from indexer.catalog import Catalog, FileStat, NewContent
from indexer.engines.addresses import read_addresses
from indexer.engines.postgres import PostgresServer
from retrieval.errors import LibraryError
from retrieval.extractor import Extractor

HOUSE = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def address(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of an empty database; its password is known, as ~/.pgpass would tell it."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return postgres.new_database()


@pytest.fixture
def library(tmp_path: Path, extractor: Extractor, address: str) -> Iterator[Library]:
    with open_library(tmp_path / "library", extractor=extractor, catalog=address) as opened:
        yield opened


@pytest.fixture
def catalog(address: str) -> Iterator[Catalog]:
    opened = Catalog(PostgresServer(address))
    yield opened
    opened.close()


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


def check_line(said: str, *words: str) -> None:
    """One line for people: no traceback, no password."""
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    assert PASSWORD not in said
    for word in words:
        assert word in said


# --- the command


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
            guest.albums.make([1], "mine")


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
    with pytest.raises(LibraryError, match="is empty, but .* restore the database"):
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


# --- transactions


def fill(catalog: Catalog, first: int, many: int) -> None:
    with catalog.write() as writer:
        writer.add_segment(f"s{first}", many)
        start = writer.next_content_id()
        for at in range(many):
            row = NewContent(f"hash {first + at}", dict(COLUMNS), ())
            writer.add_contents([start + at], f"s{first}", [row])
            writer.put_photos([(FileStat(f"/p/{first + at}", 1, 2), start + at)])


COLUMNS = {
    "format": "JPEG",
    "width": 4,
    "height": 3,
    "orientation": 1,
    "norm": 1.0,
    "indexed_at": "2026-01-01T00:00:00+00:00",
}


def test_writers_at_once_follow_one_another_and_readers_see_whole_transactions(
    catalog: Catalog, address: str
) -> None:
    writers, rounds, many = 4, 5, 7
    seen: set[int] = set()
    done = threading.Event()

    def write(own: int) -> None:
        one = Catalog(PostgresServer(address))
        for turn in range(rounds):
            fill(one, (own * rounds + turn) * many, many)
        one.close()

    def read() -> None:
        while not done.is_set():
            seen.add(catalog.count())

    reader = threading.Thread(target=read)
    reader.start()
    threads = [threading.Thread(target=write, args=[own]) for own in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    assert catalog.count() == writers * rounds * many
    assert len(seen) > 1
    assert {count % many for count in seen} == {0}
    contents = [photo.id for photo in catalog.photos(offset=0, limit=None)]
    assert len(set(contents)) == writers * rounds * many


def test_processes_that_make_the_tables_at_once_make_them_once(address: str) -> None:
    code = (
        "import sys\n"
        "from indexer.catalog import Catalog\n"
        "from indexer.engines.postgres import PostgresServer\n"
        "Catalog(PostgresServer(sys.argv[1])).close()\n"
    )
    command = [sys.executable, "-c", code, address]
    started = [subprocess.Popen(command, cwd=HOUSE) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4


def test_a_writer_that_died_keeps_nobody_out_and_leaves_nothing(
    catalog: Catalog, address: str
) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from indexer.catalog import Catalog\n"
        "from indexer.engines.postgres import PostgresServer\n"
        "with Catalog(PostgresServer(sys.argv[1])).write() as writer:\n"
        "    writer.add_folder(Path('/half'))\n"
        "    print('inside', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, address], stdout=subprocess.PIPE, text=True, cwd=HOUSE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    process.kill()
    process.wait()
    process.stdout.close()
    with catalog.write() as writer:  # waits until the server has seen the other's end
        writer.add_folder(Path("/whole"))
    assert catalog.folders() == [Path("/whole")]


def test_text_is_ordered_and_compared_as_sqlite_does_it(catalog: Catalog, tmp_path: Path) -> None:
    names = ["b", "B", "a", "ä", "Z", "_", "ä", "é", "🙂", "z z", "z", "zz", "10", "9", "ｚ"]
    local = Catalog(tmp_path / "c.sqlite")
    for one in (catalog, local):
        with one.write() as writer:
            writer.add_segment("s", 1)
            labels = tuple((name, 0.1) for name in names)
            writer.add_contents([1], "s", [NewContent("h", dict(COLUMNS), labels)])
            for name in names:
                writer.put_photos([(FileStat(f"/p/{name}", 1, 2), 1)])
                writer.add_folder(Path("/f") / name)
    assert catalog.known_labels() == local.known_labels()
    assert catalog.folders() == local.folders()
    paths = [photo.path for photo in catalog.photos(offset=0, limit=None)]
    assert paths == [photo.path for photo in local.photos(offset=0, limit=None)]
    assert catalog.known_under("/p/z")[0] == local.known_under("/p/z")[0] == {}
    local.close()


def test_numbers_as_large_as_files_have_come_back(catalog: Catalog) -> None:
    stat = FileStat("/p/a", 2**40, 2**62)
    with catalog.write() as writer:
        writer.put_skip(stat, "why")
    assert catalog.known_under("/p")[1] == {"/p/a": stat}


# --- the server goes away


def test_a_restarted_server_is_found_again(
    postgres: Server, library: Library, photos: Path
) -> None:
    library.index([photos])
    hits = library.search(1, 4)
    for how in ("fast", "immediate"):
        postgres.stop(how)
        with pytest.raises(LibraryError, match="can't be used"):
            library.photos()
        postgres.start()
        assert library.search(1, 4) == hits
        library.albums.make([1], how)
    assert {album.name for album in library.albums.all()} == {"fast", "immediate"}


INDEX = """
import os, sys, time
from pathlib import Path
import indexer.pipeline
from indexer.segments import SegmentStore
indexer.pipeline.BATCH = 3
store, done = SegmentStore._store, 0
def waiting(*arguments):  # in the middle of the third transaction, for the server to go away
    global done
    result = store(*arguments)
    done += 1
    if done == 3:
        print("inside", flush=True)
        sys.stdin.readline()
    return result
SegmentStore._store = waiting
from ui.cli import main
sys.exit(main(["index", sys.argv[1], "--library", sys.argv[2]]))
"""


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_server_restarted_in_the_middle_of_a_run_costs_one_line_and_the_next_run_goes_on(
    postgres: Server,
    library: Library,
    draw: Callable[..., Path],
    tmp_path: Path,
    how: str,
) -> None:
    for seed in range(12):
        draw(tmp_path / "drawn" / f"{seed:02}.png", seed, (64, 64))
    process = subprocess.Popen(
        [sys.executable, "-c", INDEX, tmp_path / "drawn", library.path],
        cwd=HOUSE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    postgres.stop(how)
    postgres.start()
    _, said = process.communicate("go on\n")
    assert process.returncode == 1
    check_line(said, "can't be used")
    assert library.count() == 6  # two batches were committed
    work = library.work()
    assert work is not None
    assert (work.end, work.error is not None) == ("failed", True)
    report = library.index([tmp_path / "drawn"])
    assert (report.added, report.unchanged) == (6, 6)
    assert library.status().lost_segments == ()
    with open_library(library.path.parent / "local", extractor=library._extractor) as local:
        local.index([tmp_path / "drawn"])
        for photo in library.photos():
            near = [(hit.photo.path, round(hit.distance, 3)) for hit in library.search(photo.id, 5)]
            own = local.photo_at(photo.path).id
            assert near == [(h.photo.path, round(h.distance, 3)) for h in local.search(own, 5)]


def test_what_a_library_answers_is_the_same_on_either(
    library: Library, gallery: Path, tmp_path: Path
) -> None:
    shutil.copytree(gallery, tmp_path / "gallery", ignore=shutil.ignore_patterns("*.md"))
    with open_library(tmp_path / "local", extractor=library._extractor) as local:
        for one in (library, local):
            one.index([tmp_path / "gallery"])
            one.albums.group(indexer_grouping())
        assert facts_of(library) == facts_of(local)
        assert library.facets().labels == local.facets().labels
        assert library.facets().folders == local.facets().folders
        assert [(a.name, a.photos) for a in library.albums.all()] == [
            (a.name, a.photos) for a in local.albums.all()
        ]
        for word in ("cat", "shoe", "daisy"):
            assert labelled(library, word) == labelled(local, word)


def indexer_grouping() -> object:
    from indexer import Grouping

    return Grouping()


def facts_of(library: Library) -> list[tuple[object, ...]]:
    return [
        (photo.path, photo.content_hash, photo.width, photo.height, photo.taken_at, photo.camera,
         photo.latitude, photo.longitude, round(photo.norm, 3))
        for photo in library.photos(limit=10_000)
    ]  # fmt: skip


def labelled(library: Library, word: str) -> list[tuple[Path, str, float]]:
    try:
        found = library.labelled(word, 20)
    except LibraryError:
        return []
    return [(one.photo.path, one.label, round(one.probability, 4)) for one in found]
