"""What the photos of a library can be narrowed by: their folders, cameras, classes and dates."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from indexer import schema as t
from indexer.catalog import Catalog
from indexer.conditions import known_labels
from indexer.database import AtMax, Unindexed

LIKELY = 0.05  # a class with less is not counted


@dataclass(frozen=True, slots=True)
class Facets:
    """Values that some photo has."""

    folders: tuple[tuple[Path, int], ...]  # with the photos in and below each, by path
    cameras: tuple[tuple[str, int], ...]  # with their photos, the commonest first
    labels: Mapping[str, int]  # photos for which the class is likely enough, the commonest first
    best: Mapping[str, int]  # of each of these classes the photo that shows it likeliest
    classes: tuple[str, ...]  # all that the network tells apart; in an old library, those it saw
    first: str | None  # ISO 8601 dates of the oldest and the newest photo
    last: str | None


def read_facets(catalog: Catalog) -> Facets:
    c, p = t.contents.c, t.photos.c
    count = sa.func.count().label("n")
    joined = sa.select(c.camera, count).join(t.photos, p.content == c.id)
    cameras = (
        joined.where(c.camera.is_not(None)).group_by(c.camera).order_by(count.desc(), c.camera)
    )
    # Where the index of labels served the grouping, each photo would be looked up out of order.
    label, probability = t.labels.c.label, t.labels.c.probability
    best = AtMax(p.id, probability).label("id")
    labelled = (
        sa.select(label, count, sa.func.max(probability), best)
        .select_from(t.photos)
        .join(t.labels, p.content == t.labels.c.content)
        .where(probability >= LIKELY)
        .group_by(Unindexed(label))
        .order_by(count.desc(), label)
    )
    seen = catalog.rows(labelled)
    stored = catalog.settings().get("classes")
    ends = sa.select(sa.func.min(c.taken_at).label("first"), sa.func.max(c.taken_at).label("last"))
    (dates,) = catalog.rows(ends.join(t.photos, p.content == c.id))
    return Facets(
        folders=_folders([row.path for row in catalog.rows(sa.select(p.path))], catalog.folders()),
        cameras=tuple((row.camera, row.n) for row in catalog.rows(cameras)),
        labels={row.label: row.n for row in seen},
        best={row.label: row.id for row in seen},
        classes=tuple(json.loads(stored) if stored else known_labels(catalog)),
        first=dates.first and dates.first[:10],
        last=dates.last and dates.last[:10],
    )


def _folders(photos: Sequence[str], indexed: Sequence[Path]) -> tuple[tuple[Path, int], ...]:
    """Every folder with photos in or below it, from those that were indexed on."""
    inside = Counter(photo.rpartition(os.sep)[0] or os.sep for photo in photos)
    below: Counter[Path] = Counter()
    for folder, own in ((Path(name), own) for name, own in inside.items()):
        for place in (folder, *folder.parents):
            below[place] += own
            if place in indexed:
                break
    return tuple(sorted(below.items()))
