"""Moving duplicates out of the way, and back: nothing is lost, whenever it is cut off.

A file is moved as follows. A line of the log says what is about to happen, and is on the disk
before it does. A second name is made for the file, which fails if that name is taken; then the
first name is removed. Across file systems the second name is a copy, on the disk and compared with
the hash before the first is removed. So at any moment at least one name holds the file, and the
log tells which.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from indexer.catalog import Photo
from indexer.duplicates import Group
from retrieval.errors import LibraryError

MOVABLE = ("file", "picture")  # kinds: similar shots are no copies of each other
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
_FIELDS = ("from", "to", "sha256")

Progress = Callable[[int, int], None]  # files done, of how many


@dataclass(frozen=True, slots=True)
class Move:
    """A photo that goes, where to, and the one that stays for it."""

    photo: Photo
    target: Path
    kept: Photo


@dataclass(frozen=True, slots=True)
class MoveReport:
    """What was moved, or moved back; and what was not, with the reason."""

    log: Path | None  # None: nothing was to be moved
    moved: int
    left: tuple[tuple[Path, str], ...]


def plan_moves(
    groups: Sequence[Group], folder: Path, indexed: Sequence[Path]
) -> tuple[list[Move], list[tuple[Path, str]]]:
    """What moving all but the ones to keep means, and which photos stay nevertheless, and why.

    Photos keep their paths below their indexed folder; names that are taken get a number. One that
    shows more than the one to keep stays.

    Raises LibraryError for groups of similar shots, and for a folder that lies in an indexed one.
    """
    folder = Path(os.path.realpath(folder.expanduser()))
    for one in indexed:
        if folder == one or one in folder.parents:
            raise LibraryError(
                f"{folder} lies in {one}, which is indexed: its photos would be found again; "
                "move them to another place"
            )
    if any(group.kind not in MOVABLE for group in groups):
        raise LibraryError("similar shots are different photos: they are never moved")
    stays = {other.photo.id: other for group in groups for other in group.others if other.more}
    keeper = {
        other.photo.id: group.keep
        for group in groups
        for other in group.others
        if other.photo.id not in stays
    }
    moves, used = [], set[str]()
    for group in groups:
        for other in group.others:
            if other.photo.id in stays:
                continue
            kept = group.keep
            while kept.id in keeper:  # of equal files the one to keep may be a copy that goes too
                kept = keeper[kept.id]
            target = _free(folder / _below(other.photo.path, indexed), used)
            moves.append(Move(other.photo, target, kept))
    why = "it shows more than the one to keep"
    return moves, [(other.photo.path, why) for other in stays.values()]


def move_photos(
    moves: Sequence[Move], folder: Path, progress: Progress | None = None
) -> MoveReport:
    """Move photos; the log, `moved-DATE.jsonl` in the folder, moves them back by `undo`.

    A photo stays if its file or the one kept for it has changed since it was indexed, or is gone.
    Raises LibraryError if the folder or its log can't be written.
    """
    if not moves:
        return MoveReport(None, 0, ())
    folder = Path(os.path.realpath(folder.expanduser()))
    left: list[tuple[Path, str]] = []
    kept: dict[int, str | None] = {}
    with _new_log(folder) as log:
        for done, move in enumerate(moves, start=1):
            if move.kept.id not in kept:
                kept[move.kept.id] = _trouble(move.kept.path, move.kept.content_hash)
            if why := kept[move.kept.id]:
                why = f"the one to keep, {move.kept.path}, {why}"
            else:
                why = _trouble(move.photo.path, move.photo.content_hash)
            if why is None:
                why = _logged_move(log, move)
            if why is not None:
                left.append((move.photo.path, why))
            if progress:
                progress(done, len(moves))
    return MoveReport(Path(log.name), len(moves) - len(left), tuple(left))


def undo(log: Path, progress: Progress | None = None) -> MoveReport:
    """Move everything back that a log names; nothing is overwritten.

    May be asked again: what is in its place already stays there.
    Raises LibraryError if the log can't be read, is none, or names files outside its folder.
    """
    entries = list(_entries(log))
    left: list[tuple[Path, str]] = []
    moved = 0
    for done, (source, target, hash_) in enumerate(entries, start=1):
        why = _move_back(source, target, hash_)
        if why is None:
            moved += 1
        elif why:
            left.append((source, why))
        if progress:
            progress(done, len(entries))
    return MoveReport(log, moved, tuple(left))


# --- one file


def _logged_move(log: TextIO, move: Move) -> str | None:
    """Move one file; the reason if it could not be."""
    source, target = move.photo.path, move.target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists() or target.is_symlink():
            target = _free(target, {str(target).casefold()})
        entry = {
            "from": str(source),
            "to": str(target),
            "sha256": move.photo.content_hash,
            "kept": str(move.kept.path),
        }
        log.write(json.dumps(entry) + "\n")
        log.flush()
        os.fsync(log.fileno())
        _move(source, target, move.photo.content_hash)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _move_back(source: Path, target: Path, hash_: str) -> str | None:
    """Move a file from `target` back to `source`. None: done; "": it is there; else why not."""
    try:
        here, there = target.is_file(), source.exists() or source.is_symlink()
        why: str | None = None
        if there and here and source.samefile(target):
            target.unlink()  # cut off between the two names: the first one stays
        elif there and _trouble(source, hash_) is None:
            why = f"it is there already; its copy is {target}" if here else ""
        elif there:
            why = f"another file is in its place; it is still {target}"
        elif not here:
            why = f"it is neither there nor at {target}"
        elif trouble := _trouble(target, hash_):
            why = f"{target} {trouble}"
        else:
            source.parent.mkdir(parents=True, exist_ok=True)
            _move(target, source, hash_)
    except OSError as error:
        why = error.strerror or str(error)
    return why


def _move(source: Path, target: Path, hash_: str) -> None:
    """Give a file another name. Raises OSError; FileExistsError if that name is taken."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy(source, target, hash_)
    _sync_folder(target.parent)
    try:
        source.unlink()
    except OSError:  # a folder that is read-only: it stays where it is
        target.unlink()
        raise
    _sync_folder(source.parent)


def _copy(source: Path, target: Path, hash_: str) -> None:
    part = target.with_name(f".{hash_[:16]}.part")
    before = source.stat()
    try:
        shutil.copyfile(source, part)
        shutil.copystat(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        if why := _trouble(part, hash_):
            raise OSError(errno.EIO, f"its copy {why}")
        after = source.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise OSError(errno.EBUSY, "it changed while it was copied")
        if target.exists():
            raise FileExistsError(errno.EEXIST, "a file of that name is there")
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def _trouble(path: Path, hash_: str) -> str | None:
    """What is wrong with a file that should hold this; None: nothing."""
    if path.is_symlink() or not path.is_file():
        return "is not there"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None if found == hash_ else "has changed: fc7 index first"


# --- names and logs


def _below(path: Path, indexed: Sequence[Path]) -> Path:
    """A path below its indexed folder, with that folder's name in front."""
    for folder in sorted(indexed, key=lambda one: -len(one.parts)):
        if folder in path.parents:
            return Path(folder.name or "root") / path.relative_to(folder)
    return Path(path.name)


def _free(target: Path, used: set[str]) -> Path:
    """The path, or with a number if it is taken; some file systems know no upper and lower case."""
    number, chosen = 1, target
    while str(chosen).casefold() in used or chosen.exists() or chosen.is_symlink():
        number += 1
        chosen = target.with_name(f"{target.stem} ({number}){target.suffix}")
    used.add(str(chosen).casefold())
    return chosen


def _new_log(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = _free(folder / f"moved-{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl", set())
        file = log.open("x", encoding="utf-8")
        _sync_folder(folder)
    except OSError as error:
        raise LibraryError(f"{folder} can't be written: {error.strerror}") from error
    return file


def _entries(log: Path) -> Iterator[tuple[Path, Path, str]]:
    """What a log says, the last first: where a photo was, where it went, its hash."""
    try:
        text = log.read_bytes().decode("utf-8")
    except OSError as error:
        raise LibraryError(f"{log} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LibraryError(f"{log} is no log of moved photos") from error
    folder = Path(os.path.realpath(log.parent))
    whole = text[: text.rfind("\n") + 1]  # a line cut off says of a move that never began
    for number, line in reversed(list(enumerate(whole.splitlines(), start=1))):
        entry: object = None
        with suppress(json.JSONDecodeError):
            entry = json.loads(line)
        if not isinstance(entry, dict) or not all(isinstance(entry.get(f), str) for f in _FIELDS):
            raise LibraryError(f"{log}, line {number}: no log of moved photos")
        source, target = Path(entry["from"]), Path(os.path.realpath(entry["to"]))
        if not source.is_absolute() or "\0" in entry["from"] or folder not in target.parents:
            raise LibraryError(f"{log}, line {number}: {target} is not in {folder}")
        yield source, target, entry["sha256"]


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some systems don't open folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
