"""Many at once: a library that is read while it is written, and written by two."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serving import HOUSE, serving

from indexer import Library, open_library
from indexer.work import read_work
from retrieval.extractor import Extractor
from torture.changing import Told, change_and_read, damage_of
from torture.editing import edit_by_two
from torture.held import (
    answers_of,
    differences,
    fresh_readers_of,
    held,
    paused,
    readers_of,
    routes_of,
    running,
    stopped_run,
    troubles_of,
)
from torture.pages import edit_in_two_pages, page_readers_of
from torture.states import Truth
from torture.table import Row, times
from ui.chromium import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PART = "together"
GALLERY = HOUSE / "data" / "gallery"
_PATIENCE = 300.0  # seconds until what must come in the end counts as lost


def rows(share: float) -> Iterator[Row]:
    pool = some_photos(40)
    truth = Truth(pool, Extractor(device="cpu"))
    with tempfile.TemporaryDirectory(prefix="fc7-together-") as place:
        home = Path(place)
        told = change_and_read(home / "changing", pool, truth, times(300, share))
        yield _row("answers while runs commit, merge, recode", told)
        with chromium() as browser:
            tried, errors = read_beside_a_writer(home / "held", pool)
            yield row("readers while a writer holds both files", tried, errors)
            tried, errors = begin_beside_a_writer(home / "begun", pool, browser)
            yield row("commands, a server, its pages meanwhile", tried, errors)
            tried, errors = read_beside_stopped_runs(home / "stopped", pool, times(150, share))
            yield row("readers while a run is stopped: at its commits, at random", tried, errors)
            tried, errors = edit_by_two(home / "editing", pool, times(1500, share))
            yield row("album edits by two, beside runs and groupings", tried, errors)
            tried, errors = edit_in_two_pages(browser, home / "pages", pool, times(20, share))
            yield row("album edits in two windows, one of them out of date", tried, errors)
        tried, errors = watch_and_index(home / "watching", pool, times(60, share))
        yield row("fc7 index beside fc7 watch", tried, errors)
        tried, errors = index_twice_at_once(home / "twice", pool, times(20, share))
        yield row("two fc7 index at once: one line of the second", tried, errors)


def row(what: str, tried: int, errors: Sequence[str], note: str = "") -> Row:
    """What was tried; an error is a trial lost, and the first is told."""
    for error in dict.fromkeys(errors):
        print(error, file=sys.stderr)
    return Row(PART, what, tried, len(errors), note)


def _row(what: str, told: Told) -> Row:
    one = row(what, told.asked, told.errors)
    return Row(one.part, what, told.asked, told.lost, f"{told.states:,} states of the library")


def some_photos(count: int) -> list[Path]:
    """So many of the sample photos, of all groups."""
    found = sorted(GALLERY.glob("*/*.jpg"))
    return found[:: len(found) // count][:count]


def make_library(home: Path, photos: Sequence[Path]) -> Library:
    """A library in `home` of copies of these photos, with albums and a map."""
    folder = home / "photos"
    folder.mkdir(parents=True)
    for photo in photos:
        shutil.copy(photo, folder)
    library = open_library(home / "library")
    library.index([folder])
    library.albums.group()
    library.albums.create("of a person", [photo.id for photo in library.photos(limit=6)])
    library.map.update()
    return library


# --- readers beside a writer


def read_beside_a_writer(home: Path, pool: Sequence[Path]) -> tuple[int, list[str]]:
    """How many readers there were, and which failed, or saw what was not committed."""
    with make_library(home, pool[:20]) as library:
        readers = readers_of(library, pool[-1].read_bytes())
        before = answers_of(readers)
        with held(library.path):
            errors = differences(readers, before)
    return len(before), errors


def begin_beside_a_writer(
    home: Path, pool: Sequence[Path], browser: Browser
) -> tuple[int, list[str]]:
    """The same of commands, and of a server and its pages, that also begin meanwhile."""
    looks = page_readers_of(browser)
    with make_library(home, pool[:20]) as library:
        commands = fresh_readers_of(library.path, pool[-1])
        with serving(library.path) as address:
            before = answers_of({**commands, **routes_of(address, library), **looks(address)})
        with held(library.path), serving(library.path) as address:
            readers = {**commands, **routes_of(address, library), **looks(address)}
            errors = differences(readers, before)
    return len(before), errors


def read_beside_stopped_runs(
    home: Path, pool: Sequence[Path], moments: int
) -> tuple[int, list[str]]:
    """The same while real runs are stopped: at each of their commits, then at random moments."""
    tried, errors = 0, []
    rng = random.Random(0)
    with make_library(home, pool[:12]) as library:
        folder = home / "photos"
        readers = readers_of(library, pool[-1].read_bytes())
        stopped, commit = True, 0
        while stopped and commit < moments:
            commit += 1
            _add(folder, pool[12:20], commit)
            with stopped_run(library.path, folder, commit) as stopped:
                tried += len(readers)
                errors += troubles_of(readers)
        left, turn = moments, 100
        while left > 0:
            turn += 1
            _add(folder, pool[12:36], turn)
            with running(library.path, folder) as run:
                stopped = True
                while stopped and left > 0:
                    with paused(run, rng) as stopped:
                        if stopped:
                            left -= 1
                            tried += len(readers)
                            errors += troubles_of(readers)
        errors += damage_of(library.path)
    return tried, errors


def _add(folder: Path, photos: Sequence[Path], turn: int) -> None:
    """Photos that the library doesn't know, in the place of those of the turn before."""
    for photo in photos:
        (folder / photo.name).write_bytes(photo.read_bytes() + turn.to_bytes(2, "big"))


# --- runs at once


def watch_and_index(home: Path, pool: Sequence[Path], runs: int) -> tuple[int, list[str]]:
    """A watch, and runs that a terminal begins meanwhile, over a folder that changes."""
    folder, path = home / "photos", home / "library"
    folder.mkdir(parents=True)
    shutil.copy(pool[0], folder)
    rng = random.Random(0)
    errors = []
    watch = _fc7("watch", folder, "--settle", "0.2", "--json", "--library", path)
    for turn in range(runs):
        for photo in rng.sample(list(pool), 3):
            (folder / photo.name).write_bytes(photo.read_bytes() + turn.to_bytes(2, "big"))
        for file in rng.sample(sorted(folder.iterdir()), 1):
            file.rename(file.with_name(f"{turn}.jpg"))
        index = _fc7("index", folder, "--library", path)
        _, told = index.communicate()
        errors += _complaints(index.returncode, told)
    there = {file for file in folder.iterdir() if file.is_file()}
    end = time.monotonic() + _PATIENCE
    with open_library(path) as library:
        while {photo.path for photo in library.photos(limit=10_000)} != there:
            if watch.poll() is not None or time.monotonic() > end:
                errors.append("the watch did not bring the library in step with its folder")
                break
            time.sleep(0.2)
    watch.send_signal(signal.SIGINT)
    _, told = watch.communicate()
    errors += [told] * ("Traceback" in told or watch.returncode != 0)
    return runs, errors + damage_of(path)


def index_twice_at_once(home: Path, pool: Sequence[Path], turns: int) -> tuple[int, list[str]]:
    """A run that is held while it is at work, and another one: it must say so and leave."""
    folder, path = home / "photos", home / "library"
    folder.mkdir(parents=True)
    errors = []
    for turn in range(turns):
        _add(folder, pool, turn)
        first = _fc7("index", folder, "--library", path)
        while (work := read_work(path)) is None or work.pid != first.pid:
            assert first.poll() is None, first.communicate()
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)
        second = _fc7("index", folder, "--library", path)
        _, told = second.communicate()
        errors += [told] * (second.returncode == 0) + _complaints(second.returncode, told)
        first.send_signal(signal.SIGCONT)
        _, told = first.communicate()
        errors += [told] * (first.returncode != 0)
    with open_library(path) as library:
        wrong = library.count() != len(pool)
    return turns, errors + ["not all photos are in"] * wrong + damage_of(path)


def _complaints(status: int, told: str) -> list[str]:
    """A run may end well, or with one line that another is at work."""
    busy = told.count("\n") == 1 and "another run is at work in" in told
    return [] if status == 0 or busy else [told]


def _fc7(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ui.cli", *map(str, arguments)],
        cwd=HOUSE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
