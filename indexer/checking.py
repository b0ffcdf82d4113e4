"""Whether a library is as it was written.

catalog.sqlite      SQLite's own check, the schema that the migrations make, a checksum a row
segments/*.faiss    the sha256 in the catalogue; the ids are the contents that it says are there
segments/*.codes    the sha256 in the catalogue; they are what the coder makes of the descriptors
coders/             its name is the beginning of its sha256
thumbnails.sqlite   SQLite's own check, a checksum a thumbnail, one for each photo
*-wal               SQLite's log, which is there after a kill: that no commit in it is damaged

Of a catalogue or a store on a server, what it guards itself is left to it. `indexer.repairing`
mends what can be had again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog, SegmentRow
from indexer.coding import CoderStore
from indexer.engines.catalogs import has_catalog, open_catalog
from indexer.engines.stores import open_store
from indexer.inside import CATALOG, THUMBNAILS, refuse_links
from indexer.segments import SegmentStore, file_sha256
from indexer.thumbnails import ThumbnailStore
from indexer.vectors import Vectors
from indexer.work import Journal, working
from indexer.write_ahead import loses_commits
from retrieval.codes import Coder
from retrieval.errors import CodesError, LibraryError, NewerLibraryError, SearchError
from retrieval.layout import read_codes
from retrieval.search import stored_ids, stored_rows

Kind = Literal["catalog", "rows", "segment", "codes", "coder", "thumbnails", "log"]

_BLOCK = 4096  # descriptors encoded at once
_ROUNDED = 0.01  # of the bits another machine's arithmetic may turn


@dataclass(frozen=True, slots=True)
class Problem:
    """What is not as it was written."""

    kind: Kind
    which: str  # a segment, a coder; of rows, their table
    line: str  # what a person is told
    rows: tuple[int, ...] = ()  # of rows, their rowids
    hashes: frozenset[str] = frozenset()  # of thumbnails, those of their contents


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was looked at, and what is wrong."""

    photos: int
    segments: int
    contents: int  # that photos hold: so many descriptors and thumbnails
    problems: tuple[Problem, ...]


def check(library: Path, progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Read all of a library and compare it with its checksums; nothing is changed.

    progress: called with (segments read, segments).

    Raises LibraryError if there is none or a newer fc7 made it, LibraryBusyError if a run is at
    work in it.
    """
    library = existing(library)
    with _alone(library) as journal:
        tell = progress if journal is None else journal.teller("segments", progress)
        report = inspect(library, tell)
        if journal is not None:
            journal.conclude(problems=len(report.problems))
        return report


def existing(library: Path) -> Path:
    """The folder of a library, absolute. Raises LibraryError if it is none."""
    library = library.expanduser().absolute()
    refuse_links(library)
    if not has_catalog(library):
        raise LibraryError(f"no library in {library}: fc7 index FOLDER makes one")
    return library


def inspect(library: Path, tell: Callable[[int, int], None] | None = None) -> CheckReport:
    """`check`, while no run is at work."""
    problems = list(_of_logs(library))
    counts = 0, 0, 0
    try:
        with closing(open_catalog(library)) as catalog:
            problems += _of_catalog(catalog)
            hashes = catalog.hashes()
            counts = catalog.count(), len(catalog.segments()), len(hashes)
            with closing(open_store(library, catalog)) as vectors:
                coders = CoderStore(library / "coders")
                problems += _of_vectors(catalog, vectors, coders, tell)
            if counts[0]:
                thumbnails = ThumbnailStore(library / THUMBNAILS)
                problems += _of_thumbnails(thumbnails, hashes)
    except NewerLibraryError:
        raise
    except LibraryError as error:  # nothing more can be read
        problems.append(Problem("catalog", CATALOG, str(error)))
    return CheckReport(*counts, tuple(problems))


def _alone(library: Path) -> AbstractContextManager[Journal | None]:
    """No run shall change it meanwhile; where nobody can write, none does."""
    return working(library, "check") if os.access(library, os.W_OK) else nullcontext()


def _of_logs(library: Path) -> Iterator[Problem]:
    for file in (CATALOG, THUMBNAILS):
        if loses_commits(library / f"{file}-wal"):
            yield Problem("log", file, f"{file}-wal is damaged: the last changes in it are lost")


def _of_catalog(catalog: Catalog) -> Iterator[Problem]:
    wrong, changed = catalog.faults()
    for line in wrong:
        yield Problem("catalog", CATALOG, f"{CATALOG}: {line}")
    for table, rows in changed.items():
        which = f"{len(rows):,} rows of {table}" if len(rows) > 1 else f"a row of {table}"
        yield Problem("rows", table, f"{CATALOG}: {which} changed by itself", tuple(rows))


def _of_vectors(
    catalog: Catalog,
    vectors: Vectors,
    coders: CoderStore,
    tell: Callable[[int, int], None] | None,
) -> Iterator[Problem]:
    if not isinstance(vectors, SegmentStore):
        for name in vectors.lost(catalog):
            yield Problem("segment", name, f"{name} is not there")
        return
    coder_name, coder = catalog.settings().get("coder", ""), None
    if coder_name:
        try:
            coder = coders.intact(coder_name)
        except CodesError as error:
            yield Problem("coder", coder_name, str(error))
    segments = catalog.segments()
    for done, segment in enumerate(segments, start=1):
        why = _wrong_with_rows(catalog, vectors.path(segment.name), segment)
        if why is not None:
            yield Problem("segment", segment.name, f"segments/{segment.name} {why}")
        elif coder is not None:
            codes = vectors.codes_path(segment.name, coder_name)
            why = _wrong_with_codes(codes, segment, coder, stored_rows(vectors.path(segment.name)))
            if why is not None:
                yield Problem("codes", segment.name, f"segments/{codes.name} {why}")
        if tell is not None:
            tell(done, len(segments))


def _wrong_with_file(path: Path, sha256: str | None) -> str | None:
    """sha256: None if none is known."""
    if not path.is_file():
        return "is missing"
    return None if sha256 in (None, file_sha256(path)) else "changed by itself"


def _wrong_with_rows(catalog: Catalog, path: Path, segment: SegmentRow) -> str | None:
    if why := _wrong_with_file(path, segment.sha256):
        return why
    try:
        ids = stored_ids(path)
    except SearchError:
        return "is damaged"
    if not np.array_equal(np.sort(ids), catalog.contents_in(segment.name)):
        return "has not the rows that the catalogue says"
    return None if len(ids) == segment.rows else "has not as many rows as the catalogue says"


def _wrong_with_codes(
    path: Path, segment: SegmentRow, coder: Coder, rows: NDArray[np.float16]
) -> str | None:
    if why := _wrong_with_file(path, segment.codes_sha256):
        return why
    try:
        codes = read_codes(path)
    except SearchError:
        return "is damaged"
    if codes.shape != (len(rows), coder.bits // 8):
        return "doesn't fit its segment"
    turned = 0
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        turned += int(np.unpackbits(codes[block] ^ coder.encode(rows[block])).sum())
    return None if turned <= _ROUNDED * 8 * codes.size else "has not the codes of its descriptors"


def _of_thumbnails(thumbnails: ThumbnailStore, hashes: set[str]) -> Iterator[Problem]:
    try:
        damaged = thumbnails.damaged(hashes)
    except LibraryError as error:
        yield Problem("thumbnails", THUMBNAILS, str(error), hashes=frozenset(hashes))
        return
    if damaged:
        many = f"{len(damaged):,} thumbnails" if len(damaged) > 1 else "a thumbnail"
        why = f"{THUMBNAILS}: missing, or changed by itself: {many}"
        yield Problem("thumbnails", THUMBNAILS, why, hashes=frozenset(damaged))
