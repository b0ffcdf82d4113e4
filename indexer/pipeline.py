"""Files -> pixels -> descriptors -> segment and rows, one commit a batch.

Threads read and decode (Pillow lets go of the interpreter lock there) while the network works on
the batch before; look-ahead is bounded, so memory doesn't grow with the folder.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog, FileStat, NewContent, Skip, Writer
from indexer.segments import SegmentStore, to_merge
from retrieval.errors import ImageError
from retrieval.images import PhotoInfo, frame, read_photo, sniff, thumbnail
from retrieval.labels import top_labels

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

_BATCH = 128  # photos a commit
_PATIENCE = 10.0  # seconds: on a slow network a commit comes earlier, so a kill costs less


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded photo: the network's input (224, 224, 3) uint8, metadata, and a small JPEG."""

    pixels: NDArray[np.uint8]
    info: PhotoInfo
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """A file that was read. picture: None if the library knows this content already."""

    stat: FileStat
    hash: str
    picture: Picture | None


def read_file(stat: FileStat, framing: str, is_known: Callable[[str], bool]) -> Read | Skip:
    """Hash one file, and decode it unless its content is known. A bad file becomes a Skip."""
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
            if not is_known(hash_):
                file.seek(0)
                pixels, info = read_photo(file)
                picture = Picture(frame(pixels, framing), info, thumbnail(pixels))
            after = os.fstat(file.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise ImageError("changed while it was read")
    except ImageError as error:
        return Skip(path, error.reason)
    except OSError as error:
        return Skip(path, f"can't be read: {error.strerror or type(error).__name__}")
    return Read(FileStat(stat.path, before.st_size, before.st_mtime_ns), hash_, picture)


def read_all(
    stats: Iterable[FileStat], read: Callable[[FileStat], Read | Skip]
) -> Iterator[tuple[FileStat, Read | Skip]]:
    """Read files in threads, and give them in their order, at most two batches ahead."""
    workers = min(8, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[tuple[FileStat, Future[Read | Skip]]] = deque()
    try:
        for stat in stats:
            waiting.append((stat, pool.submit(read, stat)))
            if len(waiting) >= 2 * _BATCH:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Pipeline:
    """One indexing run over a list of files. Counts what became of them."""

    def __init__(
        self, catalog: Catalog, segments: SegmentStore, thumbnails: Path, extractor: Extractor
    ) -> None:
        self.counts: Counter[str] = Counter()  # added, updated, moved, unchanged
        self._catalog = catalog
        self._segments = segments
        self._thumbnails = thumbnails
        self._extractor = extractor
        self._batch: list[tuple[FileStat, Read | Skip]] = []
        self._committed = time.monotonic()

    def run(self, stats: Iterable[FileStat], progress: Callable[[int], None]) -> None:
        """Read, describe and store the files. progress: called with how many are done."""

        def read(stat: FileStat) -> Read | Skip:
            return read_file(stat, self._extractor.framing, self._is_known)

        for done, item in enumerate(read_all(stats, read), start=1):
            self._batch.append(item)
            late = time.monotonic() - self._committed > _PATIENCE
            if len(self._batch) >= _BATCH or late:
                self._commit()
            progress(done)
        self._commit()

    def _is_known(self, hash_: str) -> bool:
        return self._catalog.content_with(hash_) is not None

    def _commit(self) -> None:
        """Describe the batch, put its segment on disk, then name it and its rows, all at once."""
        batch, self._batch = self._batch, []
        fresh = _first_of_each_content(batch)
        with self._catalog.write() as writer:
            contents = self._store_contents(writer, fresh) if fresh else {}
            for stat, item in batch:
                if isinstance(item, Skip):
                    writer.put_skip(stat, item.reason)
                else:
                    self.counts[self._store_photo(writer, item, contents)] += 1
        self._merge()
        self._committed = time.monotonic()

    def _store_contents(self, writer: Writer, fresh: dict[str, Picture]) -> dict[str, int]:
        described = self._extractor.describe(np.stack([p.pixels for p in fresh.values()]))
        first = writer.next_content_id()
        ids = np.arange(first, first + len(fresh), dtype=np.int64)
        labels = top_labels(described.probabilities, self._extractor.classes)
        name = self._segments.write(ids, described.fc7)
        writer.add_segment(name, len(fresh))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for at, (hash_, picture) in enumerate(fresh.items()):
            put_thumbnail(self._thumbnails, hash_, picture.thumbnail)
            columns = asdict(picture.info) | {"norm": float(described.norms[at]), "indexed_at": now}
            top = tuple((p.label, p.probability) for p in labels[at])
            writer.add_content(int(ids[at]), name, NewContent(hash_, columns, top))
        return dict(zip(fresh, ids.tolist(), strict=True))

    def _store_photo(self, writer: Writer, read: Read, contents: dict[str, int]) -> str:
        """Name the content that a path holds; return what happened to the photo."""
        path = read.stat.path
        content = contents.get(read.hash) or writer.content_with(read.hash)
        assert content is not None, "a content that was known has been forgotten within a run"
        before = writer.content_at(path)
        if before is not None:
            writer.put_photo(read.stat, content)
            return "unchanged" if before == content else "updated"
        left = next((p for p in writer.paths_of(content) if not os.path.lexists(p)), None)
        if left is not None:
            writer.move_photo(left, read.stat)
            return "moved"
        writer.put_photo(read.stat, content)
        return "added"

    def _merge(self) -> None:
        """Merge small segments as they gather; each row is copied a few times in its life.

        Rows that have lost their photos stay: a file of this run may hold their content.
        """
        while names := to_merge(self._catalog.segments()):
            merge_segments(self._catalog, self._segments, names, drop_hidden=False)


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
            writer.add_segment(merged, len(kept))
        writer.replace_segments(names, merged, [content for content, _ in dead])
    for name in names:
        segments.remove(name)
    return [hash_ for _, hash_ in dead]


def thumbnail_path(folder: Path, hash_: str) -> Path:
    return folder / hash_[:2] / f"{hash_}.jpg"


def put_thumbnail(folder: Path, hash_: str, jpeg: bytes) -> None:
    path = thumbnail_path(folder, hash_)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(jpeg)
    partial.replace(path)


def _first_of_each_content(batch: list[tuple[FileStat, Read | Skip]]) -> dict[str, Picture]:
    fresh: dict[str, Picture] = {}
    for _, item in batch:
        if isinstance(item, Read) and item.picture is not None:
            fresh.setdefault(item.hash, item.picture)
    return fresh
