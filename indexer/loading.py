"""Filling a library from the shards of a run that many machines made: `fc7 load`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer.catalog import Catalog, FileStat, NewContent, Skip
from indexer.run import remember
from indexer.spreading import missing
from indexer.storing import Described, Items, Read, Store
from indexer.vectors import Vectors
from retrieval.errors import LibraryError, ShardsError

if TYPE_CHECKING:
    from indexer.engines.shards import RunHeader, Shard


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What loading did. Counts of files."""

    added: int
    updated: int
    unchanged: int
    skipped: int  # that gave no picture: the library knows them now
    shards: int  # that were loaded
    missing: int  # shards that are not made yet: their files are not here
    remote: bool  # some photos are at addresses: the library shows their thumbnails only
    unreadable: tuple[tuple[str, str], ...]  # (folder, why): they were not in the plan

    def counts(self) -> dict[str, int]:
        """What is counted, by name."""
        names = ("added", "updated", "unchanged", "skipped")
        return {name: getattr(self, name) for name in names}


def load_shards(
    shards: str,
    catalog: Catalog,
    vectors: Vectors,
    use_coder: Callable[[], None],
    store: Store,
    progress: Callable[[int, int], None],
) -> LoadReport:
    """Do what `Library.load` says. The caller holds the library's lock.

    use_coder: called once the library has a model.
    """
    try:
        from indexer.engines.places import Place, is_remote
        from indexer.engines.shards import committed, read_header, read_shard
    except ModuleNotFoundError as error:
        raise missing("fc7 load", error) from error

    place = Place(shards)
    header = read_header(place)
    if header is None:
        raise ShardsError(
            f"no run in {place.address}: fc7 index FOLDER --engine ray --shards {shards} makes one"
        )
    _claim(catalog, header)
    use_coder()
    vectors.sweep(catalog)
    remember(catalog, [Path(folder) for folder in header.folders if not is_remote(folder)])
    found, skipped, done = committed(place), 0, 0
    for _, commit in sorted(found.items()):
        shard = read_shard(place, header, commit)
        store.commit(_items(shard), _described(shard))
        skipped += len(shard.skipped)
        done += commit.files
        progress(done, header.files)
    with catalog.write(contents=False) as writer:
        writer.set(last_run=datetime.now(UTC).isoformat(timespec="seconds"))
    return LoadReport(
        added=store.counts["added"],
        updated=store.counts["updated"],
        unchanged=store.counts["unchanged"],
        skipped=skipped,
        shards=len(found),
        missing=header.shards - len(found),
        remote=any(is_remote(folder) for folder in header.folders),
        unreadable=tuple((folder, why) for folder, why in header.unreadable),
    )


def _claim(catalog: Catalog, header: RunHeader) -> None:
    """A new library takes the run's model; an old one must be of the same."""
    settings = catalog.settings()
    if "stamp" not in settings:
        with catalog.write() as writer:
            writer.set(network=header.network, weights=header.weights, stamp=header.stamp)
            writer.set(classes=json.dumps(header.classes))
    elif settings["stamp"] != header.stamp:
        raise LibraryError(
            f"the library is of {settings['network']} ({settings['weights']}), the shards are of "
            f"{header.network} ({header.weights}): load them into another with --library"
        )


def _items(shard: Shard) -> Items:
    items: list[tuple[FileStat, Read | Skip]] = [
        (stat, Skip(Path(stat.path), reason)) for stat, reason in shard.skipped
    ]
    for stat, hash_ in zip(shard.stats, shard.hashes, strict=True):
        items.append((stat, Read(stat, hash_, None)))
    return items


def _described(shard: Shard) -> Described | None:
    """The contents of a shard, each once."""
    first = list({hash_: at for at, hash_ in reversed(list(enumerate(shard.hashes)))}.values())
    if not first:
        return None
    contents = [
        NewContent(shard.hashes[at], shard.infos[at] | {"norm": shard.norms[at]}, shard.labels[at])
        for at in first
    ]
    fc7 = shard.fc7[np.array(first)]
    return Described(contents, fc7, [shard.thumbnails[at] for at in first])
