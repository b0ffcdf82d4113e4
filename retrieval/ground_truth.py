"""What belongs together: ground truth from folders, from a CSV file, or as collections publish it.

"folder"     a photo's label is the folder that holds it
"ukbench"    ukbench00000.jpg, ...: groups of four by number; N-S score
"holidays"   INRIA Holidays, 100000.jpg, ...: groups by the first four digits of six; only the
             photos ending in 00 ask
"corel"      Corel-1k and -5k in one folder, 0.jpg, ...: groups of a hundred by number
a CSV file   with the columns path (relative to the folder) and label
a folder     of NAME_query.txt, NAME_good.txt, NAME_ok.txt and NAME_junk.txt: Oxford5k, Paris6k
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import EvaluationError

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the upright photo


@dataclass(frozen=True, slots=True)
class Skip:
    """A photo that was left out, and why."""

    path: str  # relative to the folder
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A photo, or a part of one, that asks for the photos of a group."""

    photo: int  # its place among the paths
    group: int  # its place among the groups; the photo itself may be in it
    box: Box | None = None  # the part that asks; None: the whole, which is left out of its answer
    junk: tuple[int, ...] = ()  # photos that count neither for nor against: left out as well


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """Photos, what belongs together, and who asks."""

    paths: tuple[PurePath, ...]  # relative to the folder; all are searched
    groups: tuple[NDArray[np.intp], ...]  # of each (m,), places among the paths
    queries: tuple[Query, ...]
    skipped: tuple[Skip, ...]  # files that have no place in it


@dataclass(frozen=True, slots=True)
class _Labelled:
    path: PurePath
    label: str
    asks: bool = True


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A collection whose file names are numbers."""

    name: re.Pattern[str]  # without the suffix; its group is the number
    size: int  # numbers to a group
    example: str
    first_asks: bool = False  # only the first of each group does


_NUMBERED = {
    "ukbench": _Numbered(re.compile(r"ukbench([0-9]{5})"), 4, "ukbench00000.jpg"),
    "holidays": _Numbered(re.compile(r"([0-9]{6})"), 100, "100000.jpg", first_asks=True),
    "corel": _Numbered(re.compile(r"([0-9]{1,9})"), 100, "0.jpg"),
}
LAYOUTS = ("folder", *_NUMBERED)


def read_ground_truth(folder: Path, labels: str | Path) -> GroundTruth:
    """Read what belongs together among the photos of a folder. No photo is opened.

    labels: one of LAYOUTS, or the path of a CSV file or of a folder of queries.

    Hidden files and linked folders are passed over. Raises EvaluationError if the folder is not
    there or the ground truth makes no sense.
    """
    if not folder.is_dir():
        raise EvaluationError(f"no folder {folder}: give the folder of the labelled photos")
    if labels == "folder":
        return _label_by_folder(folder)
    if isinstance(labels, str) and labels in _NUMBERED:
        return _label_by_number(folder, _NUMBERED[labels])
    if not Path(labels).exists():
        raise EvaluationError(
            f"{labels} is not there: labels are {', '.join(LAYOUTS)}, a CSV file, or a folder of "
            "*_query.txt (Oxford5k, Paris6k)"
        )
    if Path(labels).is_dir():
        return _read_queries(folder, Path(labels))
    return _grouped(_read_csv(Path(labels)))


def files_below(folder: Path) -> list[PurePath]:
    """The files of a folder and of those in it, relative to it, sorted; no hidden ones."""
    places = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if not path.is_dir()]
    return [place for place in places if not any(part.startswith(".") for part in place.parts)]


def _grouped(truth: Sequence[_Labelled], skipped: Sequence[Skip] = ()) -> GroundTruth:
    """Photos of one label are a group."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, photo in enumerate(truth):
        members[photo.label].append(index)
    group = {label: index for index, label in enumerate(members)}
    return GroundTruth(
        paths=tuple(photo.path for photo in truth),
        groups=tuple(np.array(places, np.intp) for places in members.values()),
        queries=tuple(
            Query(index, group[photo.label]) for index, photo in enumerate(truth) if photo.asks
        ),
        skipped=tuple(skipped),
    )


def _label_by_folder(folder: Path) -> GroundTruth:
    truth, skipped = [], []
    for place in files_below(folder):
        if len(place.parts) == 1:
            skipped.append(Skip(place.as_posix(), "no label (not in a subfolder)"))
        else:
            truth.append(_Labelled(place, place.parent.as_posix()))
    return _grouped(truth, skipped)


def _label_by_number(folder: Path, layout: _Numbered) -> GroundTruth:
    truth, skipped = [], []
    for place in files_below(folder):
        name = layout.name.fullmatch(place.stem)
        if name is None:
            reason = f"no label (its name is not like {layout.example})"
            skipped.append(Skip(place.as_posix(), reason))
        else:
            label, rest = divmod(int(name[1]), layout.size)
            truth.append(_Labelled(place, str(label), asks=not (layout.first_asks and rest)))
    return _grouped(truth, skipped)


# CSV files


def _read_csv(path: Path) -> list[_Labelled]:
    """Read ground truth from a CSV file whose first line names the columns path and label."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            columns = rows.fieldnames or []
            if not {"path", "label"} <= set(columns):
                raise EvaluationError(
                    f"{path} must begin with a line that names the columns path,label; it has "
                    f"{','.join(columns) or 'nothing'}"
                )
            truth = [_labelled(row, f"{path}, line {rows.line_num}") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{path} can't be read as CSV: {error}") from error
    _refuse_repeats(truth, path)
    return truth


def _labelled(row: dict[str, str | None], where: str) -> _Labelled:
    """Check one line: both fields there, and the photo inside the folder."""
    name, label = row["path"], row["label"]
    if not name or not label:
        raise EvaluationError(f"{where}: path or label is empty")
    place = PurePath(name)
    if place.is_absolute() or ".." in place.parts or "\0" in name:
        raise EvaluationError(f"{where}: {name} leaves the folder; paths are relative to it")
    return _Labelled(place, label)


def _refuse_repeats(truth: Sequence[_Labelled], path: Path) -> None:
    """A photo listed twice would be its own best answer."""
    seen: set[PurePath] = set()
    for photo in truth:
        if photo.path in seen:
            raise EvaluationError(f"{path} lists {photo.path} twice: keep one line a photo")
        seen.add(photo.path)


# Oxford5k and Paris6k


class _Names:
    """Photos by their names without suffix, wherever below the folder they are."""

    def __init__(self, paths: Sequence[PurePath]) -> None:
        self._paths = paths
        self._places: dict[str, list[int]] = defaultdict(list)
        for index, path in enumerate(paths):
            self._places[path.stem].append(index)
        self.missing: dict[str, None] = {}  # names asked for in vain, in their order

    def find(self, names: Sequence[str]) -> list[int]:
        """The places of those that are there. Raises EvaluationError if a name is not unique."""
        found = []
        for name in names:
            places = self._places.get(name, [])
            if len(places) > 1:
                both = " and ".join(str(self._paths[place]) for place in places[:2])
                raise EvaluationError(f"{both} have one name, and the ground truth asks for it")
            if not places:
                self.missing[name] = None
            found += places
        return found


def _read_queries(folder: Path, truth: Path) -> GroundTruth:
    """Read NAME_query.txt and the three lists beside it: good and ok are relevant, junk is not.

    As published, the photo that a query is a part of stays in the gallery, and may be relevant. The
    published program, compute_ap, takes average precision by the trapezoid rule; ours is a bit more
    than that, as of two precisions it takes the later one, which is never less.
    """
    files = sorted(truth.glob("*_query.txt"))
    if not files:
        raise EvaluationError(
            f"{truth} holds no *_query.txt: give the folder of the ground truth of Oxford5k or "
            f"Paris6k, a CSV file, or one of {', '.join(LAYOUTS)}"
        )
    paths = files_below(folder)
    names = _Names(paths)
    groups: list[NDArray[np.intp]] = []
    queries: list[Query] = []
    for file in files:
        name, box = _read_query(file)
        good, ok, junk = (
            _read_words(file.with_name(file.name.removesuffix("query.txt") + f"{kind}.txt"))
            for kind in ("good", "ok", "junk")
        )
        relevant = np.array(sorted({*names.find(good), *names.find(ok)}), np.intp)
        left_out = tuple(names.find(junk))
        for place in names.find([name]):
            queries.append(Query(place, len(groups), box, left_out))
        groups.append(relevant)
    skipped = tuple(Skip(name, "in the ground truth, not in the folder") for name in names.missing)
    return GroundTruth(tuple(paths), tuple(groups), tuple(queries), skipped)


def _read_query(file: Path) -> tuple[str, Box]:
    """The name, without the prefix that Oxford5k puts before it, and the box."""
    words = _read_words(file)
    try:
        left, top, right, bottom = map(float, words[1:])
        if not (-1e6 < left < right < 1e6 and -1e6 < top < bottom < 1e6):  # refuses nan too
            raise ValueError
    except ValueError as error:
        raise EvaluationError(
            f"{file} must hold a photo's name and a box, x1 y1 x2 y2; it holds "
            f"{' '.join(words)[:80] or 'nothing'}"
        ) from error
    return words[0].removeprefix("oxc1_"), (left, top, right, bottom)


def _read_words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{file} can't be read: {error}") from error
