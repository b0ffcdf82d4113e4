"""What the network saw in the photos, as it is stored: five labels a content."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from indexer import schema as t  # t: the tables
from indexer.catalog import Catalog, Photo, photo_of, photo_query
from indexer.conditions import conditions_of, in_parts
from indexer.database import AtMax
from indexer.filters import Filters


def labels_of(catalog: Catalog, content: int) -> list[tuple[str, float]]:
    query = sa.select(t.labels).where(t.labels.c.content == content).order_by("rank")
    return [(row.label, row.probability) for row in catalog.rows(query)]


def labels_of_photos(catalog: Catalog, photos: Sequence[int]) -> dict[int, list[tuple[str, float]]]:
    """The labels of photos, by photo, likeliest first."""
    found: dict[int, list[tuple[str, float]]] = {photo: [] for photo in photos}
    query = (
        sa.select(t.photos.c.id, t.labels)
        .join(t.labels, t.labels.c.content == t.photos.c.content)
        .order_by(t.labels.c.rank)
    )
    for part in in_parts(photos):
        for row in catalog.rows(query.where(t.photos.c.id.in_(part))):
            found[row.id].append((row.label, row.probability))
    return found


def labelled(
    catalog: Catalog, labels: Sequence[str], k: int, filters: Filters, offset: int = 0
) -> list[tuple[Photo, str, float]]:
    """The k photos that likeliest have one of these labels, and which; equals by path.

    offset: so many of the likeliest are passed over.
    """
    c = t.labels.c
    best = (
        sa.select(
            c.content,
            AtMax(c.label, c.probability).label("label"),
            sa.func.max(c.probability).label("probability"),
        )
        .where(c.label.in_(labels))
        .group_by(c.content)
        .subquery()
    )
    query = (
        photo_query()
        .add_columns(best.c.label, best.c.probability)
        .join(best, best.c.content == t.photos.c.content)
        .where(*conditions_of(filters, catalog))
        .order_by(best.c.probability.desc(), t.photos.c.path)
        .offset(offset)
        .limit(k)
    )
    return [(photo_of(row), row.label, row.probability) for row in catalog.rows(query)]
