"""A library that an older fc7 made is brought up to date, and answers as one made today."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from torture.answering import Answers, answers

from indexer import Library, open_library
from indexer.schema import MIGRATIONS
from retrieval.errors import LibraryError
from retrieval.extractor import Extractor

HOUSE = Path(__file__).parent.parent
FILES = HOUSE / "tests" / "files"
THEIRS = Path("/srv/photos")  # where the photos of the old libraries were
SCHEMAS = [
    file.name.removeprefix("library-schema-").split(".")[0]
    for file in sorted(FILES.glob("library-schema-*"))
]


def unpacked(schema: str, folder: Path) -> Path:
    with tarfile.open(FILES / f"library-schema-{schema}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "library"


def schema_of(library: Path) -> int:
    with closing(sqlite3.connect(library / "catalog.sqlite")) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, gallery: Path) -> Path:
    """The photos of tests/files/make_library.sh, as they were when it had ended."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "towers").mkdir()
    (folder / "fruit").mkdir()
    for name in ("tower-02", "tower-04", "tower-05"):
        shutil.copy(gallery / "towers" / f"{name}.jpg", folder / "towers")
    for place in ("lemons/lemon-01", "lemons/lemon-02", "bananas/banana-07"):
        shutil.copy(gallery / f"{place}.jpg", folder / "fruit")
    again = folder / "fruit" / os.fsdecode(b"the same, \xff")
    shutil.copy(folder / "fruit" / "lemon-01.jpg", again)
    return folder


@pytest.fixture(scope="module")
def fresh(
    photos: Path, extractor: Extractor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    """A library that today's code made of the same photos."""
    path = tmp_path_factory.mktemp("fresh") / "library"
    with open_library(path, extractor=extractor) as library:
        library.index([photos])
        yield library


def assert_alike(found: Answers, wanted: Answers) -> None:
    assert found.keys() == wanted.keys()
    for path, hits in wanted.items():
        assert [p for p, _ in found[path]] == [p for p, _ in hits]
        distances = [d for _, d in found[path]]
        assert distances == pytest.approx([d for _, d in hits], abs=2e-3)


def test_a_library_of_each_older_schema_is_kept() -> None:
    assert set(SCHEMAS) >= {str(number) for number in range(1, len(MIGRATIONS))}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_old_library_answers_as_one_made_today_without_its_photos(
    schema: str, tmp_path: Path, fresh: Library, photos: Path, extractor: Extractor
) -> None:
    path = unpacked(schema, tmp_path)
    assert str(schema_of(path)) == schema[:1]
    with open_library(path, extractor=extractor) as old:
        assert_alike(answers(old, THEIRS, "exact"), answers(fresh, photos, "exact"))
        known = {photo.path.relative_to(photos): photo for photo in fresh.photos()}
        for photo in old.photos():
            twin = known[photo.path.relative_to(THEIRS)]
            assert (photo.content_hash, photo.size, photo.width, photo.taken_at) == (
                twin.content_hash,
                twin.size,
                twin.width,
                twin.taken_at,
            )
            assert [one.label for one in old.labels(photo.id)] == [
                one.label for one in fresh.labels(twin.id)
            ]
            assert old.thumbnail(photo.id) is not None
        assert [skip.path for skip in old.status().skipped] == [THEIRS / "notes.txt"]
    assert schema_of(path) == len(MIGRATIONS)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_old_library_goes_on_with_new_photos_and_the_codes_it_had(
    schema: str,
    tmp_path: Path,
    fresh: Library,
    photos: Path,
    gallery: Path,
    extractor: Extractor,
) -> None:
    path = unpacked(schema, tmp_path)
    (stored,) = [file.read_bytes() for file in (path / "segments").glob("*.codes")]
    more = tmp_path / "more"
    more.mkdir()
    shutil.copy(gallery / "lemons" / "lemon-03.jpg", more)
    with open_library(path, extractor=extractor) as old:
        report = old.index()
        assert report.missing_folders == (THEIRS,)  # so its photos are kept
        (made,) = [file.read_bytes() for file in (path / "segments").glob("*.codes")]
        assert made == stored
        assert_alike(answers(old, THEIRS, "codes"), answers(fresh, photos, "exact"))
        assert old.index([more]).added == 1
        first = old.search(more / "lemon-03.jpg", 3)
        assert {hit.photo.path.parent.name for hit in first} == {"fruit"}
        assert old.count() == 8


@pytest.mark.parametrize("schema", [one for one in SCHEMAS if one >= "2"])
def test_albums_their_names_and_the_map_are_kept(
    schema: str, tmp_path: Path, extractor: Extractor
) -> None:
    path = unpacked(schema, tmp_path)
    with open_library(path, extractor=extractor) as old:
        albums = {album.name: album for album in old.albums.all(hidden=True)}
        assert set(albums) == {"Towers <b>'\"", "Lemons"}
        assert [albums[name].hidden for name in ("Towers <b>'\"", "Lemons")] == [False, True]
        held = {
            name: {photo.path.name for photo in old.albums.photos(album.id)}
            for name, album in albums.items()
        }
        assert held["Towers <b>'\""] == {"tower-02.jpg", "tower-04.jpg", "tower-05.jpg"}
        assert held["Lemons"] == {"lemon-01.jpg", "lemon-02.jpg"}
        assert len(old.map.points()) == 7


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_library_that_was_brought_up_to_date_is_left_alone(schema: str, tmp_path: Path) -> None:
    path = unpacked(schema, tmp_path)
    open_library(path).close()
    first = digests(path)
    with open_library(path) as library:
        assert library.count() == 7
    assert digests(path) == first


@pytest.mark.parametrize("schema", [one for one in SCHEMAS if one >= "3"])
def test_a_row_that_had_changed_by_itself_is_found_after_the_schema_changed(
    schema: str, tmp_path: Path
) -> None:
    path = unpacked(schema, tmp_path)
    assert "row" not in check(unpacked(schema, tmp_path / "sound"))
    with closing(sqlite3.connect(path / "catalog.sqlite", isolation_level=None)) as connection:
        query = "SELECT name, sql FROM sqlite_schema WHERE name = 'contents_updated'"
        name, trigger = connection.execute(query).fetchone()
        connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE contents SET norm = norm * 2 WHERE id = 3")
        connection.execute(trigger)
    assert "a row of contents changed by itself" in check(path)


def check(library: Path) -> str:
    """What `fc7 check` prints; there is no coder in it, see tests/files."""
    command = [sys.executable, "-m", "ui.cli", "check", "--library", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HOUSE)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{library}/coders/" in done.stdout
    return done.stdout.replace(str(library), "")


def test_a_strange_trigger_is_refused_whatever_the_schema(tmp_path: Path) -> None:
    for schema in SCHEMAS:
        path = unpacked(schema, tmp_path / schema)
        with closing(sqlite3.connect(path / "catalog.sqlite", isolation_level=None)) as connection:
            connection.execute(
                "CREATE TRIGGER strange AFTER INSERT ON settings BEGIN DELETE FROM photos; END"
            )
        before = digests(path)
        with pytest.raises(LibraryError, match="is damaged, or was changed by another program"):
            open_library(path)
        assert digests(path).items() >= before.items()


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_newer_library_is_refused_by_all_and_left_as_it_is(tmp_path: Path) -> None:
    path = unpacked("1", tmp_path)
    with closing(sqlite3.connect(path / "catalog.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = digests(path)
    with pytest.raises(LibraryError, match="made by a newer fc7"):
        open_library(path)
    commands = (["ui", "--no-browser"], ["backup", str(tmp_path / "file")], ["check", "--repair"])
    for command in commands:
        found = subprocess.run(
            [sys.executable, "-m", "ui.cli", *command, "--library", str(path)],
            capture_output=True,
            text=True,
            check=False,
            cwd=HOUSE,
        )
        assert found.returncode == 1
        assert found.stdout == ""
        assert found.stderr == (
            f"fc7: {path} was made by a newer fc7 (schema {len(MIGRATIONS) + 1}, this one knows "
            f"{len(MIGRATIONS)}): update fc7\n"
        )
    after = digests(path)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() <= {"index.lock", "run.json"}
