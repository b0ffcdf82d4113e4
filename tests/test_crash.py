"""A run that is killed loses at most the batch in flight; one that is interrupted ends."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from indexer import Library, open_library
from indexer.engines.catalogs import open_catalog
from indexer.segments import SegmentStore
from retrieval.extractor import Extractor

# A real run in a process of its own, in batches of 3; it kills itself at the n-th time that it
# reaches a commit point, before or after. A class for each point keeps the product free of hooks.
RUN = """
import os, signal, sys
from pathlib import Path
import indexer.library, indexer.pipeline, indexer.segments
from indexer import open_library
from indexer.catalog import Catalog
from indexer.segments import SegmentStore
from indexer.thumbnails import ThumbnailStore

library, folder, point, when = sys.argv[1:]
indexer.pipeline.BATCH = 3
left = int(when)

def dying(method):
    def call(*args, **kwargs):
        global left
        result = method(*args, **kwargs)
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

if point == "segment":      # the file is in place, no row names it yet
    SegmentStore._store = dying(SegmentStore._store)
elif point == "codes":      # the segment is in place, its codes may not be
    SegmentStore._place = dying(SegmentStore._place)
elif point == "commit":     # rows are committed, what comes next is not done
    import sqlalchemy
    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", dying(lambda connection: None))
elif point == "thumbnail":  # in the middle of the catalogue's transaction
    ThumbnailStore.put = dying(ThumbnailStore.put)
elif point == "merge":      # merged in the catalogue, the old files still there
    indexer.segments.merge_segments = dying(indexer.segments.merge_segments)
with open_library(Path(library)) as opened:
    opened.index([Path(folder)])
"""


def run(library: Path, folder: Path, point: str, when: int) -> int:
    command = [sys.executable, "-c", RUN, str(library), str(folder), point, str(when)]
    return subprocess.run(command, check=False).returncode


def answers(library: Library) -> dict[Path, list[tuple[Path, float]]]:
    return {
        photo.path: [(h.photo.path, round(h.distance, 3)) for h in library.search(photo.id, 4)]
        for photo in library.photos()
    }


@pytest.fixture(scope="module")
def drawn(draw: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    for seed in range(30):
        draw(folder / f"{seed:02}.png", seed, (64, 64))
    return folder


@pytest.fixture(scope="module")
def unbroken(
    drawn: Path, extractor: Extractor, tmp_path_factory: pytest.TempPathFactory
) -> dict[Path, list[tuple[Path, float]]]:
    with open_library(tmp_path_factory.mktemp("unbroken"), extractor=extractor) as library:
        library.index([drawn])
        return answers(library)


def stored_thumbnails(library: Library) -> set[str]:
    with closing(sqlite3.connect(library.path / "thumbnails.sqlite")) as connection:
        return {hash_ for (hash_,) in connection.execute("SELECT hash FROM thumbnails")}


def check_finished(
    library: Library, drawn: Path, unbroken: dict[Path, list[tuple[Path, float]]]
) -> None:
    report = library.index([drawn])
    assert report.added + report.unchanged == 30
    found = answers(library)
    assert found.keys() == unbroken.keys()
    for path, hits in found.items():
        assert [p for p, _ in hits] == [p for p, _ in unbroken[path]]
        assert [d for _, d in hits] == pytest.approx([d for _, d in unbroken[path]], abs=2e-3)
    store = SegmentStore(library.path / "segments")
    with closing(open_catalog(library.path)) as catalog:
        coder = catalog.settings()["coder"]
        named = {segment.name for segment in catalog.segments()}
    named |= {store.codes_path(name, coder).name for name in named}
    assert {file.name for file in (library.path / "segments").iterdir()} == named
    assert stored_thumbnails(library) == {photo.content_hash for photo in library.photos()}


@pytest.mark.parametrize(
    ("point", "when", "kept"),
    [
        ("segment", 4, 12),
        ("codes", 8, 12),
        ("commit", 6, None),
        ("thumbnail", 4, 12),
        ("merge", 0, 24),
    ],
)
def test_killed_at_a_commit_point_the_next_run_goes_on(
    library: Library,
    drawn: Path,
    unbroken: dict[Path, list[tuple[Path, float]]],
    point: str,
    when: int,
    kept: int | None,
) -> None:
    library.close()
    assert run(library.path, drawn, point, when) == -signal.SIGKILL
    if kept is not None:
        assert library.count() == kept
    check_finished(library, drawn, unbroken)


def test_killed_at_random_moments_the_library_is_the_same(
    library: Library, drawn: Path, unbroken: dict[Path, list[tuple[Path, float]]]
) -> None:
    library.close()
    seen = 0
    for attempt in range(3):
        command = [sys.executable, "-c", RUN, str(library.path), str(drawn), "none", "0"]
        process = subprocess.Popen(command)
        start = library.count()
        while library.count() == start and process.poll() is None:
            time.sleep(0.01)
        time.sleep(random.Random(attempt).random() / 4)
        process.kill()
        process.wait()
        assert library.count() >= seen  # what was committed stays
        seen = library.count()
    check_finished(library, drawn, unbroken)


# Ctrl-C comes while SQLite is at work on a statement, before the trigger of its second row. It is
# sent by a C function, as one of Python's would raise it by itself.
INTERRUPTED = """
import ctypes, os, signal, sys
from pathlib import Path
import sqlalchemy
from indexer.catalog import Catalog, FileStat

@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def bring(connection, record):
    connection.create_function("kill", 2, ctypes.CDLL(None).kill)

catalog = Catalog(Path(sys.argv[1]))
try:
    with catalog.write() as writer:
        for name in ("a", "b", "c"):
            writer.put_skip(FileStat(name, 1, 1), "damaged", True)
    with catalog.write() as writer:
        change = f"UPDATE skipped SET size = size + kill({os.getpid()}, {int(signal.SIGINT)})"
        writer._connection.exec_driver_sql(change)
except KeyboardInterrupt:
    print("ended")
print(catalog.faults())
"""


def test_an_interrupt_in_the_midst_of_a_statement_is_not_lost(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "catalog.sqlite")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "ended\n([], {})\n", ran.stderr
