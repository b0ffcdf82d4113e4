"""Duplicates: photos of which a library has more than one, and which of them is worth keeping.

file      the same file, byte for byte
picture   one picture: coded anew, resized, cropped a little, edited lightly, turned
shot      similar shots: of a burst, from another angle

The kinds don't repeat each other: of equal files only the one to keep is in a group of pictures,
and of copies of one picture only the one to keep is in a group of shots. Nothing is ever done to a
photo here; `moving` does what a person decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog, Photo
from indexer.copy_rows import Found, read_found
from indexer.descriptors import reduced
from indexer.moments import at_one_moment
from indexer.thumbnails import ThumbnailStore
from indexer.vectors import Vectors
from retrieval.copies import View, read_view
from retrieval.errors import ImageError
from retrieval.pairing import Link, Pairing, see
from retrieval.reading import read_ahead

Kind = Literal["file", "picture", "shot"]
KINDS: tuple[Kind, ...] = ("file", "picture", "shot")
Reason = Literal["pixels", "raw", "date", "lossless", "folder", "bytes", "older", "path"]
Progress = Callable[[str, int, int], None]  # stage, done, of how many

_REASONS: tuple[Reason, ...] = (
    "pixels", "raw", "date", "lossless", "folder", "bytes", "older", "path"
)  # fmt: skip
_LOSSLESS = {"PNG", "TIFF", "BMP"}
_ALL_OF_IT = 0.95  # a copy that shows less of the other's area is a part of it
_AHEAD = 256
_PARTS = 20  # shares are measured no finer: copies of one picture shall have the same


@dataclass(frozen=True, slots=True)
class Copy:
    """A photo that is not the one to keep."""

    photo: Photo
    distance: float  # Euclidean, of unit FC7, to the one to keep
    covered: float  # the share of the picture to keep that it shows; 1 for shots
    more: bool  # it shows more than the one to keep: it is not to be given up for it
    turn: str  # "", "mirrored", "turned by 90", "turned by 180"


@dataclass(frozen=True, slots=True)
class Group:
    """Photos that belong together, and which is worth keeping."""

    kind: Kind
    keep: Photo
    reason: Reason  # where it is first better than the best of the others
    others: tuple[Copy, ...]  # the best first


class Duplicates:
    """Finds the duplicates of one library."""

    def __init__(
        self,
        catalog: Catalog,
        vectors: Vectors,
        thumbnails: ThumbnailStore,
        rows: Callable[[Catalog], Callable[[Sequence[int]], NDArray[np.float32]]],
    ) -> None:
        """rows: (the catalogue at a moment) -> what gives the rows (n, d) of contents of then."""
        self._catalog = catalog
        self._vectors = vectors
        self._thumbnails = thumbnails
        self._rows = rows

    def find(
        self,
        kinds: Collection[Kind] = KINDS,
        *,
        prefer: Path | None = None,
        progress: Progress | None = None,
    ) -> list[Group]:
        """All groups of these kinds: files, pictures, shots, each with the largest first.

        prefer: a folder whose photos are kept where their pixels, format and date are no worse.
        progress: called with what is done now, how much of it, of how much.

        The same library gives the same groups, whatever the order in which it was indexed. Where a
        photo has no thumbnail, or is so plain that nothing tells it from others, it is only ever
        the same file.
        """
        found, rows = at_one_moment(
            self._catalog, lambda view: (read_found(view), self._rows(view))
        )
        folder = None if prefer is None else prefer.expanduser().resolve()
        better = {one.photo.id: _worth(one, folder) for one in found}
        of_content: dict[int, list[Found]] = {}
        for one in sorted(found, key=lambda one: better[one.photo.id]):
            of_content.setdefault(one.content, []).append(one)
        groups = []
        if "file" in kinds:
            groups = [
                _group("file", keep.photo, [_equal(one.photo) for one in others], better)
                for keep, *others in of_content.values()
                if others
            ]
        if "picture" in kinds or "shot" in kinds:
            best = [same[0] for same in of_content.values()]
            groups += self._find_alike(best, rows, folder, progress)
        places = {kind: place for place, kind in enumerate(KINDS)}
        wanted = [group for group in groups if group.kind in kinds]
        return sorted(wanted, key=lambda g: (places[g.kind], -len(g.others), better[g.keep.id]))

    def _find_alike(
        self,
        best: Sequence[Found],
        descriptors: Callable[[Sequence[int]], NDArray[np.float32]],
        folder: Path | None,
        progress: Progress | None,
    ) -> list[Group]:
        """Groups of pictures and of shots among contents; best: a photo of each, the best first."""
        tell = progress or (lambda stage, done, total: None)
        short = reduced(self._catalog, self._vectors, progress=partial(tell, "descriptors"))
        rows = {content: row for row, content in enumerate(short.contents.tolist())}
        best = [one for one in best if one.content in rows]
        if len(best) < 2:
            return []
        photos = _Photos(best, self._thumbnails, descriptors)
        views = read_ahead(range(len(best)), photos.view, _AHEAD)
        sights = see(views, len(best), tell)
        seconds = np.array([_seconds(one.photo.taken_at) for one in best])
        pairing = Pairing(photos, sights, seconds, tell)
        pairing.find(short.rows[[rows[one.content] for one in best]])
        better = {
            one.photo.id: _worth(one, folder, sights.shares.get(place, 1.0))
            for place, one in enumerate(best)
        }
        order = sorted(range(len(best)), key=lambda place: better[best[place].photo.id])
        pictures = pairing.pictures(order)
        shots = pairing.shots(order, pictures)

        def group(kind: Kind, keep: int, others: Sequence[int]) -> Group:
            copies = [_copy(best[one].photo, keep, pairing.known(keep, one)) for one in others]
            return _group(kind, best[keep].photo, copies, better)

        return [group("picture", *one) for one in pictures] + [group("shot", *one) for one in shots]


@dataclass(frozen=True, slots=True)
class _Photos:
    """What `Pairing` asks of a library."""

    found: Sequence[Found]
    thumbnails: ThumbnailStore
    rows: Callable[[Sequence[int]], NDArray[np.float32]]

    def descriptors(self, places: Sequence[int]) -> NDArray[np.float32]:
        return self.rows([self.found[place].content for place in places])

    def view(self, place: int) -> View | None:
        jpeg = self.thumbnails.get(self.found[place].photo.content_hash)
        try:
            return None if jpeg is None else read_view(jpeg)
        except ImageError:
            return None  # a thumbnail that nothing can be seen in


_Worth = tuple[float | str, ...]  # less is better; each place has its reason


def _worth(one: Found, folder: Path | None, share: float = 1.0) -> _Worth:
    """share: of its area that lies between plain margins, which are worth nothing."""
    photo = one.photo
    worth = 1.0 if share == 1 else (int(share * _PARTS) - 1) / _PARTS
    return (
        -photo.width * photo.height * worth,
        photo.format != "RAW",
        photo.taken_at is None,
        photo.format not in _LOSSLESS,
        folder is not None and folder not in photo.path.parents,
        0 if photo.format in _LOSSLESS else -photo.size,
        one.mtime_ns,
        str(photo.path),
    )


def _group(kind: Kind, keep: Photo, others: Sequence[Copy], better: Mapping[int, _Worth]) -> Group:
    rivals = zip(better[keep.id], better[others[0].photo.id], strict=True)
    reason = next(_REASONS[place] for place, (own, its) in enumerate(rivals) if own != its)
    return Group(kind, keep, reason, tuple(others))


def _equal(photo: Photo) -> Copy:
    return Copy(photo, distance=0.0, covered=1.0, more=False, turn="")


def _copy(photo: Photo, keep: int, link: Link) -> Copy:
    if link.look is None:
        return Copy(photo, link.distance, 1.0, False, "")
    keep_is_outer = link.look.swapped == (keep == link.other)
    more = not keep_is_outer and link.look.covered < _ALL_OF_IT
    covered = link.look.covered if keep_is_outer else 1.0
    return Copy(photo, link.distance, covered, more, link.turn)


def _seconds(taken_at: str | None) -> float:
    """By the camera's own clock; copies may have lost how far it is from UTC."""
    if taken_at is None:
        return float("nan")
    clock = datetime.fromisoformat(taken_at).replace(tzinfo=None)
    return (clock - datetime(1970, 1, 1)).total_seconds()
