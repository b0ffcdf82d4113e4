"""Transactions of several writers on a real PostgreSQL, and a server that goes away meanwhile."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from postgres_server import *  # noqa: F403
from postgres_server import HOUSE, Server, check_line

from indexer import Grouping, Library, open_library
from indexer.catalog import Catalog, FileStat, NewContent, SegmentRow
from indexer.conditions import known_labels
from indexer.engines.postgres import PostgresServer
from indexer.label_rows import labels_of_photos
from retrieval.errors import LibraryError
from retrieval.extractor import Extractor

COLUMNS = {
    "format": "JPEG",
    "width": 4,
    "height": 3,
    "orientation": 1,
    "norm": 1.0,
    "indexed_at": "2026-01-01T00:00:00+00:00",
}


def fill(catalog: Catalog, first: int, many: int) -> None:
    with catalog.write() as writer:
        writer.add_segment(SegmentRow(f"s{first}", many))
        start = writer.next_content_id()
        for at in range(many):
            row = NewContent(f"hash {first + at}", dict(COLUMNS), ())
            writer.add_contents([start + at], f"s{first}", [row])
            writer.put_photos([(FileStat(f"/p/{first + at}", 1, 2), start + at)])


@pytest.mark.light
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


def test_those_that_make_the_tables_at_once_make_them_once(postgres: Server) -> None:
    for _ in range(10):
        address, together = postgres.new_database(), threading.Barrier(6)

        def make(place: PostgresServer, together: threading.Barrier) -> None:
            together.wait()
            Catalog(place).close()

        with ThreadPoolExecutor(together.parties) as pool:
            places = [PostgresServer(address) for _ in range(together.parties)]
            made = [pool.submit(make, place, together) for place in places]
        assert [one.exception() for one in made] == [None] * together.parties


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


@pytest.mark.light
def test_text_is_ordered_and_compared_as_sqlite_does_it(catalog: Catalog, tmp_path: Path) -> None:
    names = ["b", "B", "a", "ä", "Z", "_", "ä", "é", "🙂", "z z", "z", "zz", "10", "9", "ｚ"]
    local = Catalog(tmp_path / "c.sqlite")
    for one in (catalog, local):
        with one.write() as writer:
            writer.add_segment(SegmentRow("s", 1))
            labels = tuple((name, 0.1) for name in names)
            writer.add_contents([1], "s", [NewContent("h", dict(COLUMNS), labels)])
            for name in names:
                writer.put_photos([(FileStat(f"/p/{name}", 1, 2), 1)])
                writer.add_folder(Path("/f") / name)
    assert known_labels(catalog) == known_labels(local)
    assert catalog.folders() == local.folders()
    paths = [photo.path for photo in catalog.photos(offset=0, limit=None)]
    assert paths == [photo.path for photo in local.photos(offset=0, limit=None)]
    assert catalog.known_under("/p/z")[0] == local.known_under("/p/z")[0] == {}
    local.close()


def test_more_is_asked_about_at_once_than_a_statement_takes(catalog: Catalog) -> None:
    many = 70_000  # PostgreSQL takes 65,535 values
    with catalog.write() as writer:
        writer.add_segment(SegmentRow("s", many))
        rows = [NewContent(f"hash {one}", dict(COLUMNS), (("cat", 0.5),)) for one in range(many)]
        writer.add_contents(range(1, many + 1), "s", rows)
        stats = [FileStat(f"/p/{one}", 10, 20) for one in range(many)]
        writer.put_photos(list(zip(stats, range(1, many + 1), strict=True)))
    photos = catalog.photos_of(range(1, many + 1))
    assert {one: [str(photo.path) for photo in found] for one, found in photos.items()} == {
        one: [f"/p/{one - 1}"] for one in range(1, many + 1)
    }
    ids = [photo.id for found in photos.values() for photo in found]
    assert labels_of_photos(catalog, ids) == {one: [("cat", 0.5)] for one in ids}
    with catalog.write() as writer:
        writer.remove_photos(stat.path for stat in stats)
        writer.replace_segments(["s"], None, range(1, many + 1))
    assert catalog.count() == 0
    assert catalog.hidden_contents() == []


def test_numbers_as_large_as_files_have_come_back(catalog: Catalog) -> None:
    stat = FileStat("/p/a", 2**40, 2**62)
    with catalog.write() as writer:
        writer.put_skip(stat, "why")
    assert catalog.known_under("/p")[1] == {"/p/a": stat}


# --- the server goes away


@pytest.mark.light
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
        library.albums.create(how, [1])
    assert {album.name for album in library.albums.all()} == {"fast", "immediate"}


INDEX = """
import os, sys, time
from pathlib import Path
import indexer.pipeline
from indexer.catalog import Writer
indexer.pipeline.BATCH = 3
add, done = Writer.add_contents, 0
def waiting(*arguments):  # in the middle of the third transaction, for the server to go away
    global done
    result = add(*arguments)
    done += 1
    if done == 3:
        print("inside", flush=True)
        sys.stdin.readline()
    return result
Writer.add_contents = waiting
from ui.cli import main
sys.exit(main(["index", sys.argv[1], "--library", sys.argv[2]]))
"""


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_server_restarted_in_the_middle_of_a_run_costs_one_line_and_the_next_run_goes_on(
    postgres: Server,
    library: Library,
    draw: Callable[..., Path],
    tmp_path: Path,
    extractor: Extractor,
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
    with open_library(library.path.parent / "local", extractor=extractor) as local:
        local.index([tmp_path / "drawn"])
        for photo in library.photos():
            near = [(hit.photo.path, round(hit.distance, 3)) for hit in library.search(photo.id, 5)]
            own = local.photo_at(photo.path).id
            assert near == [(h.photo.path, round(h.distance, 3)) for h in local.search(own, 5)]


def test_what_a_library_answers_is_the_same_on_either(
    library: Library, gallery: Path, tmp_path: Path, extractor: Extractor
) -> None:
    shutil.copytree(gallery, tmp_path / "gallery", ignore=shutil.ignore_patterns("*.md"))
    with open_library(tmp_path / "local", extractor=extractor) as local:
        for one in (library, local):
            one.index([tmp_path / "gallery"])
            one.albums.group(Grouping())
        assert facts_of(library) == facts_of(local)
        assert library.facets().labels == local.facets().labels
        assert library.facets().folders == local.facets().folders
        assert [(a.name, a.photos) for a in library.albums.all()] == [
            (a.name, a.photos) for a in local.albums.all()
        ]
        for word in ("cat", "shoe", "daisy"):
            assert labelled(library, word) == labelled(local, word)


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
