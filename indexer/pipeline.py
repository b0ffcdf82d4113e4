"""Files -> pixels -> descriptors -> segment and rows, one commit a batch.

Threads read and decode a batch, the network describes it, and it is stored. Where the network
computes on the same cores, these follow one another: beside each other they were measured to be no
faster, and often slower (docs/indexing.md). On a card the next batch is read meanwhile. One batch
is in memory, or two, however large the folder.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer.catalog import Catalog, FileStat, NewContent, Skip, Writer
from indexer.thumbnails import ThumbnailStore
from indexer.vectors import Vectors
from retrieval.errors import ImageError
from retrieval.images import Picture, read_picture, sniff
from retrieval.labels import top_labels

if TYPE_CHECKING:
    from retrieval.extractor import Descriptors, Extractor

BATCH = 128  # photos a commit
READERS = min(8, os.cpu_count() or 1)  # threads that read and decode
_PATIENCE = 10.0  # seconds that a batch should take at most


@dataclass(frozen=True, slots=True)
class Read:
    """A file that was read. picture: None if the library knows this content already."""

    stat: FileStat
    hash: str
    picture: Picture | None


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
            head = file.read(4096)
            if not head:
                raise ImageError("empty file")
            if sniff(head) is None:
                raise ImageError("not an image")
            file.seek(0)
            hash_ = hashlib.file_digest(file, "sha256").hexdigest()
            picture = None
            if not is_known(before.st_size, hash_):
                file.seek(0)
                picture = read_picture(file, framing, side)
            after = os.fstat(file.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise ImageError("changed while it was read")
    except ImageError as error:
        return Skip(path, error.reason)
    except OSError as error:
        return Skip(path, f"can't be read: {error.strerror or type(error).__name__}")
    return Read(FileStat(stat.path, before.st_size, before.st_mtime_ns), hash_, picture)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a run's time went to. Where the network has a card, reading is what was waited for."""

    how: str  # what computes, in the extractor's words
    files: int
    reading: float  # seconds
    describing: float
    storing: float


_Items = list[tuple[FileStat, Read | Skip]]
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
        self.counts: Counter[str] = Counter()  # added, updated, moved, unchanged
        self._catalog = catalog
        self._vectors = vectors
        self._thumbnails = thumbnails
        self._extractor = extractor
        # Few files have the size of another: most need not be asked for by their hash.
        self._sizes = catalog.sizes()
        self._spent: Counter[str] = Counter()  # nanoseconds, and files

    def run(self, stats: Iterable[FileStat], progress: Callable[[int], None]) -> None:
        """Read, describe and store the files. progress: called with how many are done."""
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
                read = time.monotonic_ns()
                ahead = [] if self._extractor.shares_cores else self._begin(todo, size, pool)
                fresh, described = self._describe(items)
                told = time.monotonic_ns()
                self._commit(items, fresh, described)
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

    def _describe(self, items: _Items) -> tuple[dict[str, Picture], Descriptors | None]:
        """The pictures that are new, by hash, and what the network says of them."""
        fresh = _first_of_each_content(items)
        if not fresh:
            return fresh, None
        pixels = np.stack([picture.pixels for picture in fresh.values()])
        return fresh, self._extractor.describe(pixels)

    def _commit(
        self, items: _Items, fresh: dict[str, Picture], described: Descriptors | None
    ) -> None:
        """Put the batch's segment on disk, then name it and its rows, all at once."""
        read = [item for _, item in items if isinstance(item, Read)]
        with self._catalog.write() as writer:
            contents = writer.contents_with({item.hash for item in read})
            hashes = list(fresh)  # some may have been stored since they were read
            new = [at for at, hash_ in enumerate(hashes) if hash_ not in contents]
            if described is not None and new:
                contents |= self._store_contents(writer, fresh, described, new)
            for stat, item in items:
                if isinstance(item, Skip):
                    writer.put_skip(stat, item.reason)
            self._store_photos(writer, read, contents, {hashes[at] for at in new})
        self._sizes.update(item.stat.size for item in read)
        self._vectors.gather(self._catalog)

    def _store_contents(
        self, writer: Writer, fresh: dict[str, Picture], described: Descriptors, new: list[int]
    ) -> dict[str, int]:
        """Store the contents at these places of the batch; return their ids by hash."""
        hashes = list(fresh)
        first = writer.next_content_id()
        ids = np.arange(first, first + len(new), dtype=np.int64)
        labels = top_labels(described.probabilities[new], self._extractor.classes)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = []
        for at, top in zip(new, labels, strict=True):
            picture = fresh[hashes[at]]
            columns = asdict(picture.info) | {"norm": float(described.norms[at]), "indexed_at": now}
            rows.append(
                NewContent(hashes[at], columns, tuple((p.label, p.probability) for p in top))
            )
        name = self._vectors.write(ids, described.fc7[new], rows)
        self._thumbnails.put({hashes[at]: fresh[hashes[at]].thumbnail for at in new})
        writer.add_segment(name, len(new))
        writer.add_contents(ids.tolist(), name, rows)
        return dict(zip((row.hash for row in rows), ids.tolist(), strict=True))

    def _store_photos(
        self, writer: Writer, read: list[Read], contents: dict[str, int], new: set[str]
    ) -> None:
        """Name the contents that paths hold, and count what happened to the photos.

        contents: the ids of all hashes. new: those that no path has held so far.
        """
        held = writer.contents_at([item.stat.path for item in read])
        puts: list[tuple[FileStat, int]] = []
        for item in read:
            content, before = contents[item.hash], held.get(item.stat.path)
            left = None
            if before is None and item.hash not in new:
                writer.put_photos(puts)
                puts = []
                left = next((p for p in writer.paths_of(content) if not os.path.lexists(p)), None)
            new.discard(item.hash)
            if left is not None:
                writer.move_photo(left, item.stat)
                self.counts["moved"] += 1
                continue
            puts.append((item.stat, content))
            kind = "added" if before is None else "unchanged" if before == content else "updated"
            self.counts[kind] += 1
        writer.put_photos(puts)


def _first_of_each_content(batch: _Items) -> dict[str, Picture]:
    fresh: dict[str, Picture] = {}
    for _, item in batch:
        if isinstance(item, Read) and item.picture is not None:
            fresh.setdefault(item.hash, item.picture)
    return fresh
