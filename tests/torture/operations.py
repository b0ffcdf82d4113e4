"""What is done to a library while it is killed, or its disk fails: each prepared, done, finished.

An operation works in a folder: `library/` is the library, `photos/` are the photos that it is to
be brought in step with. All of it may be copied, but the photos stay where they are.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import indexer.pipeline
import indexer.segments
from indexer.coding import recode
from indexer.work import working
from retrieval.codes import Coder
from torture.forking import begin
from torture.libraries import albums_of, draw, make_old, opened

BATCH = 2  # photos a commit: small libraries, many commits


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    prepare: Callable[[Path], None]  # make library/ and photos/ in a folder
    do: Callable[[Path, Path], None]  # to a library, with those photos; twice is as good as once


def operation(name: str) -> Operation:
    return next(one for one in OPERATIONS if one.name == name)


def prepare(name: str, folder: Path) -> None:
    operation(name).prepare(folder)


def do(name: str, library: Path, photos: Path) -> None:
    begin()
    operation(name).do(library, photos)


def _index(library: Path, photos: Path) -> None:
    indexer.pipeline.BATCH = BATCH
    with opened(library) as found:
        found.index([photos])


def _draw_all(photos: Path, count: int) -> list[Path]:
    return [draw(photos / f"{seed:02}.png", seed) for seed in range(count)]


def _nothing(folder: Path) -> None:
    """A new library, of a folder of photos: enough batches for a merge."""
    _draw_all(folder / "photos", 8 * BATCH + 1)
    (folder / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")


def _changed(folder: Path) -> None:
    photos = folder / "photos"
    drawn = _draw_all(photos, 12)
    _index(folder / "library", photos)
    for number, photo in enumerate(drawn[:3]):
        draw(photo, 100 + number)
    for photo in drawn[3:6]:
        photo.rename(photo.with_name(f"moved-{photo.name}"))
    for photo in drawn[6:8]:
        photo.unlink()
    for seed in range(200, 204):
        draw(photos / "new" / f"{seed}.png", seed)
    drawn[8].write_bytes(b"no picture any more")
    (photos / "copy.png").write_bytes(drawn[9].read_bytes())


def _scattered(folder: Path) -> None:
    """Seven small segments, of which most photos will be gone, and one that is to come."""
    photos = folder / "photos"
    drawn = _draw_all(photos, 7 * BATCH)
    _index(folder / "library", photos)
    for photo in drawn[: 5 * BATCH]:
        photo.unlink()
    draw(photos / "new.png", 300)


def _indexed(folder: Path) -> None:
    _draw_all(folder / "photos", 10)
    _index(folder / "library", folder / "photos")


def _recode(library: Path, _photos: Path) -> None:
    rng = np.random.default_rng(0)
    d, bits = 4096, 64
    coder = Coder(
        mean=np.zeros(d, np.float32),
        linear=rng.standard_normal((bits, d)).astype(np.float32),
        bias=np.zeros(bits, np.float32),
        hidden=np.zeros((0, d), np.float32),
        hidden_bias=np.zeros(0, np.float32),
        correction=np.zeros((bits, 0), np.float32),
    )
    about = {"bits": str(bits), "learned_from": "10", "source": "library"}
    with opened(library) as found, working(library, "codes"):  # as Library.train_codes
        recode(found._catalog, found._vectors, found._coders, coder, about)


def _grouped(folder: Path) -> None:
    _indexed(folder)
    with opened(folder / "library") as library:
        ids = sorted(photo.id for photo in library.photos())
        library.albums.create("sea", ids[:4])
        library.albums.create("hills", ids[4:8])
    copy = folder / "copy"
    shutil.copytree(folder / "library", copy)
    states = [_albums(copy)]
    for edit in edits():
        edit(copy)
        states.append(_albums(copy))
    (folder / "states").write_bytes(pickle.dumps(states))
    shutil.rmtree(copy)


def edits() -> list[Callable[[Path], None]]:
    """What a person does to albums, one after another. Each happens at once, or not at all."""

    def edit(change: Callable[..., object]) -> Callable[[Path], None]:
        def go(path: Path) -> None:
            with opened(path) as library:
                ids = sorted(photo.id for photo in library.photos())
                albums = library.albums
                numbers = {album.name: album.id for album in albums.all(hidden=True)}
                change(albums, numbers, ids)

        return go

    return [
        edit(lambda a, n, ids: a.rename(n["sea"], "the sea")),
        edit(lambda a, n, ids: a.move(ids[3:6], n["hills"])),
        edit(lambda a, n, ids: a.remove(ids[6:7], n["hills"])),
        edit(lambda a, n, ids: a.create("best of", ids[7:])),
        edit(lambda a, n, ids: a.hide(n["best of"])),
        edit(lambda a, n, ids: a.merge(n["hills"], [n["the sea"]])),
        edit(lambda a, n, ids: a.group()),
    ]


def _edit(library: Path, photos: Path) -> None:
    """Do the edits that are not done yet. Raises ValueError if one is done in part."""
    states = pickle.loads((photos.parent / "states").read_bytes())  # noqa: S301 - our own
    for one in edits()[states.index(_albums(library)) :]:
        one(library)


def _albums(library: Path) -> list[tuple[object, ...]]:
    with opened(library) as found:
        return albums_of(found)


def _old(version: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        _indexed(folder)
        make_old(folder / "library", version)

    return make


def _open(library: Path, _photos: Path) -> None:
    with opened(library) as found:
        found.status()


OPERATIONS = (
    Operation("index", _nothing, _index),
    Operation("update", _changed, _index),
    Operation("recode", _indexed, _recode),
    Operation("compaction", _scattered, _index),
    Operation("album edits", _grouped, _edit),
    Operation("migration of schema 1", _old(1), _open),
    Operation("migration of schema 2", _old(2), _open),
    Operation("migration of schema 3", _old(3), _open),
)
