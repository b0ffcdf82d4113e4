"""The library's coder: which one makes its codes, and making all codes anew with another.

LIBRARY/coders/<name>.safetensors   coders by the first digits of their sha256

The catalogue's setting `coder` says which one counts. A recode writes the coder and the codes of
every segment aside, and then changes that one setting: cut off before, the old codes are whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog
from indexer.inside import checked_name
from indexer.moments import at_one_moment
from indexer.segments import file_sha256
from indexer.syncing import make_folder, sync
from indexer.vectors import Blocks, Vectors
from retrieval.codes import Coder, read_coder, shipped_coder, write_coder
from retrieval.errors import CodesError

LEAST = 1000  # descriptors; fewer teach a coder nothing that the bundled one doesn't know
SAMPLE = 50_000  # descriptors to learn from, 400 MB


class CoderStore:
    """The folder of a library's coders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Raises LibraryError for a name that may lead elsewhere."""
        return self._folder / f"{checked_name(name, self._folder)}.safetensors"

    def read(self, name: str) -> Coder:
        """Raises CodesError if it is missing or damaged."""
        return read_coder(self.path(name))[0]

    def intact(self, name: str) -> Coder:
        """`read`, if it is as it was stored; CodesError if not."""
        coder = self.read(name)
        if not file_sha256(self.path(name)).startswith(name):
            raise CodesError(f"{self.path(name)} changed by itself")
        return coder

    def put(self, coder: Coder, about: dict[str, str]) -> str:
        """Store a coder; return its name. It is on disk by then."""
        make_folder(self._folder)
        partial = self._folder / "coder.partial"
        write_coder(partial, coder, about)
        name = file_sha256(partial)[:16]
        sync(partial)
        partial.replace(self.path(name))
        sync(self._folder)
        return name

    def sweep(self, name: str) -> None:
        """Remove all others."""
        for file in self._folder.iterdir():
            if file != self.path(name):
                file.unlink()


def use_coder(catalog: Catalog, vectors: Vectors, coders: CoderStore) -> None:
    """Write codes from now on: by the library's own coder, else by the one that fc7 brings.

    It also takes the place of one that is damaged; the codes are then made anew.
    """
    settings = catalog.settings()
    damage = None
    if "coder" in settings:
        try:
            vectors.use(settings["coder"], coders.read(settings["coder"]))
            coders.sweep(settings["coder"])
            return
        except CodesError as error:
            damage = error
    if "stamp" in settings:
        brought = shipped_coder(settings["network"], settings["stamp"])
        if brought is not None:
            recode(catalog, vectors, coders, *brought)
        elif damage is not None:
            raise damage


def recode(
    catalog: Catalog,
    vectors: Vectors,
    coders: CoderStore,
    coder: Coder,
    about: dict[str, str],
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Make this coder the library's, and all its codes anew; return its name.

    progress: called with (rows coded, rows).
    """
    name = coders.put(coder, about)
    vectors.use(name, coders.read(name))  # as it will be read: in half precision
    known = catalog.segments()
    done, coded = 0, []
    for segment in known:
        coded.append(replace(segment, codes_sha256=vectors.encode(segment.name)))
        done += segment.rows
        if progress:
            progress(done, sum(one.rows for one in known))
    with catalog.write() as writer:
        writer.set(coder=name, **{f"coder_{key}": value for key, value in about.items()})
        writer.set(**vectors.marks())
        writer.put_sums(coded)
    vectors.sweep(catalog)
    coders.sweep(name)
    return name


def sample(
    catalog: Catalog, vectors: Vectors, seed: int, most: int = SAMPLE
) -> NDArray[np.float16]:
    """Descriptors (n, d) of the library to learn from, by id: all, or `most` drawn at random.

    Raises CodesError if there are fewer than 1,000.
    """

    def open_at(view: Catalog) -> tuple[NDArray[np.int64], Blocks]:
        return np.array(view.live_contents(), np.int64), vectors.blocks(view)

    contents, blocks = at_one_moment(catalog, open_at)
    if len(contents) < LEAST:
        raise CodesError(
            f"{len(contents):,} photos are too few to learn codes from: index {LEAST:,} or more; "
            "until then the codes that came with fc7 serve"
        )
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(contents, min(len(contents), most), replace=False))
    return chosen_rows(blocks, chosen)


def chosen_rows(blocks: Blocks, chosen: NDArray[np.int64]) -> NDArray[np.float16]:
    """The descriptors (n, d) of some contents (n,), in their order; reads all, holds these."""
    found = [
        (ids[kept], np.asarray(rows[kept], np.float16))
        for ids, rows in blocks
        if (kept := np.isin(ids, chosen)).any()
    ]
    ids, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(ids)
    return rows[order[np.searchsorted(ids[order], chosen)]]
