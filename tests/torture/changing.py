"""A library that is written and read at once, by processes and threads of their own."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import indexer.pipeline
from indexer import Library, open_library
from indexer.coding import CoderStore, recode
from indexer.engines.catalogs import open_catalog
from indexer.finder import Mode
from indexer.segments import SegmentStore
from indexer.work import working
from retrieval.errors import Fc7Error
from retrieval.training.coders import random_hyperplanes
from torture.states import Asked, Truth, is_right, keep_log, moment, read_states, tell_commits

STAY = 12  # photos that are never touched, so that there is always something to ask with
_A_COMMIT = 2  # photos: so segments are merged all the time
# Of so few photos the shortlist is all, so that codes must find what exact search does.
KINDS = ("exact", "exact", "codes", "codes", "photos", "label", "files")
_CODE_BITS = 64
_RECODE_EVERY = 5  # rounds


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it."""

    asked: int
    wrong: int
    errors: tuple[str, ...]
    states: int  # that the library had

    @property
    def lost(self) -> int:
        return self.wrong + len(self.errors)


def lay_out(home: Path, pool: list[Path]) -> Path:
    """Make `home`/photos with the photos that stay, and return it."""
    folder = home / "photos"
    for name in ("stay", "going"):
        (folder / name).mkdir(parents=True)
    for photo in pool[:STAY]:
        shutil.copy(photo, folder / "stay")
    return folder


def change_and_read(
    home: Path, pool: list[Path], truth: Truth, rounds: int, askers: int = 2
) -> Told:
    """Let photos come and go in `rounds` runs, and ask all the while; compare at the end.

    pool: photos that come and go, the first of them for good.
    askers: so many threads ask a library that was opened before, so many processes one of their
    own. What they asked is compared with the states that the writer tells of.
    """
    folder = lay_out(home, pool)
    path = home / "library"
    with open_library(path) as library:
        library.index([folder])
        keep_log(path)
        stay = [photo.id for photo in library.photos()]
        library.answer(stay[0], mode="codes")
        over = home / "over"
        with (
            ProcessPoolExecutor(1 + askers, mp_context=get_context("spawn")) as processes,
            ThreadPoolExecutor(askers) as threads,
        ):
            jobs: list[Future[tuple[list[Asked], list[str]]]] = []
            writing = processes.submit(write_rounds, path, folder, pool, rounds)
            writing.add_done_callback(lambda _: over.touch())
            for seed in range(askers):
                jobs.append(processes.submit(ask_alone, path, stay, over, seed))
                jobs.append(threads.submit(ask_on, library, stay, over, 10 + seed))
            errors = [writing.result()] if writing.result() else []
            answers = [asked for job in jobs for asked in job.result()[0]]
            errors += [error for job in jobs for error in job.result()[1]]
        states = read_states(path)
        wrong = [one for one in answers if not is_right(one, states, truth)]
        errors += end_of(library, folder)
    return Told(len(answers), len(wrong), tuple(errors), len(states))


# --- writing


def write_rounds(path: Path, folder: Path, pool: list[Path], rounds: int) -> str:
    """Change files and index them, again and again; what went wrong, if something did."""
    os.environ["OMP_NUM_THREADS"] = "1"
    indexer.pipeline.BATCH = _A_COMMIT
    rng = random.Random(0)
    try:
        tell_commits(path)
        with open_library(path, create=False) as library:
            for turn in range(rounds):
                change_files(folder, pool, rng)
                library.index()
                if turn % _RECODE_EVERY == 0:
                    recode_anew(path, turn)
    except Exception:  # noqa: BLE001 (whatever it is, it is told)
        return traceback.format_exc()
    return ""


def change_files(folder: Path, pool: list[Path], rng: random.Random) -> None:
    """Add, remove, rename and overwrite some of the photos that come and go, and make copies."""
    going = sorted((folder / "going").iterdir())
    for file in rng.sample(going, len(going) * rng.choice((0, 1, 2, 3)) // 3):
        what = rng.choice(("remove", "remove", "rename", "overwrite"))
        if what == "overwrite":
            shutil.copy(rng.choice(pool), file)
        else:
            file.rename(file.with_name(f"{rng.getrandbits(40):x}.jpg"))
            if what == "remove":
                file.with_name(file.name).unlink(missing_ok=True)
    if rng.random() < 0.3:  # all at once: segments become hollow
        for file in (folder / "going").iterdir():
            file.unlink()
    for photo in rng.sample(pool, rng.randrange(1, 9)):
        shutil.copy(photo, folder / "going" / f"{rng.getrandbits(40):x}.jpg")


def recode_anew(path: Path, seed: int) -> None:
    """Give a library another coder, as `fc7 codes train` does; learning one would take minutes."""
    with working(path, "codes"), closing(open_catalog(path)) as catalog:
        store = SegmentStore(path / "segments")
        rows = np.concatenate([rows for _, rows in store.blocks(catalog)])
        coder = random_hyperplanes(rows, _CODE_BITS, seed=seed)
        about = {"bits": str(_CODE_BITS), "learned_from": str(len(rows)), "source": "library"}
        recode(catalog, store, CoderStore(path / "coders"), coder, about)


# --- asking


def ask_alone(path: Path, stay: list[int], over: Path, seed: int) -> tuple[list[Asked], list[str]]:
    """As `ask_on`, in a process of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with open_library(path, create=False) as library:
        return ask_on(library, stay, over, seed)


def ask_on(
    library: Library, stay: list[int], over: Path, seed: int
) -> tuple[list[Asked], list[str]]:
    """Ask until the file `over` is there: what was asked, and the errors that must not be."""
    rng = random.Random(seed)
    asked: list[Asked] = []
    errors: list[str] = []
    others = [library.status, library.facets, library.albums.all, library.map.points]
    if seed == 0:  # they write too, and take long: one asker does them
        others += [library.map.update, library.albums.group, library.duplicates.find]
    while not over.exists():
        try:
            asked.append(ask(library, rng, stay))
            if rng.random() < 0.1:
                rng.choice(others)()
                lost = library.status().lost_segments
                errors += [f"{lost} is told to be lost"] * bool(lost)
        except Exception:  # noqa: BLE001 (whatever it is, it is told)
            errors.append(traceback.format_exc())
    return asked, errors


def ask(
    library: Library, rng: random.Random, stay: list[int], kinds: Sequence[str] = KINDS
) -> Asked:
    """One question of a random kind."""
    kind = rng.choice(kinds)
    about = rng.choice(stay) if rng.random() < 0.8 or kind == "label" else rng.randrange(1, 2_000)
    k = rng.choice((1, 3, 10, 40))
    label = library.labels(about)[0].label if kind == "label" else ""
    before = moment(library.path)
    found: tuple[tuple[str, float], ...] = ()
    error = ""
    try:
        if kind in ("exact", "codes", "shortlist"):
            mode: Mode = "exact" if kind == "exact" else "codes"
            hits = library.answer(about, k, mode=mode).hits
            found = tuple((str(hit.photo.path), hit.distance) for hit in hits)
        elif kind == "photos":
            found = tuple((str(photo.path), 0.0) for photo in library.photos(limit=10_000))
        elif kind == "files":
            groups = library.duplicates.find(["file"])
            found = tuple((str(o.photo.path), o.distance) for g in groups for o in g.others)
        else:
            exact = [one for one in library.labelled(label, 10_000) if one.label == label]
            found = tuple((str(one.photo.path), one.probability) for one in exact)
    except Fc7Error as told:
        error = str(told)
    return Asked(kind, about, k, before, moment(library.path), found, error)


# --- the end


def end_of(library: Library, folder: Path) -> list[str]:
    """What is wrong with a library after all that; nothing, if it holds what its folder does."""
    found = {photo.path for photo in library.photos(limit=10_000)}
    there = {file for file in folder.rglob("*") if file.is_file()}
    complaints = [f"{len(found ^ there)} photos are not as in the folder"] * (found != there)
    with closing(open_catalog(library.path)) as catalog:
        named = {segment.name for segment in catalog.segments()}
    on_disk = {file.name for file in (library.path / "segments").glob("*.faiss")}
    complaints += [f"segments {on_disk ^ named}"] * (on_disk != named)
    return complaints + damage_of(library.path)


def damage_of(path: Path) -> list[str]:
    """What SQLite itself finds wrong with a library's catalogue, dangling rows among it."""
    with closing(sqlite3.connect(path / "catalog.sqlite", timeout=60)) as catalog:
        dangling = catalog.execute("PRAGMA foreign_key_check").fetchall()
        (sound,) = catalog.execute("PRAGMA integrity_check").fetchone()
    return [f"dangling: {dangling}"] * bool(dangling) + [sound] * (sound != "ok")
