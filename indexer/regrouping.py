"""Which album a new group of photos is: pure, so that a person's word can be seen to be final.

An album is "kept" when a person had a hand in it: named, hid, merged, made or changed it. Grouping
never takes a photo from a kept album and never brings back one that a person took out; it may add
some. Other albums only lend their number to the group that they have most photos in common with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Known:
    """An album that is there."""

    id: int
    photos: frozenset[int]
    taken_out: frozenset[int] = frozenset()  # by a person
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Regrouped:
    """An album that shall be there."""

    id: int | None  # None: a new one
    photos: frozenset[int]


def regroup(
    known: Sequence[Known], groups: Sequence[frozenset[int]], smallest: int
) -> list[Regrouped]:
    """Return the albums after a grouping: those kept, by number, then the groups, as they come.

    groups: without a photo in common. smallest: photos; a new album has no fewer.
    """
    kept = {album.id: album for album in known if album.kept}
    claimed = frozenset[int]().union(*(album.photos for album in kept.values()))
    grown = {album.id: set(album.photos) for album in kept.values()}
    rest: list[frozenset[int]] = []
    for group in groups:
        home = _kept_home(group, kept)
        if home is None:
            rest.append(group - claimed)
        else:
            grown[home] |= group - claimed - kept[home].taken_out
    free = {album.id: album.photos for album in known if not album.kept}
    chosen = _most_in_common(free, rest)
    after = [Regrouped(id_, frozenset(photos)) for id_, photos in grown.items()]
    for place, group in enumerate(rest):
        if len(group) >= smallest:
            after.append(Regrouped(chosen.get(place), group))
    return after


def _kept_home(group: frozenset[int], kept: Mapping[int, Known]) -> int | None:
    """The kept album that a group belongs to: the only one that has half of it, or half in it.

    Where the group holds several kept albums, as a coarser grouping does, it is none of them.
    """
    homes, owned = [], []
    for album in kept.values():
        common = len(group & album.photos)
        if common > _HALF * len(group):
            owned.append(album.id)
        elif common > _HALF * len(album.photos):
            homes.append(album.id)
    if owned:
        return owned[0]
    return homes[0] if len(homes) == 1 else None


def _most_in_common(
    albums: Mapping[int, frozenset[int]], groups: Sequence[frozenset[int]]
) -> dict[int, int]:
    """Groups' places -> albums' numbers, each at most once, those that share most photos first.

    Less than half of the smaller of the two is not enough.
    """
    owner = {photo: id_ for id_, photos in albums.items() for photo in photos}
    shared = [
        (common, id_, place)
        for place, group in enumerate(groups)
        for id_, common in Counter(owner[photo] for photo in group if photo in owner).items()
        if common > _HALF * min(len(group), len(albums[id_]))
    ]
    chosen: dict[int, int] = {}
    for _, id_, place in sorted(shared, key=lambda one: (-one[0], one[1], one[2])):
        if place not in chosen and id_ not in chosen.values():
            chosen[place] = id_
    return chosen
