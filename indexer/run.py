"""One indexing run, from folders to a library in step with them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.catalog import Catalog, FileStat, Skip
from indexer.content_rows import count_contents, hashes_of_contents
from indexer.pipeline import Pace, Pipeline
from indexer.scan import Found, SyncPlan, plan, scan
from indexer.thumbnails import ThumbnailStore
from indexer.vectors import Vectors
from retrieval.errors import LibraryError

if TYPE_CHECKING:
    from retrieval.extractor import Extractor


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an indexing run did. Counts of photos; `skipped` holds those of earlier runs too."""

    added: int
    updated: int
    moved: int
    removed: int
    unchanged: int
    skipped: tuple[Skip, ...]
    missing_folders: tuple[Path, ...]  # gone or empty: their photos are kept
    folders: tuple[Path, ...]  # that were looked at, the missing ones too
    later: int = 0  # files that were left alone, for they may still be written to
    pace: Pace | None = None  # None: no file had to be read

    def counts(self) -> dict[str, int]:
        """What is counted, by name."""
        names = ("added", "updated", "moved", "removed", "unchanged")
        return {name: getattr(self, name) for name in names} | {"skipped": len(self.skipped)}


class Run:
    """What a run works with. Only one may be at work in a library: the caller holds its lock."""

    def __init__(
        self,
        library: Path,
        catalog: Catalog,
        vectors: Vectors,
        thumbnails: ThumbnailStore,
        load_extractor: Callable[[], Extractor],
    ) -> None:
        """library: its folder, which is not indexed. load_extractor: called if a file is read."""
        self._library = library
        self._catalog = catalog
        self._vectors = vectors
        self._thumbnails = thumbnails
        self._load_extractor = load_extractor

    def sync(
        self,
        folders: Sequence[Path],
        *,
        prune: bool,
        settle: float,
        progress: Callable[[int, int], None] | None,
    ) -> IndexReport:
        """Do what `Library.index` says."""
        roots = self._roots(folders)
        self._vectors.sweep(self._catalog)
        remember(self._catalog, roots)
        missing, plans = self._plans(roots, prune, settle)
        report = self._apply(roots, plans, missing, progress)
        self._finish(missing if prune else [])
        return report

    def forget(self, folder: Path) -> int:
        """Do what `Library.forget` says."""
        root = Path(os.path.realpath(folder.expanduser()))
        if root not in self._catalog.folders():
            raise LibraryError(f"{folder} is no folder of {self._library}: fc7 status lists them")
        photos, skipped = self._catalog.known_under(str(root))
        with self._catalog.write() as writer:
            writer.remove_photos(photos)
            writer.remove_skips(skipped)
            writer.remove_folder(root)
        self._finish([])
        return len(photos)

    def _plans(
        self, roots: list[Path], prune: bool, settle: float
    ) -> tuple[list[Path], list[SyncPlan]]:
        """(folders that are missing or empty, what to do in the others)."""
        missing, plans = [], []
        everything = [scan(root, exclude=self._library) for root in roots]
        unsettled = _unsettled(everything, settle) if settle else frozenset()
        for root, found in zip(roots, everything, strict=True):
            photos, skipped = self._catalog.known_under(str(root))
            listed = found
            if not found.files and (photos or not root.is_dir()):
                missing.append(root)  # an unplugged disk looks like this
                if not prune:
                    continue
                listed = Found((), ())  # what can't be listed is given up too
            plans.append(plan(listed, photos, skipped, unsettled))
        return missing, plans

    def _apply(
        self,
        roots: list[Path],
        plans: list[SyncPlan],
        missing: list[Path],
        progress: Callable[[int, int], None] | None,
    ) -> IndexReport:
        to_read = [stat for one in plans for stat in one.read]
        counts: Counter[str] = Counter()
        pace = None
        if to_read:
            extractor = self._load_extractor()
            pipeline = Pipeline(self._catalog, self._vectors, self._thumbnails, extractor)
            there = [root for root in roots if root not in missing]
            pipeline.run(
                to_read,
                lambda done: progress and progress(done, len(to_read)),
                lambda: _still_there(there),
            )
            counts, pace = pipeline.counts, pipeline.pace()
        before = self._catalog.count()
        gone = [path for one in plans for path in one.gone]
        gone_skips = [path for one in plans for path in one.gone_skips]
        if gone or gone_skips:
            with self._catalog.write() as writer:  # what moved is not at its old path any more
                writer.remove_photos(gone)
                writer.remove_skips(gone_skips)
        tried = {stat.path for stat in to_read} | {p for one in plans for p in one.still_skipped}
        closed = [
            Skip(Path(where), f"folder can't be listed: {why}")
            for one in plans
            for where, why in one.unreadable
        ]
        return IndexReport(
            added=counts["added"],
            updated=counts["updated"],
            moved=counts["moved"],
            removed=before - self._catalog.count(),
            unchanged=counts["unchanged"] + sum(one.unchanged for one in plans),
            skipped=(*closed, *(s for s in self._catalog.skipped() if str(s.path) in tried)),
            missing_folders=tuple(missing),
            folders=tuple(roots),
            later=sum(one.later for one in plans),
            pace=pace,
        )

    def _finish(self, pruned: list[Path]) -> None:
        """Drop the rows of photos that are gone; forget folders that hold nothing."""
        self._thumbnails.remove(self._vectors.drop_hidden(self._catalog))
        if self._thumbnails.count() > count_contents(self._catalog):  # a killed run left some
            self._thumbnails.remove(self._thumbnails.hashes() - hashes_of_contents(self._catalog))
        lost = [f for f in self._catalog.folders() if not f.is_dir() and not self._holds(f)]
        with self._catalog.write(contents=False) as writer:
            for folder in (*lost, *pruned):
                writer.remove_folder(folder)
            writer.set(last_run=datetime.now(UTC).isoformat(timespec="seconds"))

    def _holds(self, folder: Path) -> bool:
        photos, _ = self._catalog.known_under(str(folder))
        return bool(photos)

    def _roots(self, folders: Sequence[Path]) -> list[Path]:
        """Absolute folders, none inside another. A folder nobody knows must be there."""
        known = self._catalog.folders()
        wanted = [Path(os.path.realpath(folder.expanduser())) for folder in folders] or known
        if not wanted:
            raise LibraryError("no folder was indexed yet: name one, as in fc7 index ~/Pictures")
        for folder in wanted:
            if not folder.is_dir() and folder not in known and not self._holds(folder):
                what = "is a file, not a folder" if folder.is_file() else "is not there"
                raise LibraryError(f"{folder} {what}: name the folder that holds your photos")
        return outermost(wanted)


def _still_there(roots: Sequence[Path]) -> None:
    """Raises LibraryError if a folder went away since it was listed: nothing can be said of it."""
    for root in roots:
        if not root.is_dir() or not any(root.iterdir()):
            raise LibraryError(
                f"{root} went away while it was indexed: what was read is kept, and the same "
                "command goes on when it is back"
            )


def remember(catalog: Catalog, roots: Sequence[Path]) -> None:
    """Put folders on the list that `index()` goes by; one inside another is not needed."""
    known = catalog.folders()
    listed = outermost([*known, *roots])
    if set(known) == set(listed):
        return
    with catalog.write(contents=False) as writer:
        for folder in known:
            if folder not in listed:
                writer.remove_folder(folder)
        for folder in listed:
            writer.add_folder(folder)


def _unsettled(everything: Sequence[Found], settle: float) -> frozenset[FileStat]:
    """The files that were written to in the last `settle` seconds.

    Or will be in the next ones, as it looks where a server's clock is a little ahead.
    """
    now, margin = time.time_ns(), round(settle * 1e9)
    young = range(now - margin, now + margin)
    return frozenset(stat for found in everything for stat in found.files if stat.mtime_ns in young)


def outermost(folders: Sequence[Path]) -> list[Path]:
    """The folders that lie in none of the others, each once."""
    return [
        folder
        for folder in dict.fromkeys(folders)
        if not any(other in folder.parents for other in folders)
    ]
