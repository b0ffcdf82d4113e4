"""A library's map as `static/map.js` draws it: places, names, and four ways of colouring."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer import Library, Point
from indexer.facets import LIKELY
from ui import words

COLOURS = ("album", "label", "folder", "year")
_MOST_CATEGORIES = 60_000  # fits 16 bits; what is beyond has no name


def scene_of(library: Library, points: Sequence[Point]) -> dict[str, Any]:
    """What `drawMap` takes, ready for JSON.

    places: (n, 2) float32, ids: the photos' numbers, hashes: 12 letters a photo, names, dates, and
    colours by name: `of`, the category of each photo as uint16, 0 for none, and the names and
    counts of categories; `ordered` where their order means something. Arrays are base64 of
    little-endian bytes.
    """
    names = [os.path.basename(point.file) for point in points]  # noqa: PTH119 (Paths take a second)
    return {
        "places": _packed(np.array([(p.x, p.y) for p in points], "<f4").reshape(-1, 2)),
        "ids": [point.photo for point in points],
        "hashes": "".join(point.content_hash[:12] for point in points),
        "names": [plain(name) for name in names],
        "dates": [(point.taken_at or "")[:10] for point in points],
        "colours": {
            "album": _by_album(library, points),
            "label": _by_size([p.label if p.probability >= LIKELY else None for p in points]),
            "folder": _by_folder(points),
            "year": _by_year(points),
        },
    }


def words_of(language: words.Language) -> dict[str, Any]:
    """The words of the map in a language."""

    def say(text: str) -> str:
        return words.say(language, f"map.{text}")

    one = ("label", "keys", "nearer", "farther", "whole", "lasso", "clear", "colour", "rest",
           "loading", "unreachable")  # fmt: skip
    return {name: say(name) for name in one} | {
        "by": {name: say(f"by.{name}") for name in COLOURS},
        "none": {name: say(f"none.{name}") for name in COLOURS},
    }


def plain(name: str) -> str:
    """A name as valid Unicode: on Linux it need not be."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _by_album(library: Library, points: Sequence[Point]) -> dict[str, Any]:
    """Of several albums that have the photo, the largest counts; hidden ones never."""
    albums = library.albums.all()  # the largest first
    rank = {album.id: at for at, album in enumerate(albums)}
    own = [min((rank[a] for a in p.albums if a in rank), default=None) for p in points]
    return _coloured(own, lambda at: albums[at].name)


def _by_folder(points: Sequence[Point]) -> dict[str, Any]:
    folders = [os.path.dirname(point.file) for point in points]  # noqa: PTH120
    common = Path(os.path.commonpath(set(folders))) if folders else Path()
    return _coloured(folders, lambda f: str(Path(common.name) / Path(f).relative_to(common)))


def _by_size(values: Sequence[str | None]) -> dict[str, Any]:
    return _coloured(values, str)


def _by_year(points: Sequence[Point]) -> dict[str, Any]:
    years = [point.taken_at[:4] if point.taken_at else None for point in points]
    return _coloured(years, str, ordered=True)


def _coloured(
    values: Sequence[Any], name: Callable[[Any], str], *, ordered: bool = False
) -> dict[str, Any]:
    """Categories by size, equals by value; `ordered` by value alone. None is no category."""
    counts = Counter(value for value in values if value is not None)
    listed = (
        sorted(counts) if ordered else sorted(counts, key=lambda value: (-counts[value], value))
    )
    listed = listed[:_MOST_CATEGORIES]
    number = {value: at for at, value in enumerate(listed, start=1)}
    of = np.array([0 if v is None else number.get(v, 0) for v in values], "<u2")
    return {
        "of": _packed(of),
        "names": [plain(name(value)) for value in listed],
        "counts": np.bincount(of, minlength=len(listed) + 1).tolist(),
        "ordered": ordered,
    }


def _packed(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
