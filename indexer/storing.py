"""Where all ways into a library end: a segment, thumbnails and rows, one commit a batch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog, FileStat, NewContent, Skip, Writer
from indexer.thumbnails import ThumbnailStore
from indexer.vectors import Vectors
from retrieval.images import Picture


@dataclass(frozen=True, slots=True)
class Read:
    """A file that was read. picture: None if its content is known or described already."""

    stat: FileStat
    hash: str
    picture: Picture | None


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """Contents with what the network says of them, a row each, no hash twice."""

    contents: list[NewContent]  # without the time, which storing adds
    fc7: NDArray[np.floating]  # (n, d) unit rows
    thumbnails: list[bytes]  # JPEGs


Items = Sequence[tuple[FileStat, Read | Skip]]


class Store:
    """Puts batches into a library, and counts what became of the files."""

    def __init__(
        self,
        catalog: Catalog,
        vectors: Vectors,
        thumbnails: ThumbnailStore,
        is_there: Callable[[str], bool] = lambda path: is_address(path) or os.path.lexists(path),
    ) -> None:
        """is_there: of another path that holds a content: if not, the photo has moved from it."""
        self.counts: Counter[str] = Counter()  # added, updated, moved, unchanged
        self._catalog = catalog
        self._vectors = vectors
        self._thumbnails = thumbnails
        self._is_there = is_there

    def commit(self, items: Items, described: Described | None) -> None:
        """Put the batch's segment on disk, then name it and its rows, all at once.

        described: of the contents that are not known, at least; others may be among them.

        Only one run at a time makes contents, so what takes long, the files, is written before the
        transaction: who edits an album meanwhile waits for the rows alone.
        """
        read = [item for _, item in items if isinstance(item, Read)]
        contents = self._catalog.contents_with({item.hash for item in read})
        put: Callable[[Writer], dict[str, int]] | None = None
        if described is not None:  # some may have been stored since they were read
            at = [i for i, one in enumerate(described.contents) if one.hash not in contents]
            if at:
                put = self._prepare(described, at)
        with self._catalog.write() as writer:
            stored = put(writer) if put else {}
            for stat, item in items:
                if isinstance(item, Skip):
                    writer.put_skip(stat, item.reason, item.lasts)
            self._store_photos(writer, read, contents | stored, set(stored))
        self._vectors.gather(self._catalog)

    def _prepare(self, described: Described, at: list[int]) -> Callable[[Writer], dict[str, int]]:
        """Put on disk what the contents at these places of the batch need.

        Returns what stores their rows, and says their ids by hash.
        """
        first = self._catalog.next_content_id()
        ids = np.arange(first, first + len(at), dtype=np.int64)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = [
            replace(one, columns=one.columns | {"indexed_at": now})
            for one in (described.contents[i] for i in at)
        ]
        fc7 = described.fc7[at].astype(np.float32, copy=False)
        segment = self._vectors.write(ids, fc7, rows)
        jpegs = [described.thumbnails[i] for i in at]
        self._thumbnails.put(dict(zip((row.hash for row in rows), jpegs, strict=True)))
        marks = self._vectors.marks()

        def put(writer: Writer) -> dict[str, int]:
            writer.add_segment(segment)
            writer.set(**marks)
            writer.add_contents(ids.tolist(), segment.name, rows)
            return dict(zip((row.hash for row in rows), ids.tolist(), strict=True))

        return put

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
                left = next((p for p in writer.paths_of(content) if not self._is_there(p)), None)
            new.discard(item.hash)
            if left is not None:
                writer.move_photo(left, item.stat)
                self.counts["moved"] += 1
                continue
            puts.append((item.stat, content))
            kind = "added" if before is None else "unchanged" if before == content else "updated"
            self.counts[kind] += 1
        writer.put_photos(puts)


def is_address(path: str) -> bool:
    """Whether a photo's path is an address, as s3://bucket/a.jpg, and not of this machine."""
    return not Path(path).is_absolute()
