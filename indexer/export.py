"""Albums as folders: copies of or links to their photos, with a manifest. Originals stay as is."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from indexer.album_rows import Album
from indexer.catalog import Photo
from indexer.library import Library
from retrieval.errors import ImageError, LibraryError
from retrieval.formats import open_picture

As = Literal["copy", "hardlink", "symlink"]
MANIFEST = "albums.json"
_OWN_NAMES = (MANIFEST, "index.html", "thumbnails")  # of what lies beside the albums' folders
_LONGEST = 120  # bytes of a folder's name; file systems take 255
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')  # on some file system
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows


@dataclass(frozen=True, slots=True)
class Exported:
    """A photo of an album, and its file in the exported folder."""

    photo: Photo
    file: Path  # relative to it


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and which photos could not be, with the reason."""

    albums: tuple[tuple[Album, tuple[Exported, ...]], ...]
    failed: tuple[tuple[Path, str], ...]


def export_albums(
    library: Library,
    albums: Sequence[Album],
    folder: Path,
    how: As = "copy",
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Write a folder for each album below `folder`, and `albums.json` that says what is what.

    progress: called with (photos done, photos).

    Raises LibraryError if `folder` is not empty, lies in a folder that is indexed, or can't be
    written; a photo that can't be read or linked costs only itself.
    """
    folder = folder.expanduser().absolute()
    _check(library, folder)
    photos = {album.id: library.albums.photos(album.id) for album in albums}
    total = sum(map(len, photos.values()))
    done, failed = 0, []
    names = set(_OWN_NAMES)
    written = []
    for album in albums:
        own = Path(free_name(safe_name(album.name), names))
        _make(folder / own)
        used: set[str] = set()
        exported = []
        for photo in photos[album.id]:
            file = own / free_name(photo.path.name, used)
            try:
                open_picture(photo.path).close()
                _place(photo.path, folder / file, how)
                exported.append(Exported(photo, file))
            except ImageError as error:
                failed.append((photo.path, error.reason))
            except OSError as error:
                failed.append((photo.path, error.strerror or str(error)))
            done += 1
            if progress:
                progress(done, total)
        written.append((album, tuple(exported)))
    report = ExportReport(tuple(written), tuple(failed))
    _write(folder / MANIFEST, json.dumps(_manifest(report, how), indent=1))
    return report


def safe_name(name: str) -> str:
    """A name for a folder that any file system takes: no separator, nothing reserved, not long."""
    name = _UNSAFE.sub("_", name).strip(" .")
    while len(name.encode()) > _LONGEST:
        name = name[:-1]
    name = name.strip(" .") or "album"
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def free_name(name: str, used: set[str]) -> str:
    """The name, or with a number if it is taken; some file systems know no upper and lower case."""
    stem, suffix = Path(name).stem, Path(name).suffix
    number = 1
    chosen = name
    while chosen.casefold() in used:
        number += 1
        chosen = f"{stem} ({number}){suffix}"
    used.add(chosen.casefold())
    return chosen


def _place(source: Path, target: Path, how: As) -> None:
    if how == "hardlink":
        os.link(source, target)
    elif how == "symlink":
        source.stat()  # a link to nothing is no export
        target.symlink_to(source)
    else:
        shutil.copy2(source, target)


def _check(library: Library, folder: Path) -> None:
    real = Path(os.path.realpath(folder))
    for indexed in library.status().folders:
        if real == indexed or indexed in real.parents:
            raise LibraryError(
                f"{folder} lies in {indexed}, which is indexed: its photos would be found twice; "
                "export to another place"
            )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LibraryError(f"{folder} is not empty: export to an empty or a new folder")
    _make(folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(f"{folder} can't be made: {error.strerror}") from error


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LibraryError(f"{file} can't be written: {error.strerror}") from error


def _manifest(report: ExportReport, how: As) -> dict[str, object]:
    return {
        "as": how,
        "albums": [
            {
                "name": album.name,
                "title": album.title,
                "cohesion": album.cohesion,
                "photos": [
                    {
                        "file": one.file.as_posix(),
                        "original": str(one.photo.path),
                        "sha256": one.photo.content_hash,
                        "taken_at": one.photo.taken_at,
                    }
                    for one in photos
                ],
            }
            for album, photos in report.albums
        ],
        "failed": [{"original": str(path), "reason": why} for path, why in report.failed],
    }
