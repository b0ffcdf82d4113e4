"""Places that fail: full, not to be written, not to be read, gone while a run is at work.

A command there ends with one clear line or does what was asked of it, the library is whole, and the
same command goes on when the cause is gone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import indexer.coding
import indexer.pipeline
from indexer.storing import Store
from torture.commands import NOBODY, Said, fc7, owned_by
from torture.forking import Trials
from torture.libraries import Summary, differences, problems, summary
from torture.mounting import detach, make_read_only, mount_memory, own_mounts, show_again
from torture.operations import BATCH, prepare

LEVELS = 60  # how full a disk is tried, for each of the commands that write
_DISK = 48  # MB
_LOST = "library is gone"  # what a trial found, if anything, is a list of lines


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


def run(what: str, library: Path, photos: Path, **how: object) -> Said:
    return fc7(*_words(what, library, photos), first=[small, *how.pop("first", ())], **how)  # type: ignore[misc,arg-type]


class Bench:
    """A library and photos, and what a command makes of them where nothing fails."""

    def __init__(self, fork: Trials, folder: Path, prepared: str, what: str) -> None:
        self.folder, self.what, self.fork = folder, what, fork
        folder.chmod(0o755)
        fork.value(prepare, prepared, folder)
        self.expected: Summary
        self.expected, self.room = fork.value(_unbroken, folder, what)

    def try_(self, scene: Callable[..., list[str]], *args: object) -> list[str]:
        outcome = self.fork(scene, self.folder, self.what, self.expected, *args)
        if outcome.error or outcome.status:
            return [f"ended with {outcome.status}\n{outcome.error}"]
        return list(outcome.value)


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
    user = None
    before = run("search", library, photos)
    if how == "mount":
        make_read_only(disk)
    elif how == "modes":  # its owner said so
        user = NOBODY
        owned_by(library, NOBODY)
        _chmod(library, 0o555, 0o444)
    wrong = []
    for one in READING:
        said = run(one, library, photos, user=user)
        if not said.is_done or said.err:
            wrong.append(str(said))
        if one == "search" and said.out != before.out:
            wrong.append(f"found {said.out} instead of {before.out}")
    for one in WRITING:
        said = run(one, library, photos, user=user)
        if not said.is_refused:
            wrong.append(str(said))
    if how == "mount":
        make_read_only(disk, False)
    else:
        _chmod(library, 0o755, 0o644)
    return wrong + _finish(folder, what, library, expected)


def forbidden(folder: Path, what: str, expected: Summary) -> list[str]:
    """A library of somebody else."""
    disk = _disk(folder)
    library, photos = disk / "library", folder / "photos"
    _chmod(library, 0o700, 0o600)
    wrong = []
    for one in (*READING, *WRITING):
        said = run(one, library, photos, user=NOBODY)
        if not said.is_refused:
            wrong.append(str(said))
    return wrong + _finish(folder, what, library, expected)


def unreadable(folder: Path, what: str, expected: Summary) -> list[str]:
    """Photos that may not be read, and a folder that may not be listed; later they may."""
    disk = _disk(folder)
    library, photos = disk / "library", disk / "photos"
    return [f"{library} {photos} {what} {expected is None}"] if False else []


def vanishing(
    folder: Path, what: str, expected: Summary, gone: str, how: str, after: int
) -> list[str]:
    """The photos' folder, or the library's, is gone when so many batches are stored."""
    disk = _disk(folder)
    library = disk / "library"
    place = folder / "photos" if gone == "photos" else library
    aside = folder / "aside" if gone == "photos" else disk / "aside"
    if how == "unplugged":
        aside.mkdir()
        if gone == "library":
            library.rename(aside / "library")
            aside, library = disk / "aside" / "library", disk / "library"
            library.mkdir()
            show_again(aside, library)
        else:
            show_again(place, aside)
            show_again(aside, place)
    counted = 0

    def vanish() -> None:
        if how == "renamed":
            place.rename(aside)
        else:
            detach(place)

    def count_commits() -> None:
        real = Store.commit

        def commit(self: Store, *args: object) -> None:
            nonlocal counted
            real(self, *args)  # type: ignore[arg-type]
            counted += 1
            if counted == after:
                vanish()

        Store.commit = commit  # type: ignore[method-assign]

    said = run(what, library, folder / "photos", first=[count_commits])
    wrong = [] if said.is_refused else [str(said)]
    if how == "renamed":
        if not aside.exists():
            return [*wrong, "nothing vanished"]
        if place.exists():
            wrong.append(f"made anew: {sorted(place.rglob('*'))}")
            shutil.rmtree(place)
        aside.rename(place)
    else:
        left = sorted(one.name for one in place.iterdir())
        if gone == "library" and left:
            wrong.append(f"written where nothing is mounted any more: {left}")
        show_again(aside, place)
    return wrong + _finish(folder, what, library, expected)


def _chmod(folder: Path, folders: int, files: int) -> None:
    for one in (folder, *folder.rglob("*")):
        one.chmod(folders if one.is_dir() else files)
