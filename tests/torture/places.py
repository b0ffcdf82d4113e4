"""Places that fail: full, not to be written, not to be read, gone while a run is at work.

A command there ends with one clear line or does what was asked of it, the library is whole, and the
same command goes on when the cause is gone.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from serving import serving

import indexer.coding
import indexer.pipeline
from indexer.storing import Store
from torture.commands import Said, fc7
from torture.forking import Trials, trials
from torture.libraries import Summary, differences, draw, problems, summary
from torture.mounting import (
    detach,
    make_read_only,
    mount_memory,
    obey_modes,
    own_mounts,
    show_again,
)
from torture.operations import BATCH, do, prepare
from torture.table import Row, times

LEVELS = 60  # how full a disk is tried, for each of the commands that write
_DISK = 48  # MB
_LEAST = 250_000  # bytes; a merge takes some for a while, and gives more back
_LEARNABLE = 40  # photos; fewer don't teach 32 bits


def small() -> None:
    """In a command's process: small batches, and codes learned from few photos."""
    indexer.pipeline.BATCH = BATCH
    indexer.coding.LEAST = 4


def _words(what: str, library: Path, photos: Path) -> tuple[object, ...]:
    """The command by its short name, for this library."""
    photo = min(photos.rglob("*.png"), default=photos / "00.png")
    commands: dict[str, tuple[object, ...]] = {
        "index": ("index", photos),
        "search": ("search", photo, "-k", 3, "--json"),
        "status": ("status", "--json"),
        "albums": ("albums", "--json"),
        "album": ("album", "new", "mine", photo),
        "codes": ("codes", "train", "--bits", 32),
    }
    return (*commands[what], "--library", library)


READING, WRITING = ("search", "status"), ("index", "albums", "album", "codes")


def run(
    what: str,
    library: Path,
    photos: Path,
    first: Sequence[Callable[[], object]] = (),
) -> Said:
    return fc7(*_words(what, library, photos), first=[small, *first])


class Bench:
    """A library and photos, and what a command makes of them where nothing fails."""

    def __init__(self, fork: Trials, folder: Path, prepared: str, what: str) -> None:
        self.folder, self.what, self.fork = folder, what, fork
        folder.mkdir()
        fork.value(_indexed_many, folder) if prepared == "many" else fork.value(
            prepare, prepared, folder
        )
        self.expected: Summary
        self.room: int  # bytes that the command takes
        self.expected, self.room = fork.value(_unbroken, folder, what)

    def look(self, scene: Callable[..., list[str]], *args: object) -> list[str]:
        """What is wrong after a scene, a line each."""
        outcome = self.fork(scene, self.folder, self.what, self.expected, *args)
        if outcome.error or outcome.status:
            return [f"ended with {outcome.status}\n{outcome.error}"]
        return list(outcome.value)


def _indexed_many(folder: Path) -> None:
    for seed in range(_LEARNABLE):
        draw(folder / "photos" / f"{seed:02}.png", seed)
    do("index", folder / "library", folder / "photos")


def _unbroken(folder: Path, what: str) -> tuple[Summary, int]:
    """What it makes of the library, and how many bytes it takes for that."""
    disk = _disk(folder)
    before = _free(disk)
    said = run(what, disk / "library", folder / "photos")
    assert said.is_done, said
    return summary(disk / "library"), before - _free(disk)


def _disk(folder: Path) -> Path:
    """A small disk of this process's own that holds a copy of the library."""
    own_mounts()
    disk = folder / "disk"
    mount_memory(disk, _DISK)
    if (folder / "library").exists():
        shutil.copytree(folder / "library", disk / "library")
    return disk


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def _finish(folder: Path, what: str, library: Path, expected: Summary) -> list[str]:
    """The cause is gone: the library is whole, and the same command goes on."""
    wrong = problems(library) if (library / "catalog.sqlite").exists() else []
    said = run(what, library, folder / "photos")
    if not said.is_done:
        wrong.append(str(said))
    return [*wrong, *problems(library), *differences(summary(library), expected)]


# --- scenes, each in a process of its own


def full(folder: Path, what: str, expected: Summary, room: int) -> list[str]:
    """A disk with so many bytes left."""
    disk = _disk(folder)
    library, rest = disk / "library", disk / "something big"
    with rest.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, _free(disk) - room))
    said = run(what, library, folder / "photos")
    wrong = [] if said.is_done or said.is_refused else [str(said)]
    rest.unlink()
    return wrong + _finish(folder, what, library, expected)


def read_only(folder: Path, what: str, expected: Summary, how: str) -> list[str]:
    """A library that can't be written, and its photos still can be searched."""
    disk = _disk(folder)
    library, photos = disk / "library", folder / "photos"
    before = run("search", library, photos)
    if how == "mount":
        make_read_only(disk)
    else:  # its owner said so
        _chmod(library, 0o555, 0o444)
    wrong = []
    for one in READING:
        said = run(one, library, photos, first=[obey_modes])
        if not said.is_done or said.err:
            wrong.append(str(said))
        if one == "search" and said.out != before.out:
            wrong.append(f"found {said.out} instead of {before.out}")
    for one in WRITING:
        said = run(one, library, photos, first=[obey_modes])
        if not said.is_refused:
            wrong.append(str(said))
    if how == "mount":
        make_read_only(disk, False)
    else:
        _chmod(library, 0o755, 0o644)
    return wrong + _finish(folder, what, library, expected)


def forbidden(folder: Path, what: str, expected: Summary) -> list[str]:
    """A library that may not be read."""
    disk = _disk(folder)
    library, photos = disk / "library", folder / "photos"
    library.chmod(0)
    wrong = []
    for one in (*READING, *WRITING):
        said = run(one, library, photos, first=[obey_modes])
        if not said.is_refused:
            wrong.append(str(said))
    library.chmod(0o755)
    return wrong + _finish(folder, what, library, expected)


def unreadable(folder: Path, what: str, expected: Summary) -> list[str]:
    """Photos that may not be read, and a folder that may not be listed; later they may."""
    disk = _disk(folder)
    library, photos = disk / "library", folder / "photos"
    known = set(summary(library).photos)
    closed = [*sorted(photos.glob("0*.png"))[:3], *photos.glob("new")]
    modes = [(one, one.stat().st_mode) for one in closed]
    for one in closed:
        one.chmod(0)
    said = run(what, library, photos, first=[obey_modes])
    wrong = [] if said.is_done else [str(said)]
    gone = known - set(summary(library).photos)
    wrong += [f"{one} was given up" for one in closed if str(one) in gone]
    for one, mode in modes:
        one.chmod(mode)
    return wrong + _finish(folder, what, library, expected)


def cut_off(folder: Path, what: str, expected: Summary, after: int) -> list[str]:
    """A run is killed, and then the library can only be read: as it was committed."""
    disk = _disk(folder)
    library, copy, photos = disk / "library", disk / "copy", folder / "photos"
    said = run(what, library, photos, first=[_at_commit(after, _die)])
    wrong = [] if said.code == -signal.SIGKILL else [str(said)]
    shutil.copytree(library, copy)
    recovered = run("search", copy, photos)
    make_read_only(disk)
    read = run("search", library, photos)
    if not read.is_done or read.out != recovered.out:
        wrong.append(f"{read}: {read.out} instead of {recovered.out}")
    make_read_only(disk, False)
    return wrong + _finish(folder, what, library, expected)


def browsed(folder: Path, what: str, expected: Summary) -> list[str]:
    """The pages of a library that can't be written are served."""
    disk = _disk(folder)
    make_read_only(disk)
    with serving(disk / "library") as address, urlopen(address, timeout=60) as page:
        wrong = [] if page.status == 200 else [f"{address} says {page.status}"]
    make_read_only(disk, False)
    return wrong + _finish(folder, what, disk / "library", expected)


def renamed(folder: Path, what: str, expected: Summary, gone: str, after: int) -> list[str]:
    """The folder of the photos, or the library, has another name when so many batches are done."""
    disk = _disk(folder)
    library, photos = disk / "library", folder / "photos"
    place = photos if gone == "photos" else library
    aside = place.with_name("aside")
    said = run(what, library, photos, first=[_at_commit(after, lambda: place.rename(aside))])
    wrong = []
    if place.exists():
        wrong.append(f"made anew: {sorted(place.rglob('*'))}")
        shutil.rmtree(place)
    aside.rename(place)
    wrong += _ended(said, library, expected)
    return wrong + _finish(folder, what, library, expected)


def unplugged(folder: Path, what: str, expected: Summary, gone: str, after: int) -> list[str]:
    """The same, of a disk that is not mounted any more: an empty folder is in its place."""
    disk = _disk(folder)
    library, photos = disk / "library", folder / "photos"
    place = photos if gone == "photos" else library
    aside = disk / "aside"
    place.mkdir(exist_ok=True)
    show_again(place, aside)
    mount_memory(place, 1)
    show_again(aside, place)
    said = run(what, library, photos, first=[_at_commit(after, lambda: detach(place))])
    wrong = [f"{one} is where nothing is mounted" for one in sorted(place.iterdir())]
    show_again(aside, place)
    wrong += _ended(said, library, expected)
    return wrong + _finish(folder, what, library, expected)


def _ended(said: Said, library: Path, expected: Summary) -> list[str]:
    """It was refused; or all was done already, as after the last batch."""
    is_right = said.is_refused or (said.is_done and not differences(summary(library), expected))
    return [] if is_right else [str(said)]


def _at_commit(number: int, act: Callable[[], object]) -> Callable[[], None]:
    """In a command's process: do something when so many batches are stored."""

    def listen() -> None:
        real, counted = Store.commit, itertools.count(1)

        def commit(self: Store, *args: Any) -> None:
            real(self, *args)
            if next(counted) == number:
                act()

        Store.commit = commit  # type: ignore[method-assign]

    return listen


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _chmod(folder: Path, folders: int, files: int) -> None:
    for one in (folder, *folder.rglob("*")):
        one.chmod(folders if one.is_dir() else files)


def may_mount() -> None:
    own_mounts()


def _levels(room: int, number: int) -> list[int]:
    """Bytes that are left on a disk: from none to more than a command takes, few more often."""
    most = 1.2 * max(room, _LEAST)
    return sorted({round(most * (n / number) ** 2) for n in range(number)})


def rows(share: float) -> Iterator[Row]:
    with trials() as fork, tempfile.TemporaryDirectory() as scratch:
        if fork(may_mount).error:
            yield Row("places", "nothing: this user may not mount here", 0, 0)
            return
        for prepared, what in (("index", "index"), ("update", "index"), ("compaction", "index"),
                               ("many", "codes"), ("many", "albums")):  # fmt: skip
            bench = Bench(fork, Path(scratch) / f"{prepared}-{what}", prepared, what)
            name = f"{what} ({prepared})" if what == "index" else what
            found = [bench.look(full, room) for room in _levels(bench.room, times(LEVELS, share))]
            yield _row(f"fc7 {name} on a full disk", found)
        bench = Bench(fork, Path(scratch) / "update", "update", "index")
        again = range(times(10, share))
        yield _row(
            "a disk mounted to be read only", [bench.look(read_only, "mount") for _ in again]
        )
        found = [bench.look(read_only, "modes") for _ in again]
        yield _row("a library that its owner made unwritable", found)
        yield _row("a library that may not be read", [bench.look(forbidden) for _ in again])
        found = [bench.look(unreadable) for _ in again]
        yield _row("photos and folders that may not be read for a while", found)
        found = [bench.look(cut_off, after) for after in range(1, 1 + times(6, share))]
        yield _row("a library that was cut off, on a read-only disk", found)
        yield _row("its pages in the browser", [bench.look(browsed)])
        for scene, words in ((renamed, "renamed"), (unplugged, "unplugged")):
            for gone in ("photos", "library"):
                found = [bench.look(scene, gone, n) for n in range(1, 1 + times(6, share))]
                yield _row(f"{words} while a run is at work: the {gone}", found)


def _row(what: str, found: list[list[str]]) -> Row:
    lost = [lines for lines in found if lines]
    note = lost[0][0][:300].replace("\n", " ") if lost else ""
    return Row("places", what, len(found), len(lost), note)
