"""Statements that mend rows of the catalogue; see `indexer.repairing`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from indexer import schema as t  # t: the tables
from indexer.catalog import Catalog, NewContent, Writer

# Settings that the next run or search makes again.
_MADE_AGAIN = ("last_run", "shortlist", "shortlist_recall", "shortlist_rows")


def make_indexes(catalog: Catalog) -> None:
    """Make the indexes anew from the rows."""
    with catalog.write() as writer:
        writer.execute(sa.text("REINDEX"))


def remove_rows(writer: Writer, table: str, rows: Sequence[int]) -> None:
    """Those with these rowids."""
    for row in rows:
        writer.execute(sa.text(f"DELETE FROM {table} WHERE rowid = :row"), {"row": row})


def accept_rows(writer: Writer, table: str, rows: Sequence[int]) -> None:
    """Take rows for what they say now: a trigger gives them their checksums."""
    column = next(iter(t.tables.tables[table].columns)).name
    for row in rows:
        statement = f"UPDATE {table} SET {column} = {column} WHERE rowid = :row"
        writer.execute(sa.text(statement), {"row": row})


def read_again(writer: Writer, photos: Sequence[int]) -> None:
    """Have the next run read the files of these photos, whatever their size and time."""
    for photo in photos:
        statement = sa.update(t.photos).where(t.photos.c.id == photo)
        writer.execute(statement.values(size=-1, mtime_ns=0))


def remove_passing_settings(writer: Writer, rows: Sequence[int]) -> None:
    """Remove those of these settings that are made again."""
    for row in rows:
        writer.execute(
            sa.delete(t.settings).where(
                sa.literal_column("rowid") == row, t.settings.c.key.in_(_MADE_AGAIN)
            )
        )


def short_of_labels(catalog: Catalog) -> list[int]:
    """The contents with fewer labels than others."""
    count = (
        sa.select(sa.func.count())
        .where(t.labels.c.content == t.contents.c.id)
        .scalar_subquery()
        .label("labels")
    )
    rows = catalog.rows(sa.select(t.contents.c.id, count))
    most = max((row.labels for row in rows), default=0)
    return [row.id for row in rows if row.labels < most]


def segments_of(catalog: Catalog, contents: Collection[int]) -> set[str]:
    """The segments that the rows of these contents are in."""
    rows = catalog.rows(sa.select(t.contents.c.id, t.contents.c.segment))
    return {row.segment for row in rows if row.id in contents}


def contents_of(catalog: Catalog, hashes: Collection[str]) -> list[int]:
    """The contents of these hashes."""
    rows = catalog.rows(sa.select(t.contents.c.id, t.contents.c.hash))
    return [row.id for row in rows if row.hash in hashes]


def without_segment(catalog: Catalog) -> list[int]:
    """The contents whose segment isn't listed."""
    query = sa.select(t.contents.c.id).where(
        ~sa.exists().where(t.segments.c.name == t.contents.c.segment)
    )
    return [row.id for row in catalog.rows(query)]


def put_contents(
    writer: Writer, ids: Sequence[int], segment: str, contents: Sequence[NewContent]
) -> None:
    """Write over what was known of these contents."""
    for id_, content in zip(ids, contents, strict=True):
        writer.execute(sa.delete(t.labels).where(t.labels.c.content == id_))
        values = {"hash": content.hash, "segment": segment, **content.columns}
        writer.execute(sa.update(t.contents).where(t.contents.c.id == id_).values(values))
        labels = [
            {"content": id_, "rank": rank, "label": label, "probability": probability}
            for rank, (label, probability) in enumerate(content.labels, start=1)
        ]
        if labels:
            writer.execute(sa.insert(t.labels), labels)
