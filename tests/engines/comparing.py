"""Two libraries of the same photos, one indexed here and one loaded from shards: row by row."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from indexer.catalog import Catalog
from indexer.engines.places import Place
from indexer.engines.shards import committed, planned_files, read_header, read_shard
from indexer.label_rows import labels_of
from indexer.segments import SegmentStore
from retrieval.search import stored_ids, stored_rows

# What another batch changes where the processor has bfloat16 (tests/test_extractor.py), and
# what that does to the numbers computed from it.
FC7_DISTANCE = 0.02
NORM = 0.02  # relative
PROBABILITY = 0.03


def rows_of(library: Path) -> dict[str, dict[str, Any]]:
    """All that a library knows of each photo, by path."""
    catalog = Catalog(library / "catalog.sqlite")
    segments = SegmentStore(library / "segments")
    fc7: dict[int, Any] = {}
    for segment in catalog.segments():
        stored = segments.path(segment.name)
        fc7.update(zip(stored_ids(stored).tolist(), stored_rows(stored), strict=True))
    with closing(sqlite3.connect(library / "thumbnails.sqlite")) as connection:
        thumbnails = dict(connection.execute("SELECT hash, jpeg FROM thumbnails"))
    with closing(sqlite3.connect(library / "catalog.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        query = "SELECT p.path, p.size, p.mtime_ns, c.* FROM photos p JOIN contents c "
        found = {}
        for row in connection.execute(query + "ON c.id = p.content"):
            columns = dict(row)
            content = columns.pop("id")
            for name in ("segment", "indexed_at", "checksum"):  # which is of these two as well
                del columns[name]
            columns["fc7"] = fc7[content]
            columns["labels"] = labels_of(catalog, content)
            columns["thumbnail"] = thumbnails[columns["hash"]]
            found[os.fsdecode(columns.pop("path"))] = columns
    catalog.close()
    return found


def skips_of(library: Path) -> dict[str, tuple[int, int, str]]:
    with closing(sqlite3.connect(library / "catalog.sqlite")) as connection:
        query = "SELECT path, size, mtime_ns, reason FROM skipped"
        return {os.fsdecode(path): tuple(rest) for path, *rest in connection.execute(query)}


def check_same(ours: Path, theirs: Path) -> dict[str, float]:
    """Assert that two libraries hold the same; return how far their descriptors are apart."""
    one, other = rows_of(ours), rows_of(theirs)
    assert one.keys() == other.keys()
    assert skips_of(ours) == skips_of(theirs)
    distances = []
    for path, row in one.items():
        distances.append(check_same_photo(row, other[path]))
    return {"photos": len(one), "largest distance": float(max(distances, default=0))}


def check_same_photo(row: dict[str, Any], other: dict[str, Any]) -> float:
    told = {"fc7", "norm", "labels"}
    assert {k: v for k, v in row.items() if k not in told} == {
        k: v for k, v in other.items() if k not in told
    }
    distance = float(np.linalg.norm(row["fc7"].astype(float) - other["fc7"].astype(float)))
    assert distance < FC7_DISTANCE
    assert abs(row["norm"] - other["norm"]) <= NORM * row["norm"]
    check_same_labels(dict(row["labels"]), dict(other["labels"]))
    return distance


def check_same_labels(one: dict[str, float], other: dict[str, float]) -> None:
    """Five each; only classes as unlikely as the fifth may differ."""
    assert len(one) == len(other) == 5
    for label in one.keys() | other.keys():
        first, second = (own.get(label, min(own.values())) for own in (one, other))
        assert abs(first - second) < PROBABILITY, label


def check_exactly_once(shards: Path) -> int:
    """Assert that the shards that count hold each planned file once; return how many there are."""
    place = Place(str(shards))
    header = read_header(place)
    assert header is not None
    planned = [stat.path for n in range(header.shards) for stat in planned_files(place, header, n)]
    found: Counter[str] = Counter()
    for commit in committed(place).values():
        shard = read_shard(place, header, commit)
        found.update(stat.path for stat in shard.stats)
        found.update(stat.path for stat, _ in shard.skipped)
    assert found == Counter(planned)
    assert set(found.values()) == {1}
    return len(found)
