"""The catalogue: transactions, migrations, odd names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from indexer.catalog import Catalog, FileStat, NewContent, SegmentRow
from indexer.database import Database
from indexer.facets import read_facets
from indexer.filters import Filters
from indexer.label_rows import labelled, labels_of
from indexer.schema import MIGRATIONS, tables
from retrieval.errors import LibraryError

Place = Path | Database

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


@pytest.fixture(scope="session")
def new_place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Place]:
    """Makes room for an empty catalogue. tests/engines says otherwise."""
    return lambda: tmp_path_factory.mktemp("catalog") / "c.sqlite"


@pytest.fixture(scope="session")
def engine_of() -> Callable[[Place], sa.Engine]:
    """SQLAlchemy's own view of a place."""
    return lambda place: sa.create_engine(f"sqlite:///{place}")


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    return new_place()


def add_stars(connection: sa.Connection) -> None:
    connection.execute(sa.text("ALTER TABLE photos ADD COLUMN stars INTEGER"))


def fill(catalog: Catalog, *paths: str) -> None:
    with catalog.write() as writer:
        writer.add_segment(SegmentRow("s", len(paths)))
        for path in paths:
            content = writer.next_content_id()
            labels = (("cat", 0.75), ("dog", 0.25))
            new = NewContent(f"hash {content}", dict(COLUMNS), labels)
            writer.add_contents([content], "s", [new])
            writer.put_photos([(FileStat(path, 10, 20), content)])


def test_what_is_written_is_read_back(place: Place) -> None:
    catalog = Catalog(place)
    fill(catalog, "/p/a.jpg", "/p/b.jpg")
    first, second = catalog.photos(offset=0, limit=9)
    assert (first.path, first.size, first.format) == (Path("/p/a.jpg"), 10, "JPEG")
    assert catalog.photo(second.id) == second
    assert catalog.photo_at("/p/b.jpg") == second
    content = catalog.content_of(first.id)
    assert content is not None
    assert labels_of(catalog, content) == [("cat", 0.75), ("dog", 0.25)]
    assert catalog.known_under("/p")[0].keys() == {"/p/a.jpg", "/p/b.jpg"}
    assert catalog.known_under("/p/a")[0] == {}
    catalog.close()


def test_a_write_that_fails_changes_nothing(place: Place) -> None:
    catalog = Catalog(place)
    fill(catalog, "/p/a.jpg")
    before = catalog.settings(), catalog.photos(offset=0, limit=9)
    with pytest.raises(ZeroDivisionError), catalog.write() as writer:
        writer.remove_photos(["/p/a.jpg"])
        writer.set(stamp="x")
        raise ZeroDivisionError
    assert (catalog.settings(), catalog.photos(offset=0, limit=9)) == before
    catalog.close()


def test_ids_are_never_given_twice(place: Place) -> None:
    catalog = Catalog(place)
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
    new_place: Callable[[], Place], name: bytes
) -> None:
    catalog = Catalog(new_place())
    path = "/p/" + os.fsdecode(name)
    fill(catalog, path)
    assert catalog.photo_at(path) is not None
    assert [str(photo.path) for photo in catalog.photos(offset=0, limit=9)] == [str(Path(path))]
    assert catalog.known_under("/p")[0] == {path: FileStat(path, 10, 20)}
    catalog.close()


def test_migrations_make_the_declared_tables(
    new_place: Callable[[], Place], engine_of: Callable[[Place], sa.Engine]
) -> None:
    migrated, declared = new_place(), new_place()
    Catalog(migrated).close()
    engines = engine_of(declared), engine_of(migrated)
    tables.create_all(engines[0])
    inspected = []
    for engine in engines:
        look = sa.inspect(engine)
        inspected.append(
            {
                name: (
                    [
                        (c["name"], str(c["type"]), c["nullable"])
                        for c in look.get_columns(name)
                        if c["name"] != "checksum"  # which only SQLite has, and keeps by itself
                    ],
                    look.get_pk_constraint(name)["constrained_columns"],
                    sorted(i["name"] or "" for i in look.get_indexes(name)),
                    sorted(f["referred_table"] for f in look.get_foreign_keys(name)),
                    [u["column_names"] for u in look.get_unique_constraints(name)],
                )
                for name in tables.tables
            }
        )
        engine.dispose()
    assert inspected[0] == inspected[1]


@pytest.mark.parametrize("odd", ["yesterday", "2026-1q-02T10:00:00", b"\xff\x00", 7])
def test_a_date_that_is_none_counts_as_unknown(tmp_path: Path, odd: object) -> None:
    catalog = Catalog(tmp_path / "catalog.sqlite")
    fill(catalog, "/p/a.jpg", "/p/b.jpg")
    with catalog.write() as writer:
        statement = sa.text("UPDATE contents SET taken_at = :date WHERE id = :id")
        writer.execute(statement, {"date": odd, "id": 1})
        writer.execute(statement, {"date": "2026-01-02T10:00:00+02:00", "id": 2})
    dates = {photo.path.name: photo.taken_at for photo in catalog.photos(offset=0, limit=9)}
    assert dates == {"a.jpg": None, "b.jpg": "2026-01-02T10:00:00+02:00"}
    catalog.close()


def test_an_older_library_is_migrated_and_keeps_its_rows(
    place: Place, engine_of: Callable[[Place], sa.Engine]
) -> None:
    old = Catalog(place)
    fill(old, "/p/a.jpg")
    old.close()
    new = Catalog(place, (*MIGRATIONS, add_stars))
    assert [photo.path for photo in new.photos(offset=0, limit=9)] == [Path("/p/a.jpg")]
    new.close()
    Catalog(place, (*MIGRATIONS, add_stars)).close()  # and not again
    engine = engine_of(place)
    with engine.connect() as plain:
        assert plain.exec_driver_sql("SELECT stars FROM photos").all() == [(None,)]
    engine.dispose()


def test_a_migration_that_fails_leaves_the_library_as_it_was(place: Place) -> None:
    Catalog(place).close()

    def half(connection: sa.Connection) -> None:
        add_stars(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Catalog(place, (*MIGRATIONS, half))
    again = Catalog(place)
    fill(again, "/p/a.jpg")
    again.close()
    Catalog(place, (*MIGRATIONS, add_stars)).close()  # there was no such column yet


def test_a_newer_library_is_refused(place: Place) -> None:
    Catalog(place, (*MIGRATIONS, add_stars)).close()
    with pytest.raises(LibraryError, match=f"newer fc7 .schema {len(MIGRATIONS) + 1}"):
        Catalog(place)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    other.write_bytes(b"this is no database, but some text" * 100)
    with pytest.raises(LibraryError, match="can't be used as a library"):
        Catalog(other)


def test_what_the_network_sees_likeliest_is_named(place: Place) -> None:
    """Of several labels that are asked for, the one that a photo likeliest has."""
    catalog = Catalog(place)
    shares = {"/p/a": (0.5, 0.3, 0.1), "/p/b": (0.2, 0.7, 0.1), "/p/c": (0.1, 0.2, 0.6)}
    with catalog.write() as writer:
        writer.add_segment(SegmentRow("s", len(shares)))
        for path, row in shares.items():
            content = writer.next_content_id()
            ranked = sorted(zip(row, ("cat", "dog", "owl"), strict=True), reverse=True)
            labels = tuple((label, share) for share, label in ranked)
            writer.add_contents([content], "s", [NewContent(path, dict(COLUMNS), labels)])
            writer.put_photos([(FileStat(path, 1, 1), content)])
    found = labelled(catalog, ["cat", "dog"], 9, Filters())
    named = [(str(photo.path), label, share) for photo, label, share in found]
    assert named == [("/p/b", "dog", 0.7), ("/p/a", "cat", 0.5), ("/p/c", "dog", 0.2)]
    facets = read_facets(catalog)
    best = {
        label: str(photo.path) for label, at in facets.best.items() if (photo := catalog.photo(at))
    }
    assert best == {"cat": "/p/a", "dog": "/p/b", "owl": "/p/c"}
    assert facets.labels == {"cat": 3, "dog": 3, "owl": 3}
    catalog.close()
