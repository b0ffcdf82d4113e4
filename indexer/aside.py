"""What must be whole or not there at all is made in a folder aside, and put into its place.

PLACE.partial   that folder, of one process at a time; what a killed one left is removed by the next
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.syncing import sync
from retrieval.errors import BackupError


@contextmanager
def aside(place: Path) -> Iterator[Path]:
    """An empty folder beside what will be in this place, ours alone; gone at the end.

    Raises BackupError if another process makes the same, or it can't be written.
    """
    folder = place.with_name(f"{place.name}.partial")
    handle = -1
    try:
        try:
            handle = _own_folder(folder)
            for left in folder.iterdir():  # by one that was killed
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            yield folder
        finally:
            if handle >= 0:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)
    except BlockingIOError as error:
        raise BackupError(f"{place} is being made by another process: wait for it") from error
    except OSError as error:
        raise BackupError(f"{place} can't be made: {error.strerror}") from error


def _own_folder(folder: Path) -> int:
    """Make it unless it is there, and lock it; returns the handle, which holds the lock."""
    while True:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        except OSError:  # a file system without locks, as some on the network
            return handle
        if folder.is_dir() and os.path.samestat(os.fstat(handle), folder.stat()):
            return handle
        os.close(handle)  # its maker has finished, and removed it, before we had the lock


def put(whole: Path, file: Path) -> None:
    """Put a whole file into its place. Raises BackupError if another is there."""
    try:
        try:
            os.link(whole, file)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if file.exists():
                raise FileExistsError from None
            whole.rename(file)
    except FileExistsError as error:
        raise already_there(file) from error
    sync(file.parent)


def already_there(file: Path) -> BackupError:
    return BackupError(f"{file} is there already: give another name, or remove it first")
