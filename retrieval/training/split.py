"""Which photos train and which validate: folders of class folders, or lists of them.

Three kinds of data are understood:

    DATA/CLASS/...                      one folder a class, split here
    DATA/train/CLASS/..., DATA/val/...  split already (also valid, validation, test)
    a list                              CSV with the columns split,path,class, made by `fc7 split`
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import TrainingError
from retrieval.formats import SNIFF_BYTES, sniff

VAL = 0.2  # share of each class that validates, unless said otherwise
_COLUMNS = ("split", "path", "class")
_TRAIN = re.compile(r"train(ing)?([_-]set)?", re.IGNORECASE)
_VAL = (re.compile(r"val(id(ation)?)?([_-]set)?", re.IGNORECASE),
        re.compile(r"test(ing)?([_-]set)?", re.IGNORECASE))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listed:
    """One photo of a list."""

    split: str  # "train" or "val"
    path: Path
    label: str  # the name of its class


def find_photos(data: Path) -> list[Listed]:
    """List the photos of any kind of data; a folder that is not split yet is split by `VAL`.

    Sorted by split, class and path. No photo is decoded. Raises TrainingError if there is nothing
    to learn, or nothing to validate with.
    """
    if data.is_file():
        photos = read_list(data)
    elif parts := _parts(data):
        train, val = parts
        photos = [Listed("train", path, label) for path, label in _class_folders(train)]
        photos += [Listed("val", path, label) for path, label in _class_folders(val)]
    else:
        photos = split_folder(data)
    _check(photos, data)
    return sorted(photos, key=lambda photo: (photo.split, photo.label, photo.path))


def split_folder(folder: Path, val: float = VAL, seed: int = 0) -> list[Listed]:
    """Split a folder of class folders, the same share of every class.

    The order within a class is that of a hash of the seed and the path below the folder, and its
    first photos validate. So the same photos give the same split on any machine, and few change
    sides when photos are added. A class of one photo trains.

    val: share that validates, 0 < val < 1; at least one photo of a class that has two.

    Hidden files, links and files that are no photos are ignored. Raises TrainingError.
    """
    if not 0 < val < 1:
        raise TrainingError(f"{val:g} of the photos can't validate: choose a share such as 0.2")
    if _parts(folder):
        raise TrainingError(
            f"{folder} is split already, and fc7 train takes it as it is; to split the part that "
            "trains, name the folder in it"
        )
    by_class: dict[str, list[Path]] = defaultdict(list)
    for path, label in _class_folders(folder):
        by_class[label].append(path)
    photos = []
    for label, paths in by_class.items():
        paths.sort(key=lambda path: _digest(f"{seed}/{path.relative_to(folder).as_posix()}"))
        held_out = min(max(round(val * len(paths)), 1), len(paths) - 1)
        photos += [Listed("val", path, label) for path in paths[:held_out]]
        photos += [Listed("train", path, label) for path in paths[held_out:]]
    _check(photos, folder)
    return sorted(photos, key=lambda photo: (photo.split, photo.label, photo.path))


def list_text(photos: Iterable[Listed], folder: Path) -> str:
    """Write a list as CSV; paths below `folder`, where the list will lie, are relative to it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    here = folder.resolve()
    for photo in photos:
        path = photo.path.resolve()
        shown = path.relative_to(here) if path.is_relative_to(here) else path
        writer.writerow((photo.split, shown.as_posix(), photo.label))
    return out.getvalue()


def read_list(file: Path) -> list[Listed]:
    """Read a list; relative paths begin where the list lies.

    Raises TrainingError if it can't be read or a row makes no sense.
    """
    try:
        # Names of files may be any bytes: what is no UTF-8 goes through as it is.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            rows = csv.DictReader(text, strict=True)
            if not set(_COLUMNS) <= set(rows.fieldnames or ()):
                raise TrainingError(f"{file} has no columns {', '.join(_COLUMNS)}: see fc7 split")
            photos = [_row(row, file, rows.line_num) for row in rows]
    except (OSError, csv.Error) as error:
        raise TrainingError(f"{file} can't be read: {error}") from error
    return photos


def copy_photos(photos: Sequence[Listed], source: Path, target: Path) -> None:
    """Copy a split into target/train/CLASS and target/val/CLASS.

    source: the folder of class folders. Raises TrainingError if the target is there already.
    """
    if target.exists():
        raise TrainingError(f"{target} is there already: name a new folder to copy into")
    for photo in photos:
        place = target / photo.split / photo.path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(photo.path, place)


def _row(row: dict[str, str], file: Path, line: int) -> Listed:
    split, path, label = (row[column] for column in _COLUMNS)
    if split not in ("train", "val") or not path or not label:
        raise TrainingError(f"{file}, line {line}: needs train or val, a path and a class")
    return Listed(split, file.parent / path, label)


def _parts(data: Path) -> tuple[Path, Path] | None:
    """The folders that train and that validate, if the data comes in such; val before test."""
    folders = _folders(data)
    train = [folder for folder in folders if _TRAIN.fullmatch(folder.name)]
    for name in _VAL:
        val = [folder for folder in folders if name.fullmatch(folder.name)]
        if train and val:
            return train[0], val[0]
    return None


def _folders(data: Path) -> list[Path]:
    try:
        entries = sorted(data.iterdir())
    except OSError as error:
        raise TrainingError(
            f"{data} can't be read ({error.strerror}): give a folder of class folders, or a list "
            "made by fc7 split"
        ) from error
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _class_folders(folder: Path) -> list[tuple[Path, str]]:
    """Each photo below a folder of class folders, with its class: the first folder's name."""
    return [(path, one.name) for one in _folders(folder) for path in _photos_below(one)]


def _photos_below(folder: Path) -> list[Path]:
    """The photos of a class; what is hidden, a link or no photo by its first bytes is ignored."""
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and not path.is_symlink() and path.is_file() and _is_photo(path):
            found.append(path)
    return found


def _is_photo(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return sniff(file.read(SNIFF_BYTES)) is not None
    except OSError:
        return True  # training counts it among those it can't read


def _check(photos: Sequence[Listed], data: Path) -> None:
    train = {photo.label for photo in photos if photo.split == "train"}
    val = {photo.label for photo in photos if photo.split == "val"}
    if len(train) < 2:
        raise TrainingError(
            f"{data} holds photos of {len(train)} classes, but two are needed: one folder a class, "
            "or train and val folders of such, or a list made by fc7 split"
        )
    if not val:
        raise TrainingError(f"{data} holds no photos to validate with: see fc7 split")
    if unknown := sorted(val - train):
        raise TrainingError(f"{data}: class {unknown[0]!r} validates but has no photo to train on")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
