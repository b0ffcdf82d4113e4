"""Files -> pixels -> descriptors -> segment and rows, one commit a batch.

Threads read a batch and have it decoded by processes, the network describes it, and it is stored.
Where the network computes on the same cores, these follow one another: beside each other they were
measured to be no faster, and often slower (docs/indexing.md). On a card the next batch is read
meanwhile. One batch is in memory, or two, however large the folder.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from io import BufferedReader, BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer.catalog import Catalog, FileStat, NewContent, Skip
from indexer.storing import Described, Items, Read, Store
from indexer.thumbnails import ThumbnailStore
from indexer.vectors import Vectors
from retrieval.errors import ImageError
from retrieval.images import Picture, read_picture, sniff
from retrieval.labels import top_labels

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

BATCH = 128  # photos a commit
# Threads that have files read and decoded, each by a process: one more than cores, since each waits
# a moment for the other side's turn.
READERS = min(8, (os.cpu_count() or 1) + 1)
_PATIENCE = 10.0  # seconds that a batch should take at most


def read_file(
    stat: FileStat, framing: str, side: int, is_known: Callable[[int, str], bool]
) -> Read | Skip:
    """Hash one file, and decode it unless its content is known. A bad file becomes a Skip.

    is_known: of a content, by its size in bytes and its hash.
    """
    path = Path(stat.path)
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            hash_, picture = take(file, framing, side, partial(is_known, before.st_size))
            after = os.fstat(file.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                return Skip(path, "changed while it was read", lasts=False)
    except ImageError as error:
        return Skip(path, error.reason)
    except OSError as error:
        why = f"can't be read: {error.strerror or type(error).__name__}"
        return Skip(path, why, lasts=False)
    return Read(FileStat(stat.path, before.st_size, before.st_mtime_ns), hash_, picture)


def take(
    file: BufferedReader | BytesIO, framing: str, side: int, is_known: Callable[[str], bool]
) -> tuple[str, Picture | None]:
    """The sha256 of an open file, and its picture unless a content of that hash is known.

    Raises ImageError if it gives no picture.
    """
    head = file.read(4096)
    if not head:
        raise ImageError("empty file")
    if sniff(head) is None:
        raise ImageError("not an image")
    file.seek(0)
    hash_ = hashlib.file_digest(file, "sha256").hexdigest()
    if is_known(hash_):
        return hash_, None
    file.seek(0)
    return hash_, read_picture(file, framing, side)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a run's time went to. Where the network has a card, reading is what was waited for."""

    how: str  # what computes, in the extractor's words
    files: int
    reading: float  # seconds
    describing: float
    storing: float


_Reading = list[tuple[FileStat, Future[Read | Skip]]]


class Pipeline:
    """One indexing run over a list of files. Counts what became of them."""

    def __init__(
        self,
        catalog: Catalog,
        vectors: Vectors,
        thumbnails: ThumbnailStore,
        extractor: Extractor,
    ) -> None:
        self._store = Store(catalog, vectors, thumbnails)
        self._catalog = catalog
        self._extractor = extractor
        # Few files have the size of another: most need not be asked for by their hash.
        self._sizes = catalog.sizes()
        self._spent: Counter[str] = Counter()  # nanoseconds, and files

    def run(
        self,
        stats: Iterable[FileStat],
        progress: Callable[[int], None],
        in_doubt: Callable[[], None],
    ) -> None:
        """Read, describe and store the files. progress: called with how many are done.

        in_doubt: called before a batch is stored of which a file could not be read; may raise.
        """
        todo, done, size = iter(stats), 0, BATCH
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="decode")
        try:
            ahead = self._begin(todo, size, pool)
            while ahead:
                begun = time.monotonic_ns()
                items = []
                for stat, future in ahead:
                    items.append((stat, future.result()))
                    done += 1
                    progress(done)
                if any(isinstance(item, Skip) and not item.lasts for _, item in items):
                    in_doubt()
                read = time.monotonic_ns()
                ahead = [] if self._extractor.shares_cores else self._begin(todo, size, pool)
                described = describe(self._extractor, items)
                told = time.monotonic_ns()
                self._store.commit(items, described)
                self._sizes.update(item.stat.size for _, item in items if isinstance(item, Read))
                stored = time.monotonic_ns()
                progress(done)  # whoever stops a run here loses nothing
                self._spent.update(
                    files=len(items), read=read - begun, describe=told - read, store=stored - told
                )
                ahead = ahead or self._begin(todo, size, pool)
                # On a slow network a commit comes earlier, so that a kill costs less.
                pace = (stored - begun) / 1e9 / len(items)
                size = min(BATCH, max(1, int(_PATIENCE / pace)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    @property
    def counts(self) -> Counter[str]:
        """How many files were added, updated, moved, unchanged."""
        return self._store.counts

    def pace(self) -> Pace:
        """What the run's time went to."""
        spent = self._spent
        seconds = (spent[name] / 1e9 for name in ("read", "describe", "store"))
        return Pace(self._extractor.explain(), spent["files"], *seconds)

    def _begin(self, todo: Iterator[FileStat], size: int, pool: ThreadPoolExecutor) -> _Reading:
        """Have the next files read, without waiting for them."""

        def read(stat: FileStat) -> Read | Skip:
            return read_file(stat, self._extractor.framing, self._extractor.side, self._is_known)

        return [(stat, pool.submit(read, stat)) for stat in islice(todo, size)]

    def _is_known(self, size: int, hash_: str) -> bool:
        return size in self._sizes and self._catalog.content_with(hash_) is not None


def describe(extractor: Extractor, items: Items) -> Described | None:
    """What the network says of the pictures that are new, each once; None if there are none."""
    fresh = _first_of_each_content(items)
    if not fresh:
        return None
    pictures = list(fresh.values())
    told = extractor.describe(np.stack([picture.pixels for picture in pictures]))
    labels = top_labels(told.probabilities, extractor.classes)
    contents = [
        NewContent(
            hash_,
            asdict(picture.info) | {"norm": float(norm)},
            tuple((p.label, p.probability) for p in top),
        )
        for (hash_, picture), norm, top in zip(fresh.items(), told.norms, labels, strict=True)
    ]
    return Described(contents, told.fc7, [picture.thumbnail for picture in pictures])


def _first_of_each_content(batch: Items) -> dict[str, Picture]:
    fresh: dict[str, Picture] = {}
    for _, item in batch:
        if isinstance(item, Read) and item.picture is not None:
            fresh.setdefault(item.hash, item.picture)
    return fresh
