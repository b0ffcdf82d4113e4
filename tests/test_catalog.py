"""The catalogue: transactions, migrations, odd names."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from indexer.catalog import Catalog, FileStat, NewContent
from indexer.schema import MIGRATIONS, tables
from retrieval.errors import LibraryError

COLUMNS = {
    "format": "JPEG",
    "width": 4,
    "height": 3,
    "orientation": 1,
    "taken_at": None,
    "camera": None,
    "lens": None,
    "latitude": None,
    "longitude": None,
    "norm": 1.0,
    "indexed_at": "2026-01-01T00:00:00+00:00",
}


def fill(catalog: Catalog, *paths: str) -> None:
    with catalog.write() as writer:
        writer.add_segment("s", len(paths))
        for path in paths:
            content = writer.next_content_id()
            labels = (("cat", 0.75), ("dog", 0.25))
            new = NewContent(f"hash {content}", dict(COLUMNS), labels)
            writer.add_contents([content], "s", [new])
            writer.put_photos([(FileStat(path, 10, 20), content)])


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "c.sqlite")
    fill(catalog, "/p/a.jpg", "/p/b.jpg")
    first, second = catalog.photos(offset=0, limit=9)
    assert (first.path, first.size, first.format) == (Path("/p/a.jpg"), 10, "JPEG")
    assert catalog.photo(second.id) == second
    assert catalog.photo_at("/p/b.jpg") == second
    content = catalog.content_of(first.id)
    assert content is not None
    assert catalog.labels(content) == [("cat", 0.75), ("dog", 0.25)]
    assert catalog.known_under("/p")[0].keys() == {"/p/a.jpg", "/p/b.jpg"}
    assert catalog.known_under("/p/a")[0] == {}
    catalog.close()


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "c.sqlite")
    fill(catalog, "/p/a.jpg")
    before = catalog.settings(), catalog.photos(offset=0, limit=9)
    with pytest.raises(ZeroDivisionError), catalog.write() as writer:
        writer.remove_photos(["/p/a.jpg"])
        writer.set(stamp="x")
        raise ZeroDivisionError
    assert (catalog.settings(), catalog.photos(offset=0, limit=9)) == before
    catalog.close()


def test_ids_are_never_given_twice(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "c.sqlite")
    fill(catalog, "/p/a.jpg")
    gone = catalog.photos(offset=0, limit=1)[0].id
    with catalog.write() as writer:
        (content,) = writer.contents_at(["/p/a.jpg", "/p/b.jpg"]).values()
        writer.remove_photos(["/p/a.jpg"])
        writer.replace_segments(["s"], None, [content])
        assert writer.next_content_id() > content
    fill(catalog, "/p/b.jpg")
    assert catalog.photos(offset=0, limit=1)[0].id > gone
    catalog.close()


@given(name=st.binary(min_size=1, max_size=40).filter(lambda raw: b"/" not in raw and 0 not in raw))
def test_any_file_name_that_the_system_allows_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, name: bytes
) -> None:
    catalog = Catalog(tmp_path_factory.mktemp("names") / "c.sqlite")
    path = "/p/" + os.fsdecode(name)
    fill(catalog, path)
    assert [str(photo.path) for photo in catalog.photos(offset=0, limit=9)] == [str(Path(path))]
    assert catalog.known_under("/p")[0] == {path: FileStat(path, 10, 20)}
    catalog.close()


def test_migrations_make_the_declared_tables(tmp_path: Path) -> None:
    Catalog(tmp_path / "migrated.sqlite").close()
    declared = sa.create_engine(f"sqlite:///{tmp_path / 'declared.sqlite'}")
    tables.create_all(declared)
    inspected = []
    for engine in (declared, sa.create_engine(f"sqlite:///{tmp_path / 'migrated.sqlite'}")):
        look = sa.inspect(engine)
        inspected.append(
            {
                name: (
                    [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(name)],
                    look.get_pk_constraint(name)["constrained_columns"],
                    sorted(i["name"] or "" for i in look.get_indexes(name)),
                    sorted(f["referred_table"] for f in look.get_foreign_keys(name)),
                    [u["column_names"] for u in look.get_unique_constraints(name)],
                )
                for name in look.get_table_names()
            }
        )
        engine.dispose()
    assert inspected[0] == inspected[1]


def test_an_older_library_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "c.sqlite"
    old = Catalog(file)
    fill(old, "/p/a.jpg")
    old.close()

    def add_a_column(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE photos ADD COLUMN stars INTEGER"))

    new = Catalog(file, (*MIGRATIONS, add_a_column))
    assert [photo.path for photo in new.photos(offset=0, limit=9)] == [Path("/p/a.jpg")]
    new.close()
    with sqlite3.connect(file) as plain:
        assert plain.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert plain.execute("SELECT stars FROM photos").fetchall() == [(None,)]
    plain.close()


def test_a_migration_that_fails_leaves_the_library_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "c.sqlite"
    Catalog(file).close()

    def half(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE photos ADD COLUMN stars INTEGER"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Catalog(file, (*MIGRATIONS, half))
    again = Catalog(file)
    fill(again, "/p/a.jpg")
    again.close()
    with sqlite3.connect(file) as plain:
        columns = {row[1] for row in plain.execute("PRAGMA table_info(photos)")}
    plain.close()
    assert "stars" not in columns


def test_a_newer_library_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as plain:
        plain.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    plain.close()
    with pytest.raises(LibraryError, match="newer fc7"):
        Catalog(newer)
    other = tmp_path / "other.sqlite"
    other.write_bytes(b"this is no database, but some text" * 100)
    with pytest.raises(LibraryError, match="can't be used as a library"):
        Catalog(other)
