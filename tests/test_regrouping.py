"""A person's word about albums is final, whatever the grouping finds."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from indexer.regrouping import Known, Regrouped, regroup

PHOTOS = range(40)


def photos(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def span(first: int, after: int) -> frozenset[int]:
    return frozenset(range(first, after))


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Known], list[frozenset[int]]]:
    """Albums, some kept and overlapping as a person may make them, and a new grouping."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    known = []
    free = list(PHOTOS)
    rng.shuffle(free)
    for number in range(1, rng.randint(1, 6)):
        kept = rng.random() < 0.5
        size = rng.randint(0, 12)
        if kept:
            own = frozenset(rng.sample(PHOTOS, size))
            out = frozenset(rng.sample(PHOTOS, 5)) - own
        else:
            own, out = frozenset(free[:size]), frozenset()
            free = free[size:]
        known.append(Known(number, own, out, kept))
    order = list(PHOTOS)
    rng.shuffle(order)
    cuts = sorted(rng.sample(PHOTOS, rng.randint(0, 5)))
    groups = [frozenset(order[first:after]) for first, after in pairwise([0, *cuts])]
    return known, [group for group in groups if group]


@given(situation=situations())
def test_a_kept_album_loses_nothing_and_regains_nothing_taken_out(
    situation: tuple[list[Known], list[frozenset[int]]],
) -> None:
    known, groups = situation
    after = {album.id: album.photos for album in regroup(known, groups, 1) if album.id}
    for album in known:
        if album.kept:
            assert album.photos <= after[album.id]
            assert not album.taken_out & after[album.id] - album.photos


@given(situation=situations())
def test_grouping_puts_a_photo_into_one_album_and_numbers_are_used_once(
    situation: tuple[list[Known], list[frozenset[int]]],
) -> None:
    known, groups = situation
    after = regroup(known, groups, 1)
    ids = [album.id for album in after if album.id is not None]
    assert len(ids) == len({*ids})
    assert {*ids} <= {album.id for album in known}
    kept = {album.id: album.photos for album in known if album.kept}
    placed = [
        photo for album in after for photo in album.photos - kept.get(album.id or 0, photos())
    ]
    assert len(placed) == len({*placed})
    assert not {*placed} & frozenset().union(*kept.values())


@given(situation=situations())
def test_grouping_the_same_again_changes_nothing(
    situation: tuple[list[Known], list[frozenset[int]]],
) -> None:
    known, groups = situation
    kept = {album.id: album for album in known if album.kept}
    first = regroup(known, groups, 1)
    stored = [
        Known(
            album.id or 100 + place,
            album.photos,
            kept[album.id].taken_out if album.id in kept else frozenset(),
            album.id in kept,
        )
        for place, album in enumerate(first)
    ]
    again = regroup(stored, groups, 1)
    assert {(a.id, a.photos) for a in again} >= {(a.id, a.photos) for a in stored if not a.kept}


def test_an_album_that_grew_keeps_its_number() -> None:
    known = [Known(1, span(0, 10)), Known(2, span(10, 30))]
    after = regroup(known, [span(10, 35), span(0, 10) | photos(36)], 4)
    assert after == [Regrouped(2, span(10, 35)), Regrouped(1, span(0, 10) | photos(36))]


def test_of_two_halves_the_larger_keeps_the_number() -> None:
    after = regroup([Known(1, span(0, 10))], [span(0, 4), span(4, 10)], 4)
    assert after == [Regrouped(None, span(0, 4)), Regrouped(1, span(4, 10))]


def test_new_photos_join_a_named_album() -> None:
    after = regroup([Known(1, span(0, 10), kept=True)], [span(2, 14)], 4)
    assert after == [Regrouped(1, span(0, 14))]


def test_what_was_merged_by_hand_stays_merged() -> None:
    after = regroup([Known(1, span(0, 20), kept=True)], [span(0, 11), span(11, 22)], 4)
    assert after == [Regrouped(1, span(0, 22))]


def test_a_group_of_several_kept_albums_belongs_to_none_of_them() -> None:
    known = [Known(1, span(0, 5), kept=True), Known(2, span(5, 10), kept=True)]
    after = regroup(known, [span(0, 20)], 4)
    assert after == [
        Regrouped(1, span(0, 5)),
        Regrouped(2, span(5, 10)),
        Regrouped(None, span(10, 20)),
    ]


def test_too_few_left_are_no_album() -> None:
    known = [Known(1, span(0, 8), taken_out=photos(9), kept=True)]
    assert regroup(known, [span(0, 10)], 4) == [Regrouped(1, span(0, 9))]
    assert regroup([], [span(0, 3)], 4) == []
