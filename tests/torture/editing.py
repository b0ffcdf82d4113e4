"""Two at once edit the albums of one library, while it is grouped and photos come and go."""

from __future__ import annotations

import os
import random
import shutil
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import indexer.pipeline
from indexer import Library, open_library
from retrieval.errors import LibraryError
from torture.changing import damage_of

SHARED = "both"  # the album that both put photos into and take photos out of
_NOT_THERE = ("there is no album", "no photo ")


@dataclass(frozen=True, slots=True)
class Edits:
    """What one of them did, and how it should look where nobody else has a say."""

    edits: int
    put: frozenset[int]  # photos into the shared album
    taken: frozenset[int]  # out of it
    own: frozenset[int]  # photos of an album that it made, and that nobody else knows
    last_name: str  # that it gave the album whose name both change
    errors: tuple[str, ...]


def edit_by_two(home: Path, pool: Sequence[Path], edits: int) -> tuple[int, list[str]]:
    """How many edits were made, and what was lost or went wrong.

    Each editor is a process with photos of its own to move about. What both touch is one album,
    that holds all that was put into it and not taken out, whoever did it, and one name, which is
    the last that one of them gave.
    """
    folder = home / "photos"
    folder.mkdir(parents=True)
    for photo in pool:
        shutil.copy(photo, folder)
    path, over = home / "library", home / "over"
    with open_library(path) as library:
        library.index([folder])
        photos = [photo.id for photo in library.photos(limit=10_000)]
        shared, named = library.albums.create(SHARED, []), library.albums.create("named", [])
        with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as processes:
            both = [
                processes.submit(edit, path, photos[one::2], shared.id, named.id, edits, one)
                for one in range(2)
            ]
            others = [
                processes.submit(come_and_go, path, home / "more", list(pool), over),
                processes.submit(group_on, path, over),
            ]
            for job in both:
                job.exception()
            over.touch()
            done = [job.result() for job in both]
            errors = [line for job in others for line in job.result()]
        errors += [line for one in done for line in one.errors]
        errors += damage_of(path) + lost_edits(library, shared.id, named.id, done)
    return sum(one.edits for one in done), errors


def lost_edits(library: Library, shared: int, named: int, done: Sequence[Edits]) -> list[str]:
    """What is not in the end as the two left it."""
    found = []
    albums = {album.name: album.id for album in library.albums.all(hidden=True)}
    inside = {photo.id for photo in library.albums.photos(shared)}
    for who, one in enumerate(done):
        missing, back = (one.put - one.taken) - inside, one.taken & inside
        found += [f"{len(missing)} photos that {who} put are lost"] * bool(missing)
        found += [f"{len(back)} photos that {who} took out are back"] * bool(back)
        own = {photo.id for photo in library.albums.photos(albums[f"own {who}"])}
        found += [f"own {who} lost {len(one.own - own)} photos"] * bool(one.own - own)
    if library.albums.get(named).name not in {one.last_name for one in done}:
        found.append(f"the name is {library.albums.get(named).name}: of neither")
    return found


def edit(path: Path, photos: Sequence[int], shared: int, named: int, edits: int, who: int) -> Edits:
    """Edit albums, with photos that nobody else touches."""
    rng = random.Random(who)
    kept, rest = photos[: len(photos) // 3], list(photos[len(photos) // 3 :])
    put, taken, name = set[int](), set[int](), "named"
    errors: list[str] = []
    with open_library(path, create=False) as library:
        albums = library.albums
        own = albums.create(f"own {who}", kept)
        for turn in range(edits):
            some = rng.sample(rest, rng.randrange(1, 4))
            try:
                what = rng.choice(("put", "put", "take", "merge", "rename", "hide"))
                if what == "put":
                    assert albums.move(some, shared).id == shared
                elif what == "take":
                    albums.remove(some, shared)
                elif what == "merge":  # an album of its own goes into the shared one
                    albums.merge(shared, [albums.create(f"{who} {turn}", some).id])
                elif what == "rename":
                    name = f"by {who} at {turn}"
                    assert albums.rename(named, name).name == name
                else:
                    assert albums.hide(own.id, hidden=turn % 2 == 0).hidden == (turn % 2 == 0)
                if what in ("put", "merge"):
                    put, taken = put | {*some}, taken - {*some}
                elif what == "take":
                    put, taken = put - {*some}, taken | {*some}
            except Exception:  # noqa: BLE001 (whatever it is, it is told)
                errors.append(traceback.format_exc())
    return Edits(edits + 1, frozenset(put), frozenset(taken), frozenset(kept), name, tuple(errors))


def come_and_go(path: Path, folder: Path, pool: list[Path], over: Path) -> list[str]:
    """Index other photos, and let them go, in small commits."""
    os.environ["OMP_NUM_THREADS"] = "1"
    indexer.pipeline.BATCH = 2
    folder.mkdir()
    turn = 0
    try:
        with open_library(path, create=False) as library:
            while not over.exists():
                turn += 1
                for at, photo in enumerate(pool[:10]):
                    content = photo.read_bytes() + bytes([turn % 256, at])  # as if it were new
                    (folder / photo.name).write_bytes(content)
                library.index([folder])
                for file in folder.iterdir():
                    file.unlink()
                library.index([folder], prune=True)
    except Exception:  # noqa: BLE001 (whatever it is, it is told)
        return [traceback.format_exc()]
    return []


def group_on(path: Path, over: Path) -> list[str]:
    """Group all photos again and again, and make and edit albums of some that may be gone."""
    errors = []
    with open_library(path, create=False) as library:
        while not over.exists():
            try:
                library.albums.group()
                albums = library.albums.all()
                newest = max(photo.id for photo in library.photos(limit=10_000))
                made = library.albums.create("passing", [newest])
                library.albums.photos(made.id, by="closeness")
                library.albums.merge(albums[-1].id, [made.id])
            except LibraryError as error:  # somebody was quicker
                errors += [str(error)] * (not any(one in str(error) for one in _NOT_THERE))
            except Exception:  # noqa: BLE001 (whatever it is, it is told)
                errors.append(traceback.format_exc())
    return errors
