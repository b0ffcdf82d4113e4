"""Nothing of a library leads out of its folder: it may come from elsewhere.

A link among its files could have an indexing run sweep, or lock, a folder that is none of its own;
so could a name in its catalogue.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from retrieval.errors import LibraryError

CATALOG = "catalog.sqlite"
THUMBNAILS = "thumbnails.sqlite"
_FOLDERS = ("segments", "coders")
_FILES = (
    *(f"{name}{more}" for name in (CATALOG, THUMBNAILS) for more in ("", "-wal", "-shm")),
    "engines.json",
    "index.lock",
    "run.json",
    "run.stop",
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}(\.faiss)?")  # of a segment, of a coder


def refuse_links(library: Path) -> None:
    """Raises LibraryError if a part of it is a link, or not the kind of file that it should be."""
    kinds = dict.fromkeys(_FOLDERS, stat.S_IFDIR) | dict.fromkeys(_FILES, stat.S_IFREG)
    for name, kind in kinds.items():
        try:
            mode = (library / name).lstat().st_mode
        except OSError:  # it isn't there; or nothing is, which is told where it is opened
            continue
        if stat.S_IFMT(mode) != kind:
            what = "a link" if stat.S_ISLNK(mode) else "not what fc7 made"
            raise LibraryError(
                f"{library / name} is {what}: a library has its files in its own folder; move the "
                "folder as a whole, and name it with --library"
            )


def checked_name(name: str, folder: Path) -> str:
    """A name that the catalogue gives of a file in this folder. Raises LibraryError for others."""
    if not _NAME.fullmatch(name):
        raise LibraryError(
            f"{folder.parent} names a file {name!r}, which no fc7 has written: it is damaged, or "
            "made to deceive"
        )
    return name
