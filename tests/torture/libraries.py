"""What a library holds and answers, to be compared with that of a run that nothing disturbed."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from indexer import Library, open_library
from indexer.checking import check
from indexer.content_rows import hashes_of_contents
from indexer.database import bring_row_sum
from indexer.schema import MIGRATIONS
from indexer.segments import SegmentStore
from retrieval.search import read_codes, stored_ids
from torture.forking import extractor

_NEAR = 2e-3  # distances differ so much where a photo was in another batch
_BITS = 2  # so do codes
_AT_ANY_TIME = {"index.lock", "run.json"}  # they tell of runs, not of photos
_CODER = re.compile(
    r"coders/[0-9a-f]{16}\."
)  # their words are in no order, so no hash is twice the same


@dataclass(frozen=True, slots=True)
class Summary:
    """A library without its numbers: those of photos depend on which run stored them."""

    photos: dict[str, tuple[Any, ...]]  # by path
    skipped: dict[str, str]
    folders: list[str]
    answers: dict[str, dict[str, float]]  # distances of all to all
    by_codes: dict[str, dict[str, float]]
    labels: dict[str, list[tuple[str, float]]]
    albums: list[tuple[Any, ...]]
    codes: dict[str, bytes]  # by content
    thumbnails: dict[str, str]  # their hashes, by content
    files: list[str]  # of the library's folder, but for segments
    left_over: list[str]  # what the catalogue doesn't name, of segments and thumbnails


def opened(library: Path) -> Library:
    return open_library(library, extractor=extractor())


def problems(library: Path) -> list[str]:
    """What a check of the library finds. Opens it first, as its user would."""
    with opened(library) as found:
        found.status()
    return [problem.line for problem in check(library).problems]


def summary(path: Path) -> Summary:
    with opened(path) as library:
        photos, kept = library.photos(limit=10_000), thumbnails(path)
        by_id = {photo.id: str(photo.path) for photo in photos}
        found = Summary(
            photos={
                str(p.path): (p.content_hash, p.size, p.width, p.height, p.format, p.taken_at)
                for p in photos
            },
            skipped={str(skip.path): skip.reason for skip in library.status().skipped},
            folders=[str(folder) for folder in library.status().folders],
            answers=_answers(library, "exact"),
            by_codes=_answers(library, "codes") if library.status().codes else {},
            labels={
                by_id[id_]: [(one.label, round(one.probability, 2)) for one in labels]
                for id_, labels in library.labels_of(list(by_id)).items()
            },
            albums=albums_of(library),
            codes=_codes(path, library),
            thumbnails={p.content_hash: kept.get(p.content_hash, "") for p in photos},
            files=[],
            left_over=_left_over(path, library, kept.keys()),
        )
    found.files.extend(files(path))
    return found


def _answers(library: Library, mode: Any) -> dict[str, dict[str, float]]:
    photos = library.photos(limit=10_000)
    return {
        str(photo.path): {
            str(hit.photo.path): hit.distance
            for hit in library.answer(photo.id, len(photos), mode=mode).hits
        }
        for photo in photos
    }


def albums_of(library: Library) -> list[tuple[Any, ...]]:
    """Of each its name, whether it is hidden, its cover, its photos: by their paths."""
    found = []
    for album in library.albums.all(hidden=True):
        inside = sorted(str(photo.path) for photo in library.albums.photos(album.id))
        cover = None if album.cover is None else str(library.photo(album.cover).path)
        found.append((album.name, album.hidden, cover, *inside))
    return sorted(found, key=repr)


def _codes(path: Path, library: Library) -> dict[str, bytes]:
    """Read from the files, as the catalogue names them."""
    catalog = library._catalog
    coder = catalog.settings().get("coder")
    if coder is None:
        return {}
    store, found = SegmentStore(path / "segments"), {}
    for segment in catalog.segments():
        hashes = dict(catalog.contents_of([segment.name], live=True))
        rows = read_codes(store.codes_path(segment.name, coder))
        for id_, row in zip(stored_ids(store.path(segment.name)).tolist(), rows, strict=True):
            if id_ in hashes:
                found[hashes[id_]] = row.tobytes()
    return found


def thumbnails(path: Path) -> dict[str, str]:
    file = path / "thumbnails.sqlite"
    if not file.exists():
        return {}
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT hash, jpeg FROM thumbnails")
        return {hash_: hashlib.sha256(jpeg).hexdigest() for hash_, jpeg in rows}


def _left_over(path: Path, library: Library, thumbnails: Collection[str]) -> list[str]:
    catalog = library._catalog
    unknown = [f"thumbnail {one}" for one in set(thumbnails) - hashes_of_contents(catalog)]
    coder = catalog.settings().get("coder", "")
    named = [Path(segment.name).stem for segment in catalog.segments()]
    known = {f"{name}.faiss" for name in named} | {f"{name}.{coder}.codes" for name in named}
    there = {file.name for file in (path / "segments").iterdir()}
    return sorted(unknown + [("no " if name in known else "") + name for name in there ^ known])


def files(path: Path) -> list[str]:
    """The files of a library that is closed."""
    found = (str(one.relative_to(path)) for one in path.rglob("*") if one.is_file())
    kept = (name for name in found if name not in _AT_ANY_TIME and "segments/" not in name)
    return sorted(_CODER.sub("coders/#.", name) for name in kept)


def differences(found: Summary, expected: Summary) -> list[str]:
    """In what two libraries differ, a line each."""
    lines = []
    for name in (
        "photos",
        "skipped",
        "folders",
        "labels",
        "albums",
        "thumbnails",
        "files",
        "left_over",
    ):
        if getattr(found, name) != getattr(expected, name):
            lines.append(f"{name}: {getattr(found, name)} instead of {getattr(expected, name)}")
    for mode in ("answers", "by_codes"):
        ours, theirs = getattr(found, mode), getattr(expected, mode)
        for path in ours.keys() | theirs.keys():
            mine, other = ours.get(path, {}), theirs.get(path, {})
            near = mine.keys() == other.keys() and all(
                abs(mine[hit] - other[hit]) < _NEAR for hit in mine
            )
            if not near:
                lines.append(f"{mode} of {path}: {mine} instead of {other}")
    for hash_ in found.codes.keys() | expected.codes.keys():
        pair = [np.frombuffer(s.codes.get(hash_, b""), np.uint8) for s in (found, expected)]
        if pair[0].shape != pair[1].shape or np.unpackbits(pair[0] ^ pair[1]).sum() > _BITS:
            lines.append(f"the code of {hash_}")
    return lines


def draw(path: Path, seed: int) -> Path:
    """Draw a small picture that no other seed gives."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize((48, 40), Image.Resampling.BICUBIC).save(path)
    return path


def make_old(library: Path, version: int) -> None:
    """Give a closed library the catalogue that an fc7 of this schema would have made of it."""
    import sqlalchemy as sa

    new, old = library / "catalog.sqlite", library / "old.sqlite"
    engine = sa.create_engine(f"sqlite:///{old}")
    sa.event.listen(engine, "connect", bring_row_sum)
    with engine.begin() as connection:
        for migration in MIGRATIONS[:version]:
            migration(connection)
    engine.dispose()
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        bring_row_sum(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("ATTACH ? AS new", [str(new)])
        connection.execute("BEGIN")
        names = [n for (n,) in connection.execute("SELECT name FROM main.sqlite_master "
                 "WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]  # fmt: skip
        for name in [*names, "sqlite_sequence"]:
            columns = ", ".join(
                f'"{row[1]}"' for row in connection.execute(f"PRAGMA main.table_info({name})")
            )
            connection.execute(
                f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM new.{name}"
            )
        connection.execute("DELETE FROM main.sqlite_sequence WHERE name NOT IN "
                           "(SELECT name FROM main.sqlite_master)")  # fmt: skip
        connection.execute("COMMIT")
    for file in library.glob("catalog.sqlite*"):
        file.unlink()
    old.rename(new)
