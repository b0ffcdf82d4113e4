"""The map of a library: a place for each picture, so that those which look alike lie close.

Drawing takes minutes in a large library and holds no lock meanwhile; the places are written at
once. What comes later is put among its likes and moves nothing, so that a person finds again what
was where.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from indexer import map_rows as rows
from indexer.catalog import Catalog
from indexer.descriptors import reduced
from indexer.map_rows import Point
from indexer.vectors import Vectors
from retrieval.errors import LibraryError

_OUTGROWN = 2.0  # times as many pictures as were there when the map was drawn

__all__ = ["Map", "MapReport", "Point"]


@dataclass(frozen=True, slots=True)
class MapReport:
    """What an update did."""

    pictures: int  # different ones: copies of a file share a place
    drawn: bool  # the whole map; else what was there stayed
    placed: int  # pictures that got a place
    drawn_from: int  # pictures there were when the map was drawn
    outgrown: bool  # more than twice as many are there now: drawn anew it would show more


class Map:
    """The map of one library."""

    def __init__(self, catalog: Catalog, vectors: Vectors) -> None:
        self._catalog = catalog
        self._vectors = vectors

    # --- looking

    def points(self) -> list[Point]:
        """Every photo that has a place, by number; none where no map was drawn yet."""
        return rows.read_points(self._catalog)

    def version(self) -> str:
        """Another text each time that places came or changed; empty where there is no map."""
        return self._catalog.settings().get("map_version", "")

    def missing(self) -> int:
        """How many photos have no place yet."""
        return rows.count_missing(self._catalog)

    def outgrown(self) -> bool:
        """Whether the library has more than doubled since its map was drawn."""
        drawn_from = int(self._catalog.settings().get("map_drawn_from", 0))
        return 0 < _OUTGROWN * drawn_from < rows.count_pictures(self._catalog)

    # --- drawing

    def update(
        self,
        *,
        anew: bool = False,
        seed: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> MapReport:
        """Draw the map if there is none; else place what has none yet, and move nothing.

        anew: draw it in any case. seed: the same library, drawn with the same seed, gives the same
        map, as long as it uses as many threads.
        progress: called with what is done, how much of it, of how much.

        Raises LibraryError if there are no photos.
        """
        from retrieval.projection import place, project

        def tell(what: str) -> Callable[[int, int], None] | None:
            return progress and (lambda done, total: progress(what, done, total))

        settings = self._catalog.settings()
        version, drawn_from = settings.get("map_version"), int(settings.get("map_drawn_from", 0))
        if not anew and version and self.missing() == 0:
            pictures = rows.count_pictures(self._catalog)
            return MapReport(pictures, False, 0, drawn_from, self.outgrown())
        described = reduced(self._catalog, self._vectors, progress=tell("photos"))
        contents = described.contents
        if not len(contents):
            raise LibraryError("there are no photos to map yet: fc7 index FOLDER adds some")
        known = {} if anew else rows.read_places(self._catalog)
        old = np.isin(contents, np.array(list(known), np.int64))
        drawn = not old.any()
        if drawn:
            found = project(described.rows, seed, tell("steps"))
            drawn_from = len(contents)
        else:
            places = np.array([known[content] for content in contents[old].tolist()], np.float32)
            found = place(described.rows[~old], described.rows[old], places)
        new = contents[~old].tolist()
        with self._catalog.write(contents=False) as writer:
            alone = anew or rows.read_version(writer) == version
            if alone:
                if drawn:
                    rows.clear_places(writer)
                rows.add_places(writer, dict(zip(new, found.tolist(), strict=True)))
                writer.set(map_version=uuid.uuid4().hex, map_drawn_from=str(drawn_from))
        if not alone:  # another process drew, or placed some of these, meanwhile
            return self.update(seed=seed, progress=progress)
        return MapReport(len(contents), drawn, len(new), drawn_from, self.outgrown())
