"""How well copies of photos are found: copies are made, and looked for among the photos.

The same is asked of perceptual hashes (the imagehash package), which compare each with each.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePath

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.attacks import ATTACKS, copy_of
from retrieval.copies import View, read_view
from retrieval.errors import EvaluationError, ImageError
from retrieval.extractor import Extractor
from retrieval.ground_truth import Skip, files_below
from retrieval.images import read_photo, read_picture
from retrieval.neighbours import principal
from retrieval.pairing import Pairing, see
from retrieval.reading import read_ahead

Progress = Callable[[str, int, int], None]  # stage, done, of how many
HASHES = {"phash": imagehash.phash, "dhash": imagehash.dhash}
USUAL = 10  # bits of 64 that may differ: imagededup's default, and what is mostly advised
PRECISE = 0.99
_DIMS = 128  # as in a library
_AHEAD = 32
_BLOCK = 512  # hashes compared at once with all


@dataclass(frozen=True, slots=True)
class Score:
    """What one way of finding found of one kind of copies."""

    found: int  # pairs that it took for one picture
    right: int  # of these, pairs that are
    recalled: int  # photos found together with their copy
    photos: int

    @property
    def precision(self) -> float:
        """The share of the pairs found that are right; 1 where none was found."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        return self.recalled / self.photos

    def summary(self) -> dict[str, float]:
        return {"precision": self.precision, "recall": self.recall, "pairs": self.found}


@dataclass(frozen=True, slots=True)
class CopyFigures:
    """What was found, and on what."""

    photos: int
    skipped: tuple[Skip, ...]
    network: str
    weights: str
    precise: dict[str, int]  # hash -> the most bits that may differ for a precision of .99
    scores: dict[str, dict[str, Score]]  # way of finding -> attack -> score
    lookalikes: tuple[tuple[str, str], ...]  # originals taken for one picture, as paths

    def total(self, way: str) -> Score:
        """The score over all kinds of copies."""
        own = [asdict(score) for score in self.scores[way].values()]
        return Score(**{name: sum(score[name] for score in own) for name in own[0]})

    def summary(self) -> dict[str, object]:
        """The same, ready for JSON."""
        return {
            "photos": self.photos,
            "skipped": [asdict(skip) for skip in self.skipped],
            "network": self.network,
            "weights": self.weights,
            "hash_thresholds_at_precision_0.99": self.precise,
            "total": {way: self.total(way).summary() for way in self.scores},
            "attacks": {
                attack: {way: scores[attack].summary() for way, scores in self.scores.items()}
                for attack in self.scores["fc7"]
            },
            "lookalikes": self.lookalikes,
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What is kept of some files."""

    fc7: NDArray[np.float32]  # (n, d)
    thumbnails: tuple[bytes, ...]
    hashes: dict[str, NDArray[np.bool_]]  # (n, 64)

    def __add__(self, other: _Seen) -> _Seen:
        return _Seen(
            np.concatenate([self.fc7, other.fc7]),
            self.thumbnails + other.thumbnails,
            {name: np.concatenate([self.hashes[name], other.hashes[name]]) for name in HASHES},
        )

    def descriptors(self, places: Sequence[int]) -> NDArray[np.float32]:
        return np.asarray(self.fc7[list(places)], np.float32)

    def view(self, place: int) -> View | None:
        try:
            return read_view(self.thumbnails[place])
        except ImageError:
            return None


def evaluate_copies(
    folder: Path,
    extractor: Extractor,
    progress: Progress = lambda stage, done, total: None,
    *,
    most: int = 200,
    same: Path | None = None,
    attacks: Sequence[str] = tuple(ATTACKS),
) -> CopyFigures:
    """Make copies of photos of a folder, and find them, each kind by itself among the photos.

    most: photos, evenly chosen. same: a CSV file of paths below the folder; those on one line
    are one picture, as a person saw. Files equal byte for byte count once.

    Raises EvaluationError if there are not two photos, or `same` can't be read.
    """
    files, photos, skipped = _read(folder, most)
    if len(photos) < 2:
        raise EvaluationError(f"{folder} holds no two readable photos")
    sources = _sources(files, same)
    originals = _look_at(photos, extractor, partial(progress, "originals"))
    scores: dict[str, dict[str, Score]] = {"fc7": {}}
    distances: dict[str, dict[str, _Histogram]] = {name: {} for name in HASHES}
    lookalikes: set[tuple[str, str]] = set()
    for done, attack in enumerate(attacks):
        made = [copy_of(photo, attack, seed) for seed, photo in enumerate(photos)]
        both = originals + _look_at(made, extractor, lambda *_: None)
        pairs = _pairs_by_fc7(both)
        scores["fc7"][attack] = _score(pairs, sources)
        lookalikes |= {
            (files[one].as_posix(), files[other].as_posix())
            for one, other in pairs
            if other < len(files)
        }
        for name in HASHES:
            distances[name][attack] = _histogram(both.hashes[name], sources)
        progress("attacks", done + 1, len(attacks))
    precise = {}
    for name, by_attack in distances.items():
        precise[name] = _most_bits(list(by_attack.values()))
        for way, bits in ((f"{name} {USUAL}", USUAL), (f"{name} precise", precise[name])):
            scores[way] = {a: h.score(bits, len(files)) for a, h in by_attack.items()}
    return CopyFigures(
        photos=len(files),
        skipped=tuple(skipped),
        network=extractor.network,
        weights=extractor.weights,
        precise=precise,
        scores=scores,
        lookalikes=tuple(sorted(lookalikes)),
    )


# --- photos


def _read(folder: Path, most: int) -> tuple[list[PurePath], list[bytes], list[Skip]]:
    """Files below the folder, what is in them, and which were left out."""
    found = list(files_below(folder))
    found = found[:: max(1, -(-len(found) // most))]
    files, photos, skipped, hashes = [], [], [], set[str]()
    for file in found:
        try:
            photo = (folder / file).read_bytes()
            read_photo(photo)
        except (OSError, ImageError) as error:
            skipped.append(Skip(file.as_posix(), str(error)))
            continue
        hash_ = hashlib.sha256(photo).hexdigest()
        if hash_ in hashes:
            skipped.append(Skip(file.as_posix(), "equal to another one"))
            continue
        hashes.add(hash_)
        files.append(file)
        photos.append(photo)
    return files, photos, skipped


def _sources(files: Sequence[PurePath], same: Path | None) -> NDArray[np.int64]:
    """A number for each picture (n,): files on one line of `same` have one."""
    sources = np.arange(len(files))
    if same is None:
        return sources
    try:
        with same.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.reader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{same} can't be read: {error}") from error
    places = {file.as_posix(): place for place, file in enumerate(files)}
    for row in rows:
        own = [sources[places[path]] for path in row if path in places]
        sources[np.isin(sources, own)] = min(own, default=-1)
    return sources


def _look_at(
    photos: Sequence[bytes], extractor: Extractor, progress: Callable[[int, int], None]
) -> _Seen:
    read = partial(_one, framing=extractor.framing, side=extractor.side)
    fc7, thumbnails, framed = [], [], []
    hashes: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in HASHES}
    for done, (pixels, thumbnail, own) in enumerate(read_ahead(photos, read, _AHEAD), start=1):
        framed.append(pixels)
        thumbnails.append(thumbnail)
        for name, bits in own.items():
            hashes[name].append(bits)
        if len(framed) == extractor.batch_size or done == len(photos):
            fc7.append(extractor.describe(np.stack(framed)).fc7)
            framed.clear()
            progress(done, len(photos))
    arrays = {name: np.array(own) for name, own in hashes.items()}
    return _Seen(np.concatenate(fc7), tuple(thumbnails), arrays)


def _one(
    photo: bytes, framing: str, side: int
) -> tuple[NDArray[np.uint8], bytes, dict[str, NDArray[np.bool_]]]:
    picture = read_picture(photo, framing, side)
    image = Image.fromarray(read_photo(photo)[0])
    hashes = {name: make(image).hash.ravel() for name, make in HASHES.items()}
    return picture.pixels, picture.thumbnail, hashes


# --- pairs


def _pairs_by_fc7(seen: _Seen) -> list[tuple[int, int]]:
    """All pairs within the groups that a library of these photos would show."""
    count = len(seen.fc7)
    views = read_ahead(range(count), seen.view, _AHEAD)
    pairing = Pairing(seen, see(views, count), np.full(count, np.nan))
    pairing.find(principal(seen.fc7, _DIMS).project(seen.fc7))
    groups = [sorted([best, *copies]) for best, copies in pairing.pictures(range(count))]
    return [
        (one, other)
        for group in groups
        for place, one in enumerate(group)
        for other in group[place + 1 :]
    ]


def _score(pairs: Sequence[tuple[int, int]], sources: NDArray[np.int64]) -> Score:
    """pairs: of originals 0 to n - 1 and their copies n to 2 n - 1."""
    both = np.concatenate([sources, sources])
    right = sum(int(both[one] == both[other]) for one, other in pairs)
    recalled = sum(other - one == len(sources) for one, other in pairs)
    return Score(len(pairs), right, recalled, len(sources))


@dataclass(frozen=True, slots=True, eq=False)
class _Histogram:
    """How many pairs differ in 0, 1, ... 64 bits: all, those of one picture, a photo's own copy."""

    all: NDArray[np.int64]
    right: NDArray[np.int64]
    own: NDArray[np.int64]

    def score(self, bits: int, photos: int) -> Score:
        found, right, own = (int(n[: bits + 1].sum()) for n in (self.all, self.right, self.own))
        return Score(found, right, own, photos)


def _histogram(hashes: NDArray[np.bool_], sources: NDArray[np.int64]) -> _Histogram:
    """hashes: (2 n, 64), of originals and their copies."""
    both = np.concatenate([sources, sources])
    signs = np.where(hashes, 1, -1).astype(np.float32)
    counts = np.zeros((3, signs.shape[1] + 1), np.int64)
    for start in range(0, len(signs), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(signs)))
        differ = np.rint((signs.shape[1] - signs[rows] @ signs.T) / 2).astype(np.int64)
        later = rows[:, np.newaxis] < np.arange(len(signs))
        right = later & (both[rows][:, np.newaxis] == both)
        own = np.arange(len(signs)) - rows[:, np.newaxis] == len(sources)
        for which, these in enumerate((later, right, own)):
            counts[which] += np.bincount(differ[these], minlength=counts.shape[1])
    return _Histogram(*counts)


def _most_bits(histograms: Sequence[_Histogram]) -> int:
    """The most bits that may differ for a precision of .99 over all; 0 if none is so precise."""
    found = np.cumsum(sum(h.all for h in histograms))
    right = np.cumsum(sum(h.right for h in histograms))
    return int(np.flatnonzero(right >= PRECISE * found).max(initial=0))
