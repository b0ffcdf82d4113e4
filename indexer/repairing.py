"""Mends what a check has found, as far as it can be had again.

damaged                    is had again from
segment                    the photos; rows of photos that are not there are kept if they can be
codes, coder               the descriptors; the coder that came with fc7
thumbnails                 the photos
rows of contents, labels   the photos
rows of photos             the folders, by the next `fc7 index`
rows of places, skipped    the next `fc7 map` or `fc7 index`
rows of albums, folders    nothing: they are kept as they are, and told of
indexes of the catalogue   its rows

What is left then needs a backup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer import repair_rows
from indexer.catalog import Catalog, FileStat, Photo, Writer
from indexer.checking import CheckReport, Problem, existing, inspect
from indexer.coding import CoderStore, use_coder
from indexer.engines.catalogs import open_catalog
from indexer.engines.stores import open_store
from indexer.inside import THUMBNAILS
from indexer.pipeline import BATCH, describe, read_file
from indexer.segments import SegmentStore
from indexer.storing import Read
from indexer.thumbnails import ThumbnailStore
from indexer.work import working
from retrieval.errors import CodesError, LibraryError, SearchError
from retrieval.search import stored_ids

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

_KEPT = ("albums", "album_photos", "folders")  # tables of what only a person knows


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was wrong, what is wrong still, and what should be known of the mending."""

    before: CheckReport
    after: CheckReport
    notes: tuple[str, ...]


def repair(library: Path, progress: Callable[[int, int], None] | None = None) -> RepairReport:
    """Check a library, mend what can be mended, and check it again.

    progress: called with (segments read, segments), in both checks.

    Raises LibraryError if there is none or it can't be written, LibraryBusyError if a run is at
    work in it; WeightsError if its network is needed and not there.
    """
    library = existing(library)
    with working(library, "check") as journal:
        tell = journal.teller("segments", progress)
        before = inspect(library, tell)
        if not before.problems:
            return RepairReport(before, before, ())
        notes: list[str] = []
        with suppress(LibraryError), closing(open_catalog(library)) as catalog:
            store = open_store(library, catalog)
            if isinstance(store, SegmentStore):
                notes += _Mending(library, catalog, store).mend(before.problems)
        after = inspect(library, tell)
        lost = tuple(one for one in before.problems if one.kind == "log")
        after = replace(after, problems=lost + after.problems)  # SQLite has emptied it since
        journal.conclude(problems=len(after.problems))
        return RepairReport(before, after, tuple(notes))


class _Mending:
    """A library whose vectors are files, taken apart."""

    def __init__(self, library: Path, catalog: Catalog, store: SegmentStore) -> None:
        self._catalog = catalog
        self._store = store
        self._coders = CoderStore(library / "coders")
        self._thumbnails = ThumbnailStore(library / THUMBNAILS)
        self._extractor: Extractor | None = None

    def mend(self, problems: Sequence[Problem]) -> Iterator[str]:
        """Mend what can be; yields what should be known of it."""
        kinds: dict[str, list[Problem]] = {}
        for one in problems:
            kinds.setdefault(one.kind, []).append(one)
        if "catalog" in kinds:
            repair_rows.make_indexes(self._catalog)
        if self._thumbnails.is_unreadable():
            self._thumbnails.clear()
        rows = {one.which: one.rows for one in kinds.get("rows", [])}
        with self._catalog.write() as writer:
            yield from _mend_rows(writer, rows)
        for one in kinds.get("coder", []):
            self._coders.path(one.which).unlink(missing_ok=True)
        with suppress(CodesError):  # one learned from this library: fc7 codes train learns another
            use_coder(self._catalog, self._store, self._coders)
        for one in kinds.get("codes", []):
            self._store.remove_codes(one.which)
        self._note_sums([one.which for one in kinds.get("codes", [])])
        if "segments" in rows:
            self._note_sums([one.name for one in self._catalog.segments()])
        damaged = [one.which for one in kinds.get("segment", [])]
        doubted = set(rows.get("contents", ()))
        if damaged or doubted or "labels" in rows or "catalog" in kinds:
            yield from self._describe_anew(damaged, doubted)
        for one in kinds.get("thumbnails", []):
            self._make_thumbnails(one)

    # --- descriptors, and what else the network says

    def _describe_anew(self, damaged: Sequence[str], doubted: set[int]) -> Iterator[str]:
        """Describe contents again whose rows, labels or descriptors are damaged."""
        ids = doubted.union(
            repair_rows.short_of_labels(self._catalog),
            repair_rows.without_segment(self._catalog),
            *(self._catalog.contents_in(name) for name in damaged),
        )
        if not ids:
            return
        held = repair_rows.segments_of(self._catalog, ids).union(damaged)
        done = sum(self._store_anew(found) for found in self._batches(sorted(ids), doubted))
        yield f"photos described again: {done:,}"
        for name in held.intersection(one.name for one in self._catalog.segments()):
            yield from self._settle(name, is_damaged=name in damaged)

    def _batches(
        self, ids: Sequence[int], doubted: set[int]
    ) -> Iterator[dict[int, tuple[FileStat, Read]]]:
        """The files that hold these contents, as far as they are there, by content."""
        extractor = self._load()
        for start in range(0, len(ids), BATCH):
            photos = self._catalog.photos_of(ids[start : start + BATCH])
            found: dict[int, tuple[FileStat, Read]] = {}
            for content, shown in photos.items():
                for photo in shown:
                    read = _read(photo, extractor)
                    if read is not None and (
                        read.hash == photo.content_hash
                        or (content in doubted and read.stat.size == photo.size)
                    ):
                        found[content] = read.stat, read
                        break
            yield found

    def _store_anew(self, found: dict[int, tuple[FileStat, Read]]) -> int:
        described = describe(self._load(), list(found.values()))
        if described is None:
            return 0
        of_hash = {read.hash: content for content, (_, read) in found.items()}
        ids = [of_hash[content.hash] for content in described.contents]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        contents = [
            replace(one, columns=one.columns | {"indexed_at": now}) for one in described.contents
        ]
        segment = self._store.write(np.array(ids), described.fc7.astype(np.float32), contents)
        hashes = (content.hash for content in contents)
        self._thumbnails.put(dict(zip(hashes, described.thumbnails, strict=True)))
        with self._catalog.write() as writer:
            writer.add_segment(segment)
            repair_rows.put_contents(writer, ids, segment.name, contents)
        return len(ids)

    def _settle(self, name: str, *, is_damaged: bool) -> Iterator[str]:
        """Put another in the place of a segment, of the rows that nothing else holds now.

        Of a damaged one they are kept as they are, if it can be read.
        """
        left = self._catalog.contents_in(name)
        new = None
        with suppress(SearchError):
            new = self._store.merge([name], np.array(left, np.int64)) if left else None
        lost = [] if new is not None else left
        photos = [one.path for shown in self._catalog.photos_of(lost).values() for one in shown]
        with self._catalog.write() as writer:
            if new is not None:
                writer.add_segment(new)
            writer.remove_photos(str(path) for path in photos)
            writer.replace_segments([name], None if new is None else new.name, lost)
        self._store.remove(name)
        if lost:
            yield (
                "photos that left the library, since their descriptors are damaged and their files "
                f"not there (fc7 index takes them in again): {len(photos):,}"
            )
        elif left and is_damaged:
            yield (
                "descriptors kept as they were read, since their photos are not there (one may be "
                f"wrong): {len(left):,}"
            )

    # --- codes and thumbnails

    def _note_sums(self, names: Sequence[str]) -> None:
        """Note what the files of segments hold, if that is what the catalogue says of them."""
        known = {one.name: one for one in self._catalog.segments()}
        noted = []
        for name in (name for name in names if name in known):
            with suppress(SearchError):
                ids = np.sort(stored_ids(self._store.path(name)))
                if np.array_equal(ids, self._catalog.contents_in(name)):
                    noted.append(self._store.with_sums(replace(known[name], rows=len(ids))))
        with self._catalog.write() as writer:
            writer.put_sums(noted)

    def _make_thumbnails(self, problem: Problem) -> None:
        missing = self._thumbnails.damaged(problem.hashes)
        self._thumbnails.remove(missing)
        ids = repair_rows.contents_of(self._catalog, missing)
        for found in self._batches(ids, set()):
            made = {
                read.hash: read.picture.thumbnail
                for _, read in found.values()
                if read.picture is not None
            }
            if made:
                self._thumbnails.put(made)

    def _load(self) -> Extractor:
        from retrieval.extractor import Extractor  # torch: only if it is needed

        if self._extractor is None:
            settings = self._catalog.settings()
            self._extractor = Extractor(settings["network"], settings["weights"])
            if self._extractor.stamp != settings["stamp"]:
                raise LibraryError(
                    f"{settings['weights']} holds other weights now than this library was indexed "
                    "with: bring those back to mend it"
                )
        return self._extractor


def _read(photo: Photo, extractor: Extractor) -> Read | None:
    """A photo's file as it is now; None if it is not there or gives no picture."""
    stat = FileStat(str(photo.path), photo.size, 0)
    found = read_file(stat, extractor.framing, extractor.side, lambda _size, _hash: False)
    return found if isinstance(found, Read) else None


def _mend_rows(writer: Writer, rows: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """Mend the rows with these rowids, by table; yields what should be known of it."""
    for table, changed in rows.items():
        if table in ("places", "skipped", "labels"):
            repair_rows.remove_rows(writer, table, changed)
        elif table == "photos":
            repair_rows.read_again(writer, changed)
            yield f"photos that the next fc7 index reads again: {len(changed):,}"
        elif table == "settings":
            repair_rows.remove_passing_settings(writer, changed)
        elif table in _KEPT:
            repair_rows.accept_rows(writer, table, changed)
            yield f"rows of {table} kept as they are now (look at them): {len(changed):,}"
        elif table == "segments":
            repair_rows.accept_rows(writer, table, changed)
