"""Which photos of a large set are copies of one picture, and which are similar shots.

Candidates are neighbours by index, of two kinds: by descriptor, which a crop changes little, and by
a sketch of their light, which blur and a quarter turn change little. `copies.look` then decides
whether they are one picture. What isn't, and is near by descriptor, is a similar shot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from retrieval.copies import SKETCH, TURNS, Floats, Look, View, look
from retrieval.neighbours import Rows, nearest_others

Progress = Callable[[str, int, int], None]  # stage, done, of how many

# Chosen as the thresholds of `copies` were.
CANDIDATE = 0.66  # Euclidean distance of unit FC7; farther apart nothing but a sketch makes a pair
SHOT = 0.45  # nearer than this they are similar shots ...
BURST = 0.65  # ... or nearer than this, if they were taken within a minute
_WITHIN = 60.0  # seconds
_OCCASION = 3600.0  # seconds; what was taken farther apart in time is no similar shot
_ALIKE = 0.9  # correlation of sketches that makes a pair ...
_TURNED = 0.96  # ... and where one is turned
_NEIGHBOURS = 8  # by descriptor ...
_NEAREST = 2  # ... of which so many are looked at, and those that are neighbours both ways
_SKETCHED = 3  # by sketch, for each way to turn it
_VIEWS = 400  # kept in memory, 0.3 MB each
_BLOCK = 1024  # pairs whose descriptors are read at once
# A look's matrices are small: threads would wait for each other longer than they compute.
_alone = partial(threadpool_limits, limits=1, user_api="blas")


class Photos(Protocol):
    """What is asked of the photos, by their places 0 to n - 1."""

    def descriptors(self, places: Sequence[int]) -> NDArray[np.float32]:
        """Their FC7 (m, d), unit rows."""

    def view(self, place: int) -> View | None:
        """What there is to see; None: nothing can be seen of it."""


@dataclass(frozen=True, slots=True)
class Link:
    """Two photos that belong together."""

    one: int
    other: int
    distance: float  # Euclidean, of unit FC7
    look: Look | None  # None: similar shots; else copies of one picture
    turn: str = ""  # of TURNS: what makes of the first one the other


@dataclass(frozen=True, slots=True, eq=False)
class Sights:
    """What is kept in memory of all photos."""

    sketches: Floats  # (n, 144), zeros where there is too little to see
    cores: Mapping[int, Floats]  # the sketches of what lies between plain margins
    shares: Mapping[int, float]  # how much of the area that is

    @property
    def detailed(self) -> NDArray[np.bool_]:
        return np.asarray(self.sketches.any(axis=1), np.bool_)


def see(views: Iterable[View | None], count: int, progress: Progress | None = None) -> Sights:
    """Sketch all photos, once each. Plain ones, black ones and such are left out from here on."""
    sketches = np.zeros((count, SKETCH**2), np.float32)
    cores, shares = {}, {}
    for place, view in enumerate(views):
        if view is not None and view.detailed:
            sketches[place] = view.sketch
            if view.core_sketch is not None:
                cores[place] = view.core_sketch
                shares[place] = view.share
        if progress and (place % 256 == 255 or place == count - 1):
            progress("photos", place + 1, count)
    return Sights(sketches, cores, shares)


class Pairing:
    """Finds links among n photos.

    Memory: their reduced descriptors and sketches, a few neighbours of each, 400 views; never
    n x n.
    """

    def __init__(
        self,
        photos: Photos,
        sights: Sights,
        seconds: NDArray[np.float64],
        progress: Progress | None = None,
    ) -> None:
        """seconds: (n,) when they were taken, by the camera's clock; NaN where it isn't known."""
        self._photos = photos
        self._sights = sights
        self._seconds = seconds
        self._progress = progress or (lambda stage, done, total: None)
        self._view = lru_cache(maxsize=_VIEWS)(photos.view)
        self._links: dict[tuple[int, int], Link] = {}
        self._asked: set[tuple[int, int]] = set()

    def find(self, rows: NDArray[np.float32]) -> None:
        """Find links, by descriptors (n, d) of few dimensions and by sketches."""
        pairs = self._candidates(rows)
        distances = self._distances([pair[:2] for pair in pairs]).tolist()
        with _alone():
            for done, (pair, distance) in enumerate(zip(pairs, distances, strict=True), start=1):
                self._try(*pair, distance)
                if done % 64 == 0 or done == len(pairs):
                    self._progress("pairs", done, len(pairs))

    def link(self, one: int, other: int) -> Link | None:
        """The link of two photos; if nobody looked yet, a look decides, whatever way they turn."""
        key = (min(one, other), max(one, other))
        if not self._known_copies(key) and key not in self._asked:
            self._asked.add(key)
            distance = float(self._distances([key])[0])
            for first, second in (key, key[::-1]):
                for turn in TURNS:
                    if not self._known_copies(key):
                        self._try(first, second, turn, distance)
        return self._links.get(key)

    def known(self, one: int, other: int) -> Link:
        """The link of two photos of one group."""
        return self._links[min(one, other), max(one, other)]

    def _known_copies(self, key: tuple[int, int]) -> bool:
        return key in self._links and self._links[key].look is not None

    def pictures(self, order: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Groups of copies after `find`: the best, by this order of all, and its copies."""
        copies = [pair for pair, link in self._links.items() if link.look is not None]
        with _alone():
            return stars(order, copies, self._is_copy)

    def shots(
        self, order: Sequence[int], pictures: Sequence[tuple[int, Sequence[int]]]
    ) -> list[tuple[int, list[int]]]:
        """Groups of similar shots after `find`; of each group of copies the best stands for all."""
        stands = {copy: best for best, copies in pictures for copy in copies}
        ends = [
            (stands.get(one, one), stands.get(other, other))
            for (one, other), link in self._links.items()
            if link.look is None
        ]
        pairs = sorted({(min(pair), max(pair)) for pair in ends if pair[0] != pair[1]})
        new = [pair for pair in pairs if pair not in self._links]
        for pair, distance in zip(new, self._distances(new).tolist(), strict=True):
            if is_shot(distance, self._apart(*pair)):
                self._links[pair] = Link(*pair, distance, None)
        near = [pair for pair in pairs if pair in self._links and self._links[pair].look is None]
        return stars([one for one in order if one not in stands], near, lambda *_: False)

    def _is_copy(self, one: int, other: int) -> bool:
        link = self.link(one, other)
        return link is not None and link.look is not None

    def _apart(self, one: int, other: int) -> float:
        """Seconds; NaN: not known."""
        return abs(float(self._seconds[one] - self._seconds[other]))

    def _try(self, one: int, other: int, turn: str, distance: float) -> None:
        key = (min(one, other), max(one, other))
        if self._known_copies(key):
            return
        apart = self._apart(one, other)
        found = None if apart >= 1 else self._look(one, other, turn)
        if found is not None:
            swapped = found.swapped if one < other else not found.swapped
            found = Look(found.agreement, found.covered, swapped)
            self._links[key] = Link(*key, distance, found, turn)
        elif not turn and is_shot(distance, apart):
            self._links[key] = Link(*key, distance, None)

    def _look(self, one: int, other: int, turn: str) -> Look | None:
        first, second = self._view(one), self._view(other)
        if first is None or second is None:
            return None
        return look(first.turned(turn), second)

    def _candidates(self, rows: NDArray[np.float32]) -> list[tuple[int, int, str]]:
        """Pairs worth a look, each once for each turn, by the first photo."""
        seen = np.flatnonzero(self._sights.detailed)
        if len(seen) < 2:
            return []
        pairs: set[tuple[int, int, str]] = set()

        def add(ones: NDArray[np.int64], others: NDArray[np.int64], turn: str) -> None:
            for one, other in zip(seen[ones].tolist(), seen[others].tolist(), strict=True):
                if one != other:
                    ordered = one < other or turn == "turned by 90"  # the others are symmetric
                    first, second = (one, other) if ordered else (other, one)
                    pairs.add((first, second, turn))

        k = min(_NEIGHBOURS, len(seen) - 1)
        distances, places = nearest_others(
            rows[seen], k, lambda done, total: self._progress("neighbours", done, total)
        )
        near = (distances <= CANDIDATE) & _close(places)  # no more than of whole descriptors
        add(np.nonzero(near)[0], places[near], "")
        sketches = Rows(self._sights.sketches[seen])
        for turn, turn_it in TURNS.items():
            asked = self._sights.sketches[seen]
            if turn:
                squares = asked.reshape(-1, SKETCH, SKETCH)
                turned = np.stack([turn_it(one) for one in squares])
                asked = turned.reshape(asked.shape)
            self._progress("sketches", list(TURNS).index(turn) + 1, len(TURNS))
            add(*_alike(asked, sketches, _TURNED if turn else _ALIKE), turn)
        if self._sights.cores:
            where = np.searchsorted(seen, np.array(list(self._sights.cores)))
            ones, others = _alike(np.stack(list(self._sights.cores.values())), sketches, _ALIKE)
            add(where[ones], others, "")
        return sorted(pairs)

    def _distances(self, pairs: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """Euclidean distances of whole descriptors."""
        found = np.empty(len(pairs), np.float32)
        for start in range(0, len(pairs), _BLOCK):
            block = np.array(pairs[start : start + _BLOCK])
            places, inside = np.unique(block, return_inverse=True)
            rows = self._photos.descriptors(places.tolist())
            one, other = inside.reshape(block.shape).T
            found[start : start + _BLOCK] = np.linalg.norm(rows[one] - rows[other], axis=1)
        return found


def is_shot(distance: float, apart: float) -> bool:
    """Whether two photos so far apart, by descriptor and in seconds, are similar shots.

    apart: NaN where it isn't known.
    """
    if np.isnan(apart):
        return distance <= SHOT
    return distance <= (BURST if apart <= _WITHIN else SHOT) and apart <= _OCCASION


def stars(
    order: Sequence[int], links: Iterable[tuple[int, int]], joined: Callable[[int, int], bool]
) -> list[tuple[int, list[int]]]:
    """Group what is linked around the best: each member is linked to it directly.

    order: those who may be in a group, the best first. links: pairs of them.
    joined: whether two that have a neighbour in common are linked too.

    Without the condition a chain of small changes would end in photos that have nothing in common.
    """
    beside: dict[int, set[int]] = {}
    for one, other in links:
        beside.setdefault(one, set()).add(other)
        beside.setdefault(other, set()).add(one)
    rank = {one: place for place, one in enumerate(order)}
    free = set(order)
    found = []
    for best in order:
        if best not in free or best not in beside:
            continue
        members, tried = set[int](), {best}
        waiting = sorted(beside[best] & free)
        while waiting:
            one = waiting.pop()
            if one in tried:
                continue
            tried.add(one)
            if one in beside[best] or joined(best, one):
                members.add(one)
                waiting += sorted((beside[one] & free) - tried)
        if members:
            free -= members | {best}
            found.append((best, sorted(members, key=rank.__getitem__)))
    return found


def _alike(
    asked: Floats, sketches: Rows, least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of the sketches asked with are like which of the others: places of both (m,)."""
    distances, places = sketches.nearest(asked, min(_SKETCHED + 1, len(sketches)))
    ones, ranks = np.nonzero(distances <= (2 - 2 * least) ** 0.5)
    return ones, places[ones, ranks]


def _close(places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which neighbours (n, k) are among the first, or have the photo among their own."""
    own = np.arange(len(places))[:, np.newaxis, np.newaxis]
    close = np.asarray((places[places] == own).any(axis=2), np.bool_)
    close[:, :_NEAREST] = True
    return close
