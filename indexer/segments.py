"""FAISS files on disk: written once, synced, renamed into place, never edited."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog, NewContent, SegmentRow
from indexer.filters import Filters
from indexer.inside import checked_name
from indexer.syncing import make_folder, sync
from indexer.vectors import Blocks, Ranking
from retrieval.codes import Coder
from retrieval.search import (
    Search,
    merge_rows,
    stored_ids,
    stored_rows,
    write_codes,
    write_rows,
)

_PARTIAL = ".partial"
_FAN_IN = 8  # so many files of one size class are merged into one
_SMALLEST = 128  # rows; a file of the size class c has about _SMALLEST * _FAN_IN**c of them
_LARGEST = 262_144  # rows (2 GB): beyond it merging costs more than one file more
_BLOCK = 4096  # rows read at once, 32 MB


class SegmentStore:
    """The folder of a library's FAISS files. Names that the catalogue doesn't hold are rubbish.

    The `Vectors` of a library that needs no server; each part is a file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._coder: tuple[str, Coder] | None = None
        make_folder(folder)

    def close(self) -> None:
        """Files are held by who has opened them."""

    def use(self, name: str, coder: Coder) -> None:
        """From now on each file is written with the codes of its rows, by the coder so named."""
        self._coder = (name, coder)

    def path(self, name: str) -> Path:
        """Raises LibraryError for a name that may lead elsewhere, as `codes_path` does."""
        return self._folder / checked_name(name, self._folder)

    def write(
        self,
        ids: NDArray[np.int64],
        descriptors: NDArray[np.float32],
        contents: Sequence[NewContent] = (),
    ) -> SegmentRow:
        """Store rows (n, d) under ids (n,) as a new file. It is on disk by then."""
        return self._store(len(ids), lambda path: write_rows(path, ids, descriptors))

    def marks(self) -> dict[str, str]:
        """A file says all by its name."""
        return {}

    def merge(self, names: Sequence[str], keep: NDArray[np.int64]) -> SegmentRow:
        """Store the rows of `names` whose id is in `keep` as one new file."""
        sources = [self.path(name) for name in names]
        return self._store(len(keep), lambda path: merge_rows(path, sources, keep))

    def codes_path(self, name: str, coder: str) -> Path:
        """Where the codes of a file's rows are, in their order, by the coder of that name."""
        name, coder = checked_name(name, self._folder), checked_name(coder, self._folder)
        return self._folder / f"{Path(name).stem}.{coder}.codes"

    def encode(self, name: str) -> str | None:
        """Put the codes of a file's rows beside it, unless they are there; return their sha256."""
        if self._coder is None:
            return None
        coder_name, coder = self._coder
        path = self.codes_path(name, coder_name)
        if not path.exists():
            codes = coder.encode(stored_rows(self.path(name)))
            self._place(path.name, lambda path: write_codes(path, codes))
        return file_sha256(path)

    def remove(self, name: str) -> None:
        """Remove a file and its codes. A reader that has it mapped keeps it."""
        self.path(name).unlink(missing_ok=True)
        self.remove_codes(name)

    def remove_codes(self, name: str) -> None:
        """Remove the codes of a file."""
        stem = Path(checked_name(name, self._folder)).stem
        for file in self._folder.glob(f"{stem}.*.codes"):
            file.unlink(missing_ok=True)

    def sweep(self, catalog: Catalog) -> None:
        """Remove what a killed run left: files that the catalogue doesn't name, and other codes.

        Files of an older fc7 get their checksums.
        """
        named = {segment.name for segment in catalog.segments()}
        kept = set(named)
        if self._coder is not None:
            kept |= {self.codes_path(name, self._coder[0]).name for name in named}
        for file in self._folder.iterdir():
            if file.name not in kept:
                file.unlink()
        self._note_sums(catalog)

    def with_sums(self, segment: SegmentRow) -> SegmentRow:
        """A segment with the checksums of its files as they are; its codes are made if need be."""
        sha256 = file_sha256(self.path(segment.name))
        return replace(segment, sha256=sha256, codes_sha256=self.encode(segment.name))

    def _note_sums(self, catalog: Catalog) -> None:
        old = [
            self.with_sums(one)
            for one in catalog.segments()
            if one.sha256 is None and self.path(one.name).is_file()
        ]
        if old:
            with catalog.write(contents=False) as writer:
                writer.put_sums(old)

    def gather(self, catalog: Catalog) -> None:
        """Merge small files as they gather; each row is copied a few times in its life.

        Rows that have lost their photos stay: a file of this run may hold their content.
        """
        while names := to_merge(catalog.segments()):
            merge_segments(catalog, self, names, drop_hidden=False)

    def drop_hidden(self, catalog: Catalog) -> list[str]:
        """Write hollow files anew without the contents that have lost their photos."""
        return [
            hash_
            for name in hollow(catalog.segments(), catalog.live_rows())
            for hash_ in merge_segments(catalog, self, [name], drop_hidden=True)
        ]

    def blocks(self, catalog: Catalog) -> Blocks:
        """Ids (m,) and rows (m, d) of all files that count, a few thousand at once.

        All are opened before this returns: a run may remove them later.
        """
        paths = [self.path(segment.name) for segment in catalog.segments()]
        return _in_blocks([(stored_ids(path), stored_rows(path)) for path in paths])

    def open(self, catalog: Catalog) -> Search:
        """Map the files that count. Raises SearchError if one is missing or damaged."""
        files = [self.path(segment.name) for segment in catalog.segments()]
        return Search(files, np.array(catalog.hidden_contents(), np.int64))

    def open_codes(self, ranking: Ranking, coder: str) -> None:
        """Read the codes beside its files into memory. Raises SearchError."""
        assert isinstance(ranking, Search), "a store gets back what it opened"
        ranking.load_codes([self.codes_path(file.name, coder) for file in ranking.files])

    def passing(self, catalog: Catalog, filters: Filters) -> NDArray[np.int64]:
        """The contents of the photos that pass, (m,)."""
        return np.array(catalog.contents_passing(filters), np.int64)

    def lost(self, catalog: Catalog) -> list[str]:
        """Which files should be there and are not."""
        names = [segment.name for segment in catalog.segments()]
        return [name for name in names if not self.path(name).is_file()]

    def _store(self, rows: int, write: Callable[[Path], object]) -> SegmentRow:
        name = f"{uuid.uuid4().hex}.faiss"
        self._place(name, write)
        return self.with_sums(SegmentRow(name, rows))

    def _place(self, name: str, write: Callable[[Path], object]) -> None:
        partial = self._folder / (name + _PARTIAL)
        try:
            write(partial)
            sync(partial)
            partial.rename(self._folder / name)
            sync(self._folder)
        finally:
            partial.unlink(missing_ok=True)


def merge_segments(
    catalog: Catalog, segments: SegmentStore, names: list[str], *, drop_hidden: bool
) -> list[str]:
    """Make one segment of several, or of a hollow one.

    drop_hidden: leave out the contents that have lost their photos; returns their hashes.
    """
    kept = catalog.contents_of(names, live=True)
    dead = catalog.contents_of(names, live=False)
    if not drop_hidden:
        kept, dead = kept + dead, []
    keep = np.array([content for content, _ in kept], dtype=np.int64)
    merged = segments.merge(names, keep) if kept else None
    with catalog.write() as writer:
        if merged is not None:
            writer.add_segment(merged)
        new = None if merged is None else merged.name
        writer.replace_segments(names, new, [content for content, _ in dead])
    for name in names:
        segments.remove(name)
    return [hash_ for _, hash_ in dead]


def to_merge(segments: Sequence[SegmentRow]) -> list[str]:
    """Names of files that should become one: the first size class with eight of them, or nothing.

    Each row is so copied once per size class: adding n rows to a library of N costs O(n log N).
    """
    classes: dict[int, list[str]] = {}
    for segment in segments:
        if segment.rows < _LARGEST:
            size_class = int(math.log(max(segment.rows / _SMALLEST, 1), _FAN_IN) + 1e-9)
            classes.setdefault(size_class, []).append(segment.name)
    return next((names for _, names in sorted(classes.items()) if len(names) >= _FAN_IN), [])


def hollow(segments: Sequence[SegmentRow], live: Mapping[str, int]) -> list[str]:
    """Names of files of which at least half the rows have lost their photos.

    live: how many rows of a file still have one.
    """
    return [one.name for one in segments if live.get(one.name, 0) * 2 <= one.rows]


def file_sha256(path: Path) -> str:
    """Hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_blocks(
    files: Sequence[tuple[NDArray[np.int64], NDArray[np.float16]]],
) -> Blocks:
    for ids, rows in files:
        for start in range(0, len(ids), _BLOCK):
            yield ids[start : start + _BLOCK], rows[start : start + _BLOCK]
