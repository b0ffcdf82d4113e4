"""A library is compared with its checksums, and mended from its photos."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from torture.flips import blank, cut, find, flip, make_library, mend

from indexer import Grouping, Library, open_library
from indexer.checking import check
from indexer.engines.catalogs import open_catalog
from indexer.repairing import RepairReport, repair
from indexer.work import working
from retrieval.errors import LibraryBusyError, LibraryError
from retrieval.layout import read_codes
from ui.cli import main


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of 12 photos with albums and a map; its photos are beside it."""
    library = make_library(tmp_path_factory.mktemp("made") / "own")
    shutil.copytree(library.parent, library.parent.with_name("copy"))
    return library


@pytest.fixture
def intact(made: Path) -> Path:
    """The same, to be damaged."""
    shutil.rmtree(made.parent)
    shutil.copytree(made.parent.with_name("copy"), made.parent)
    return made


def segment_of(library: Path) -> Path:
    return max((library / "segments").glob("*.faiss"), key=lambda file: file.stat().st_size)


def flip_in(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def change(library: Path, statement: str) -> None:
    """Change rows as no fc7 does it: their checksums don't follow."""
    with closing(sqlite3.connect(library / "catalog.sqlite")) as connection, connection:
        connection.create_function("crc32", 1, lambda *_: 0, deterministic=True)
        connection.create_function("real_bytes", 1, lambda _: b"", deterministic=True)
        assert connection.execute(statement).rowcount


def lines(library: Path) -> list[str]:
    return [problem.line for problem in check(library).problems]


def answers(library: Path) -> dict[int, list[tuple[int, float]]]:
    with open_library(library) as opened:
        return {
            photo.id: [(hit.photo.id, round(hit.distance, 3)) for hit in opened.search(photo.id, 5)]
            for photo in opened.photos()
        }


def albums(library: Path) -> list[tuple[str, int]]:
    with open_library(library) as opened:
        return [(album.title, album.photos) for album in opened.albums.all()]


def check_mended(library: Path, report: RepairReport) -> None:
    assert report.before.problems
    assert report.after.problems == ()
    with open_library(library) as opened:
        assert opened.index().skipped  # broken.jpg still
    assert lines(library) == []


@pytest.mark.parametrize(
    ("what", "damage", "tries"), [("bits", flip, 40), ("sectors", blank, 12), ("cuts", cut, 8)]
)
def test_what_a_check_does_not_find_is_nothing(
    made: Path, what: str, damage: object, tries: int
) -> None:
    row = find(made, what, damage, tries)  # type: ignore[arg-type]
    assert row.lost == 0
    assert not row.note.startswith("0 found")


def test_a_flipped_bit_is_mended_or_told(made: Path) -> None:
    assert mend(made, 4).lost == 0


def test_a_damaged_segment_is_described_anew_under_the_same_ids(intact: Path) -> None:
    before, groups = answers(intact), albums(intact)
    flip_in(segment_of(intact), 5000)
    assert lines(intact) == [f"segments/{segment_of(intact).name} changed by itself"]
    report = repair(intact)
    assert report.notes == ("photos described again: 12",)
    check_mended(intact, report)
    assert answers(intact) == before
    assert albums(intact) == groups


def test_descriptors_of_photos_that_are_not_there_are_kept_as_they_can_be_read(
    intact: Path,
) -> None:
    before = answers(intact)
    flip_in(segment_of(intact), 5000)
    (intact.parent / "photos").rename(intact.parent / "unplugged")
    report = repair(intact)
    assert report.after.problems == ()
    assert report.notes[-1].startswith("descriptors kept as they were read")
    assert report.notes[-1].endswith(": 12")
    assert answers(intact).keys() == before.keys()


def test_photos_that_are_lost_with_their_descriptors_leave_and_come_back(intact: Path) -> None:
    segment_of(intact).unlink()
    assert lines(intact)[0].endswith("is missing")
    folder = intact.parent / "photos"
    folder.rename(intact.parent / "unplugged")
    report = repair(intact)
    assert report.after.problems == ()
    assert report.notes[-1].startswith("photos that left the library")
    (intact.parent / "unplugged").rename(folder)
    with open_library(intact) as library:
        assert library.index([folder]).added == 12


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE contents SET norm = norm + 1 WHERE id = 3",
        "UPDATE contents SET hash = 'ff' || substr(hash, 3) WHERE id = 3",
        "UPDATE labels SET probability = 1 WHERE content = 3 AND rank = 2",
        "UPDATE photos SET content = 4 WHERE id = 3",
        "UPDATE segments SET sha256 = 'f' || substr(sha256, 2)",
        "UPDATE segments SET rows = rows + 1",
        "UPDATE skipped SET reason = 'none'",
        "UPDATE places SET x = 0",
    ],
)
def test_a_changed_row_is_found_and_made_again(intact: Path, statement: str) -> None:
    before = answers(intact)
    change(intact, statement)
    table = statement.split()[1]
    assert any(f"of {table} changed by itself" in line for line in lines(intact))
    check_mended(intact, repair(intact))
    assert answers(intact) == before


def test_what_only_a_person_knows_is_kept_and_told(intact: Path) -> None:
    change(intact, "UPDATE albums SET title = 'Holidbys' WHERE id = 1")
    report = repair(intact)
    assert report.after.problems == ()
    assert report.notes == ("rows of albums kept as they are now (look at them): 1",)
    assert "Holidbys" in [title for title, _ in albums(intact)]


def test_a_changed_setting_needs_a_backup(intact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(intact, "UPDATE settings SET value = 'vgg16' WHERE key = 'network'")
    assert main(["check", "--repair", "--library", str(intact)]) == 1
    said = capsys.readouterr().out
    assert "a row of settings changed by itself" in said
    assert "fc7 restore" in said


def test_codes_coder_and_thumbnails_are_made_again(intact: Path) -> None:
    codes, coder = next((intact / "segments").glob("*.codes")), next((intact / "coders").iterdir())
    before = read_codes(codes)
    flip_in(codes, 60)
    flip_in(coder, -5)
    with closing(sqlite3.connect(intact / "thumbnails.sqlite")) as connection, connection:
        connection.execute("DELETE FROM thumbnails WHERE rowid = 1")
        connection.execute("UPDATE thumbnails SET jpeg = substr(jpeg, 2) WHERE rowid = 2")
    assert len(lines(intact)) == 2  # codes aren't looked at without a coder
    check_mended(intact, repair(intact))
    assert np.array_equal(read_codes(next((intact / "segments").glob("*.codes"))), before)
    (intact / "thumbnails.sqlite").write_bytes(b"SQLite format 3\0" + bytes(5000))
    check_mended(intact, repair(intact))


def test_a_damaged_log_of_a_killed_process_is_told_while_it_is_there(intact: Path) -> None:
    kept = intact.with_name("kept")
    with open_library(intact) as library:
        album = library.albums.all()[0].id
        for name in ("one", "two", "three"):
            library.albums.rename(album, name)
        shutil.copytree(intact, kept)
    log = kept / "catalog.sqlite-wal"
    flip_in(log, 200)
    assert [problem.kind for problem in repair(kept).after.problems] == ["log"]
    assert lines(kept) == []


def test_a_schema_that_is_not_ours_is_refused(intact: Path) -> None:
    with closing(sqlite3.connect(intact / "catalog.sqlite")) as connection, connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON photos BEGIN SELECT 1; END")
    with pytest.raises(LibraryError, match="trigger t is not as fc7 makes it"):
        open_library(intact)
    assert "trigger t" in lines(intact)[0]


def test_files_of_an_older_fc7_get_checksums_when_they_are_indexed(
    library: Library, photos: Path
) -> None:
    library.index([photos])
    with closing(open_catalog(library.path)) as catalog:
        known = catalog.segments()
        change(library.path, "UPDATE segments SET sha256 = NULL, codes_sha256 = NULL")
        library.index([photos])
        assert catalog.segments() == known


def test_every_way_to_write_keeps_the_checksums(library: Library, photos: Path) -> None:
    library.index([photos])
    library.albums.group(Grouping(number=3))
    album = library.albums.all()[0]
    library.albums.rename(album.id, "Flowers 'n' \N{SUNFLOWER}")
    library.map.update()
    next(photos.rglob("*.jpg")).rename(photos / "moved.jpg")
    sorted(photos.rglob("*.jpg"))[-1].unlink()
    library.index([photos])
    assert lines(library.path) == []


@pytest.fixture
def at_work(intact: Path) -> Iterator[Path]:
    with working(intact, "index"):
        yield intact


def test_a_library_is_not_checked_while_a_run_is_at_work(at_work: Path) -> None:
    with pytest.raises(LibraryBusyError):
        check(at_work)


def test_no_library_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--library", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"fc7: no library in {tmp_path}: fc7 index FOLDER makes one\n"
