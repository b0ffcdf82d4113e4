"""An album as a ZIP file, written while it is sent: only a piece of it is ever in memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from indexer import Photo
from indexer.export import free_name, safe_name
from retrieval.errors import ImageError
from retrieval.formats import open_picture

LEFT_OUT = "left out.txt"  # in the ZIP file: the photos that could not be read, and why
_PIECE = 1 << 20  # bytes read at once
_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP knows no earlier time


def zip_photos(photos: Sequence[Photo]) -> Iterator[bytes]:
    """Give the pieces of a ZIP file of these photos' files, stored as they are.

    Names that some file system does not take are changed, equal ones numbered. A file that can't be
    read is left out, or ends early; a text in the ZIP file says which, and why.
    """
    out = _Outlet()
    used = {LEFT_OUT}
    trouble: list[str] = []
    with zipfile.ZipFile(out, "w") as archive:
        for photo in photos:
            try:
                source = open_picture(photo.path)
            except (OSError, ImageError) as error:
                trouble.append(_line(photo, error))
                continue
            with source, archive.open(_entry(photo, used), "w", force_zip64=True) as entry:
                try:
                    while piece := source.read(_PIECE):
                        entry.write(piece)
                        yield out.take()
                except OSError as error:
                    trouble.append(_line(photo, error))
            yield out.take()
        if trouble:
            archive.writestr(LEFT_OUT, "".join(trouble))
    yield out.take()


def zip_name(album: str) -> str:
    """The name of the file for an album of this name."""
    return f"{safe_name(album)}.zip"


def _entry(photo: Photo, used: set[str]) -> zipfile.ZipInfo:
    suffix = safe_name(photo.path.suffix) if photo.path.suffix else ""
    name = safe_name(photo.path.stem) + (f".{suffix}" if suffix else "")
    entry = zipfile.ZipInfo(free_name(name, used), _time(photo))
    entry.external_attr = 0o644 << 16
    return entry


def _time(photo: Photo) -> tuple[int, int, int, int, int, int]:
    if photo.taken_at is None:
        return _EPOCH
    taken = datetime.fromisoformat(photo.taken_at)
    return max(_EPOCH, (taken.year, taken.month, taken.day, taken.hour, taken.minute, taken.second))


def _line(photo: Photo, error: OSError | ImageError) -> str:
    name = str(Path(photo.path)).encode("utf-8", "replace").decode("utf-8")
    why = error.reason if isinstance(error, ImageError) else error.strerror
    return f"{name!r}: {why or error}\n"


class _Outlet(io.RawIOBase):
    """A file that can only be written to; what was written is taken away."""

    def __init__(self) -> None:
        self._pieces = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, piece: object) -> int:
        before = len(self._pieces)
        self._pieces += memoryview(piece)  # type: ignore[arg-type]
        return len(self._pieces) - before

    def take(self) -> bytes:
        taken = bytes(self._pieces)
        self._pieces.clear()
        return taken
