"""Groups of photos: how they are asked for, and how they are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from indexer.album_rows import Fact
from indexer.catalog import Catalog
from indexer.descriptors import reduced
from indexer.vectors import Vectors
from retrieval.errors import LibraryError


@dataclass(frozen=True, slots=True)
class Grouping:
    """How photos are grouped; it is kept, and used again when photos have come."""

    number: int | None = None  # of albums, by k-means; None: by density, as many as there are
    granularity: float = 0.5  # by density: from 0, few big albums, to 1, many small ones
    time: bool = False  # photos of one occasion belong together
    place: bool = False  # those of one place too

    def __post_init__(self) -> None:
        """Raises LibraryError for what can't be."""
        if self.number is not None and self.number < 1:
            raise LibraryError(f"{self.number} albums were asked for: ask for 1 or more")
        if not 0 <= self.granularity <= 1:
            raise LibraryError(
                f"a granularity of {self.granularity:g}: give 0 (few big albums) to 1 (many small)"
            )
        if self.number is not None and (self.time or self.place):
            raise LibraryError("time and place need grouping by density: leave the number away")


def find_groups(
    catalog: Catalog,
    vectors: Vectors,
    facts: Mapping[int, Fact],
    how: Grouping,
    progress: Callable[[int, int], None] | None,
) -> list[frozenset[int]]:
    """The photos of each group, the largest first.

    facts: of the photos that count. progress: called with (descriptors read, of how many).

    Raises LibraryError if there are fewer photos than albums asked for.
    """
    from retrieval.clustering import Occasion, group_by_density, group_by_kmeans

    described = reduced(catalog, vectors, progress=progress)
    of_content: dict[int, list[int]] = {}
    for photo, fact in facts.items():
        of_content.setdefault(fact.content, []).append(photo)
    here = np.isin(described.contents, np.array(list(of_content), np.int64))
    contents, short = described.contents[here].tolist(), described.rows[here]
    if how.number is not None:
        if how.number > len(contents):
            raise LibraryError(
                f"{how.number:,} albums of {len(contents):,} different photos: ask for fewer"
            )
        found = group_by_kmeans(short, how.number)
    else:
        first = [facts[of_content[content][0]] for content in contents]
        occasion = Occasion(
            np.array([_seconds(fact.taken_at) for fact in first]) if how.time else None,
            np.array([_degrees(fact) for fact in first]) if how.place else None,
        )
        wanted = occasion if how.time or how.place else None
        found = group_by_density(short, how.granularity, wanted)
    groups: list[set[int]] = [set() for _ in range(int(found.max(initial=-1)) + 1)]
    for content, group in zip(contents, found.tolist(), strict=True):
        if group >= 0:
            groups[group].update(of_content[content])
    return [frozenset(group) for group in groups]


def _seconds(taken_at: str | None) -> float:
    """By the camera's own clock: what belongs together was mostly taken by one camera."""
    if taken_at is None:
        return float("nan")
    clock = datetime.fromisoformat(taken_at).replace(tzinfo=None)
    return (clock - datetime(1970, 1, 1)).total_seconds()


def _degrees(fact: Fact) -> tuple[float, float]:
    if fact.latitude is None or fact.longitude is None:
        return float("nan"), float("nan")
    return fact.latitude, fact.longitude
