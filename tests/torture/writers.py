"""A process that writes into a library until it is told to stop: what backups are taken under.

python -m torture.writers index|albums|codes LIBRARY FOLDER STATES STOP

FOLDER holds the photos that may come and go. Before each commit the digest of what will be the
catalogue is added to the file STATES; the process ends when the file STOP is there.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import sqlalchemy as sa

import indexer.pipeline
from indexer import Library, open_library
from indexer.coding import recode
from indexer.work import working
from retrieval.codes import Coder
from retrieval.errors import LibraryBusyError, LibraryError

WIDTH = 4096


def digest(connection: sqlite3.Connection) -> str:
    """Of all rows of all tables, as this connection sees them now: sha256 in hex."""
    found = hashlib.sha256()
    named = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
    for (table,) in connection.execute(named).fetchall():
        found.update(table.encode())
        for row in sorted(map(repr, connection.execute(f'SELECT * FROM "{table}"'))):
            found.update(row.encode())
    return found.hexdigest()


def digest_of(library: Path) -> str:
    with closing(sqlite3.connect(library / "catalog.sqlite")) as connection:
        return digest(connection)


def note_commits(states: Path) -> None:
    """Write down each state before it is committed, while nobody else can write."""

    def note(connection: sa.Connection) -> None:
        plain = connection.connection.driver_connection
        assert isinstance(plain, sqlite3.Connection)
        line = digest(plain) + "\n"
        with states.open("a") as log:
            log.write(line)

    sa.event.listen(sa.Engine, "commit", note)


def index(library: Library, folder: Path, rng: random.Random) -> None:
    """A third of the photos leaves, others come back; then a run."""
    away = folder.with_name("away")
    away.mkdir(exist_ok=True)
    here = sorted(folder.iterdir())
    for photo in rng.sample(here, len(here) // 3):
        shutil.move(photo, away)
    gone = sorted(away.iterdir())
    for photo in rng.sample(gone, len(gone) // 2):
        shutil.move(photo, folder)
    library.index([folder])


def albums(library: Library, folder: Path, rng: random.Random) -> None:
    """Albums are made, renamed, changed and merged."""
    photos = [photo.id for photo in library.photos(limit=1000)]
    known = library.albums.all(hidden=True)
    time.sleep(0.1)  # else hardly anybody else comes to write
    made = library.albums.create(f"album {rng.random()}", rng.sample(photos, len(photos) // 4))
    if known:
        other = rng.choice(known)
        library.albums.rename(other.id, f"renamed {rng.random()}")
        library.albums.hide(other.id, hidden=not other.hidden)
        if len(known) > 3:
            library.albums.merge(made.id, [other.id])


def codes(library: Library, folder: Path, rng: random.Random) -> None:
    """All codes are made anew, by a coder that nobody had before."""
    seed = np.random.default_rng(rng.getrandbits(32))
    drawn = seed.standard_normal((64, WIDTH)).astype(np.float32)
    nothing = np.zeros((0, WIDTH), np.float32)
    coder = Coder(
        mean=np.zeros(WIDTH, np.float32),
        linear=drawn,
        bias=np.zeros(64, np.float32),
        hidden=nothing,
        hidden_bias=np.zeros(0, np.float32),
        correction=np.zeros((64, 0), np.float32),
    )
    with working(library.path, "codes"):
        recode(library._catalog, library._vectors, library._coders, coder, {"bits": "64"})


WRITERS: dict[str, Callable[[Library, Path, random.Random], None]] = {
    "index": index,
    "albums": albums,
    "codes": codes,
}


def main(name: str, library: Path, folder: Path, states: Path, stop: Path) -> None:
    indexer.pipeline.BATCH = 3  # many segments, so that they are merged all the time
    note_commits(states)
    rng = random.Random(os.getpid())
    with open_library(library) as opened:
        while not stop.exists():
            try:
                WRITERS[name](opened, folder, rng)
            except LibraryBusyError:
                time.sleep(0.02)
            except LibraryError as error:
                if "it was removed" not in str(error):  # a photo, since it was listed
                    raise


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
