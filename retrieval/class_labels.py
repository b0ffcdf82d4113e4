"""Which class each photo shows, in the order of a network's classes.

By default a photo's class is the name of the folder below DATA that it lies in: a class's own name,
or, where the classes are ImageNet's 1000, a WordNet id (n01440764). A photo in no folder may begin
with such an id itself (n01440764_tench.JPEG). Else a file tells the classes:

a CSV file         columns path (relative to the folder) and label or class; if there is one
                   called split, only rows with val count (the lists of fc7 split)
NAME LABEL lines   ILSVRC2012_val_00000001.JPEG 65 (Caffe's val.txt: numbers from 0 in fc8's order),
                   or ...,n01751748 (Kaggle's LOC_val_solution.csv); what follows is passed over
LABEL lines        one a photo, the photos sorted by name; numbers are those of the development kit
                   (ILSVRC2012_validation_ground_truth.txt), which are in an order of their own
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import EvaluationError
from retrieval.ground_truth import Skip, files_below
from retrieval.shipped import shipped

_WNID = re.compile(r"n\d{8}")
_NO_LABEL = "no label (in no class folder)"
_NOT_LISTED = "no label (not in the ground truth)"
_NOT_THERE = "in the ground truth, not in the folder"


@dataclass(frozen=True, slots=True, eq=False)
class ClassifiedPhotos:
    """Photos, and what each shows."""

    folder: Path
    paths: tuple[PurePath, ...]  # relative to the folder
    targets: NDArray[np.intp]  # (n,) of each its class's place among the network's
    skipped: tuple[Skip, ...]  # files without a class


def read_classes(
    folder: Path, classes: Sequence[str], labels: Path | None = None
) -> ClassifiedPhotos:
    """Read which of a network's classes each photo of a folder shows. No photo is opened.

    folder: or a list, split,path,class (a run's data.csv): its photos with the split val.
    labels: a file as above; None reads the names of folders, or the list.

    Hidden files and linked folders are passed over. Raises EvaluationError if a label is none of
    the classes, or no photo has a label.
    """
    found, skipped, numbers = _read(folder, labels, classes)
    known = numbers | class_numbers(classes)
    reason = _NO_LABEL if labels is None else _NOT_LISTED
    skipped += [Skip(path.as_posix(), reason) for path, label in found.items() if label is None]
    names = {path: label for path, label in found.items() if label is not None}
    if unknown := sorted({*names.values()} - known.keys()):
        raise EvaluationError(
            f"{labels or folder}: {_some(unknown)} is none of the network's {len(classes):,} "
            f"classes ({_some(classes)})"
        )
    if not names:
        raise EvaluationError(f"{folder} holds no photo in a class folder: name a file of labels")
    targets = np.array([known[label] for label in names.values()], np.intp)
    base = folder.parent if folder.is_file() else folder
    return ClassifiedPhotos(base, tuple(names), targets, tuple(skipped))


def class_numbers(classes: Sequence[str]) -> dict[str, int]:
    """The place of each name among the classes; of ImageNet's also by WordNet id."""
    names = {name: place for place, name in enumerate(classes)}
    return names | (_wnids() if _is_imagenet(classes) else {})


def class_of(path: PurePath, known: Mapping[str, int]) -> int | None:
    """The class that a photo's folder or name tells, if any.

    known: what `class_numbers` gives.
    """
    wnid = _WNID.match(path.name)
    place = known.get(path.parent.name)
    return known.get(wnid[0]) if place is None and wnid else place


def _is_imagenet(classes: Sequence[str]) -> bool:
    return len(classes) == 1000 and "tench" in classes[0]


@lru_cache
def _imagenet() -> tuple[tuple[str, int], ...]:
    """(wnid, number in the development kit) of ImageNet's classes, in fc8's order."""
    path = shipped("imagenet.txt")
    if path is None:
        raise EvaluationError("imagenet.txt, which comes with fc7, is missing: install fc7 again")
    lines = [line.split() for line in path.read_text("ascii").splitlines() if line[0] != "#"]
    return tuple((wnid, int(number)) for wnid, number in lines)


def _wnids() -> dict[str, int]:
    return {wnid: place for place, (wnid, _) in enumerate(_imagenet())}


def _kit_numbers() -> dict[str, int]:
    return {str(number): place for place, (_, number) in enumerate(_imagenet())}


# Where labels come from

_Labels = dict[PurePath, str | None]


def _read(
    folder: Path, labels: Path | None, classes: Sequence[str]
) -> tuple[_Labels, list[Skip], dict[str, int]]:
    """Labels, what has none, and which classes numbers among the labels mean."""
    if labels is None and folder.is_file():
        return {PurePath(path): name for path, name in _read_csv(folder).items()}, [], {}
    if not folder.is_dir():
        raise EvaluationError(f"no folder {folder}: give the folder of the labelled photos")
    if labels is None:
        return _by_folder(folder), [], {}
    if _has_header(labels):
        return *_by_name(folder, _read_csv(labels)), {}
    rows = _read_lines(labels)
    if max(map(len, rows), default=1) > 1:
        places = {str(place): place for place in range(len(classes))}
        return *_by_name(folder, {row[0]: row[-1] for row in rows}), places
    kit = _kit_numbers() if _is_imagenet(classes) else {}
    return _in_order(folder, [row[0] for row in rows], labels), [], kit


def _by_folder(folder: Path) -> _Labels:
    found: _Labels = {}
    for path in files_below(folder):
        wnid = _WNID.match(path.name)
        alone = wnid[0] if wnid else None
        found[path] = path.parts[0] if len(path.parts) > 1 else alone
    return found


def _by_name(folder: Path, labels: Mapping[str, str]) -> tuple[_Labels, list[Skip]]:
    """By path, or where the ground truth has names alone, by name; suffixes may be left out."""
    found: _Labels = {}
    used = set()
    for path in files_below(folder):
        names = (path.as_posix(), path.name, path.stem)
        name = next((one for one in names if one in labels), None)
        used.add(name)
        found[path] = None if name is None else labels[name]
    return found, [Skip(name, _NOT_THERE) for name in labels if name not in used]


def _in_order(folder: Path, labels: Sequence[str], file: Path) -> _Labels:
    paths = sorted(files_below(folder), key=lambda path: path.name)
    if len(paths) != len(labels):
        raise EvaluationError(
            f"{file} has {len(labels):,} labels for {len(paths):,} files of {folder}: it needs one "
            "a photo, or lines of a name and a label"
        )
    return dict(zip(paths, labels, strict=True))


def _has_header(file: Path) -> bool:
    text = _text(file)
    return "path" in text.partition("\n")[0].strip().split(",")


def _read_csv(file: Path) -> dict[str, str]:
    """Path -> label; of a list with splits what validates."""
    rows = csv.DictReader(io.StringIO(_text(file), newline=""), strict=True)
    column = next((name for name in ("label", "class") if name in (rows.fieldnames or ())), None)
    if column is None or "path" not in (rows.fieldnames or ()):
        raise EvaluationError(f"{file} must have the columns path,label in its first line")
    try:
        kept = [row for row in rows if row.get("split", "val") == "val"]
    except csv.Error as error:
        raise EvaluationError(f"{file} can't be read as CSV: {error}") from error
    return {row["path"] or "": row[column] or "" for row in kept}


def _read_lines(file: Path) -> list[list[str]]:
    """Words, between spaces or commas, of each line that is not empty; Kaggle's header left out."""
    lines = (re.split(r"[,\s]+", line.strip()) for line in _text(file).splitlines())
    return [words[:2] for words in lines if words[0] and words[0] != "ImageId"]


def _text(file: Path) -> str:
    try:
        # Names of files may be any bytes: what is no UTF-8 goes through as it is.
        return file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise EvaluationError(f"{file} can't be read: {error}") from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
