"""Many at once: short forms of `make torture PARTS=together`, and what it has shown."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from torture.changing import change_and_read, damage_of
from torture.editing import edit, lost_edits
from torture.held import readers_of, stopped_run, troubles_of
from torture.states import Truth
from torture.together import make_library, read_beside_a_writer, some_photos

from indexer import Library, open_library
from indexer.catalog import FileStat, NewContent, SegmentRow
from indexer.engines.catalogs import open_catalog
from indexer.segments import SegmentStore
from indexer.storing import Described, Read, Store
from indexer.thumbnails import ThumbnailStore
from retrieval.extractor import Extractor


@pytest.fixture(scope="module")
def pool() -> list[Path]:
    return some_photos(20)


def test_answers_are_right_while_runs_commit_merge_and_recode(
    tmp_path: Path, pool: list[Path], extractor: Extractor
) -> None:
    told = change_and_read(tmp_path, pool, Truth(pool, extractor), rounds=2, askers=1)
    assert told.errors == ()
    assert told.wrong == 0
    assert told.asked > 20
    assert told.states > 5


def test_readers_get_through_while_a_writer_holds_the_library(
    tmp_path: Path, pool: list[Path]
) -> None:
    tried, errors = read_beside_a_writer(tmp_path, pool[:10])
    assert errors == []
    assert tried > 10


def test_readers_get_through_while_a_run_is_stopped_in_its_commit(
    tmp_path: Path, pool: list[Path]
) -> None:
    with make_library(tmp_path, pool[:6]) as library:
        readers = readers_of(library, pool[-1].read_bytes())
        (tmp_path / "photos" / "new.jpg").write_bytes(pool[10].read_bytes())
        with stopped_run(library.path, tmp_path / "photos", 1) as stopped:
            assert stopped
            assert library.count() == 6
            assert troubles_of(readers) == []
        assert library.count() == 7


def test_two_edit_albums_at_once_and_nothing_is_lost(tmp_path: Path, pool: list[Path]) -> None:
    with make_library(tmp_path, pool) as library:
        photos = [photo.id for photo in library.photos()]
        shared, named = library.albums.create("both", []), library.albums.create("named", [])
        with ThreadPoolExecutor(2) as threads:
            jobs = [
                threads.submit(edit, library.path, photos[one::2], shared.id, named.id, 15, one)
                for one in range(2)
            ]
            done = [job.result() for job in jobs]
        assert [error for one in done for error in one.errors] == []
        assert lost_edits(library, shared.id, named.id, done) == []
        assert damage_of(library.path) == []


# --- what it has shown


def test_an_answer_is_of_one_moment(library: Library, photos: Path, extractor: Extractor) -> None:
    library.index([photos])
    asked = library.photo_at(photos / "shoes" / "shoe-01.jpg").id
    before = library.search(asked, 3)
    with open_library(library.path, extractor=extractor) as reader:
        opened = reader._vectors.open

        def open_late(view: object) -> object:
            """A run commits after the files are opened and before the photos are looked up."""
            ranking = opened(view)  # type: ignore[arg-type]
            before[0].photo.path.unlink()
            library.index()
            reader._vectors.open = opened  # type: ignore[method-assign]
            return ranking

        reader._vectors.open = open_late  # type: ignore[method-assign, assignment]
        assert reader.search(asked, 3) == before
        after = [hit.photo for hit in reader.search(asked, 3)]
    assert after[:2] == [hit.photo for hit in before[1:]]
    assert len(after) == 3


def test_files_that_a_run_replaces_are_read_to_the_end(
    library: Library, photos: Path, extractor: Extractor
) -> None:
    library.index([photos])
    with closing(open_catalog(library.path)) as catalog:
        store = SegmentStore(library.path / "segments")
        blocks = store.blocks(catalog)
        for file in (photos / "shoes", photos / "bananas"):
            for photo in file.iterdir():
                photo.unlink()
        library.index([photos])  # which writes the hollow file anew, without them
        (name,) = (segment.name for segment in catalog.segments())
        assert sum(len(ids) for ids, _ in blocks) == 8
        assert sum(len(ids) for ids, _ in store.blocks(catalog)) == 4
        assert [file.name for file in (library.path / "segments").glob("*.faiss")] == [name]


def test_those_who_wait_to_write_keep_nobody_from_reading(library: Library, photos: Path) -> None:
    library.index([photos])
    album = library.albums.create("all", [photo.id for photo in library.photos()]).id
    with ThreadPoolExecutor(20) as threads:
        with library._catalog.write(contents=False):
            waiting = [threads.submit(library.albums.rename, album, str(at)) for at in range(20)]
            assert len(library.search(library.photos()[0].id, 3)) == 3
            assert library.status().photos == 8
        assert {job.result().name for job in waiting} == {str(at) for at in range(20)}


class Waiting(SegmentStore):
    """One whose disk takes as long as `go` is not set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.begun, self.go = Event(), Event()

    def write(self, *rows: object) -> SegmentRow:
        self.begun.set()
        self.go.wait()
        return super().write(*rows)  # type: ignore[arg-type]


def test_an_album_is_edited_while_a_run_writes_its_files(library: Library, photos: Path) -> None:
    library.index([photos])
    album = library.albums.create("all", [photo.id for photo in library.photos()]).id
    store = Waiting(library.path / "segments")
    with closing(open_catalog(library.path)) as catalog, ThreadPoolExecutor(1) as threads:
        thumbnails = ThumbnailStore(library.path / "thumbnails.sqlite")
        job = threads.submit(Store(catalog, store, thumbnails).commit, *batch(photos / "x.jpg"))
        store.begun.wait()
        assert library.albums.rename(album, "renamed meanwhile").name == "renamed meanwhile"
        assert not job.done()
        store.go.set()
        job.result()
    assert library.count() == 9


def batch(path: Path) -> tuple[list[tuple[FileStat, Read]], Described]:
    """One file, with a descriptor that no network made."""
    hash_ = hashlib.sha256(b"x").hexdigest()
    stat = FileStat(str(path), 1, 1)
    columns = {"format": "JPEG", "width": 4, "height": 3, "orientation": 1, "norm": 1.0}
    row = np.eye(1, 4096, dtype=np.float32)
    return [(stat, Read(stat, hash_, None))], Described(
        [NewContent(hash_, columns, ())], row, [b""]
    )
