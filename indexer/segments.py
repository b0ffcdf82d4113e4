"""FAISS files on disk: written once, synced, renamed into place, never edited."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import SegmentRow
from retrieval.codes import Coder
from retrieval.search import merge_rows, stored_rows, write_codes, write_rows

_PARTIAL = ".partial"
_FAN_IN = 8  # so many files of one size class are merged into one
_SMALLEST = 128  # rows; a file of the size class c has about _SMALLEST * _FAN_IN**c of them
_LARGEST = 262_144  # rows (2 GB): beyond it merging costs more than one file more


class SegmentStore:
    """The folder of a library's FAISS files. Names that the catalogue doesn't hold are rubbish."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._coder: tuple[str, Coder] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def use(self, name: str, coder: Coder) -> None:
        """From now on each file is written with the codes of its rows, by the coder so named."""
        self._coder = (name, coder)

    def path(self, name: str) -> Path:
        return self._folder / name

    def write(self, ids: NDArray[np.int64], descriptors: NDArray[np.float32]) -> str:
        """Store rows (n, d) under ids (n,); return the new file's name. It is on disk by then."""
        return self._store(lambda path: write_rows(path, ids, descriptors))

    def merge(self, names: Sequence[str], keep: NDArray[np.int64]) -> str:
        """Store the rows of `names` whose id is in `keep` as one new file; return its name."""
        sources = [self.path(name) for name in names]
        return self._store(lambda path: merge_rows(path, sources, keep))

    def codes_path(self, name: str, coder: str) -> Path:
        """Where the codes of a file's rows are, in their order, by the coder of that name."""
        return self._folder / f"{Path(name).stem}.{coder}.codes"

    def encode(self, name: str) -> None:
        """Put the codes of a file's rows beside it, unless they are there."""
        if self._coder is None:
            return
        coder_name, coder = self._coder
        path = self.codes_path(name, coder_name)
        if not path.exists():
            codes = coder.encode(stored_rows(self.path(name)))
            self._place(path.name, lambda path: write_codes(path, codes))

    def remove(self, name: str) -> None:
        """Remove a file and its codes. A reader that has it mapped keeps it."""
        for file in (self.path(name), *self._folder.glob(f"{Path(name).stem}.*.codes")):
            file.unlink(missing_ok=True)

    def sweep(self, named: Collection[str]) -> None:
        """Remove what a killed run left: files that the catalogue doesn't name, and other codes."""
        kept = set(named)
        if self._coder is not None:
            kept |= {self.codes_path(name, self._coder[0]).name for name in named}
        for file in self._folder.iterdir():
            if file.name not in kept:
                file.unlink()

    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self._folder.iterdir())

    def _store(self, write: Callable[[Path], object]) -> str:
        name = f"{uuid.uuid4().hex}.faiss"
        self._place(name, write)
        self.encode(name)
        return name

    def _place(self, name: str, write: Callable[[Path], object]) -> None:
        partial = self.path(name + _PARTIAL)
        try:
            write(partial)
            _sync(partial)
            partial.rename(self.path(name))
            _sync(self._folder)
        finally:
            partial.unlink(missing_ok=True)


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


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
