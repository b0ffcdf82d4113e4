"""Groups against slow loops, hand-made clouds, and scikit-learn's figures for partitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from retrieval.clustering import (
    Occasion,
    cohesion,
    group_by_density,
    group_by_kmeans,
    medoid,
)
from retrieval.metrics import adjusted_rand_index, mutual_information, purity

HOUR = 3600.0


def clouds(sizes: list[int], seed: int = 0, spread: float = 0.3) -> NDArray[np.float32]:
    """Clouds far apart, one after the other."""
    rng = np.random.default_rng(seed)
    centres = 10 * np.eye(len(sizes), 8)
    rows = [c + spread * rng.standard_normal((n, 8)) for c, n in zip(centres, sizes, strict=True)]
    return np.concatenate(rows).astype(np.float32)


def test_clouds_are_groups_the_largest_first_and_what_is_far_from_all_is_in_none() -> None:
    rows = np.concatenate([clouds([20, 40, 30]), np.full((1, 8), -30, np.float32)])
    groups = group_by_density(rows)
    assert groups[-1] == -1
    inside = np.flatnonzero(groups >= 0)
    assert len(inside) >= 80  # a cloud has some that are far out
    assert groups[inside].tolist() == np.repeat([2, 0, 1], [20, 40, 30])[inside].tolist()


def test_a_higher_granularity_never_has_fewer_groups() -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((600, 6)).astype(np.float32)
    counts = [group_by_density(rows, g).max() for g in (0, 0.25, 0.5, 0.75, 1)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_groups_do_not_depend_on_the_order_of_the_rows() -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((300, 5)).astype(np.float32)
    order = rng.permutation(300)
    groups = group_by_density(rows, 0.7)
    assert adjusted_rand_score(groups[order], group_by_density(rows[order], 0.7)) == 1


def test_a_ridge_joins_two_peaks_unless_the_saddle_is_deep() -> None:
    """On a line: two dense stretches, and between them rows a bit, or much, farther apart."""

    def line(gap: float) -> NDArray[np.float32]:
        steps = [0.10] * 30 + [gap] * 30 + [0.10] * 30
        return np.cumsum(steps)[:, np.newaxis].astype(np.float32)

    shallow, deep = group_by_density(line(0.105)), group_by_density(line(0.125))
    assert len({*shallow.tolist()} - {-1}) == 1  # log(.105 / .1) = .05 < .1
    assert deep[5] != deep[-5]  # log(.125 / .1) = .22 > .1


@pytest.mark.parametrize("copies", [3, 4, 50])
def test_photos_that_are_all_the_same_are_one_group_if_they_are_enough(copies: int) -> None:
    groups = group_by_density(np.ones((copies, 4), np.float32))
    assert groups.tolist() == [0 if copies >= 4 else -1] * copies


def test_photos_of_one_afternoon_come_together() -> None:
    """Two clouds that look different, each half in one afternoon and half a month later."""
    rows = clouds([24, 24], spread=0.02) / 20
    afternoon = np.tile(np.repeat([0.0, 30 * 24 * HOUR], 12), 2)
    seconds = afternoon + np.arange(48) * 60
    plain = group_by_density(rows)
    assert not {*plain[:24].tolist()} & {*plain[24:].tolist()} - {-1}
    assert {*plain[:12].tolist()} & {*plain[12:24].tolist()} - {-1}  # whenever they were taken
    timed = group_by_density(rows, occasion=Occasion(seconds=seconds))
    assert not {*timed[afternoon > 0].tolist()} & {*timed[afternoon == 0].tolist()} - {-1}


def test_places_separate_what_looks_alike_and_unknown_ones_are_far_from_all() -> None:
    rows = clouds([36], spread=0.02) / 20
    rome, oslo, nowhere = (41.9, 12.5), (59.9, 10.8), (np.nan, np.nan)
    degrees = np.array([rome] * 12 + [oslo] * 12 + [nowhere] * 12)
    groups = group_by_density(rows, occasion=Occasion(degrees=degrees))
    assert not {*groups[:12].tolist()} & {*groups[12:24].tolist()}
    assert len({*groups[:12].tolist()}) == 1


def test_kmeans_finds_clouds_and_gives_every_row_a_group() -> None:
    groups = group_by_kmeans(clouds([20, 40, 30]), 3)
    assert groups.tolist() == [2] * 20 + [0] * 40 + [1] * 30
    assert sorted(group_by_kmeans(clouds([5]), 5).tolist()) == [0, 1, 2, 3, 4]


def test_the_medoid_and_cohesion_are_those_of_a_slow_loop() -> None:
    rows = np.random.default_rng(6).random((25, 9)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cost = [sum(float(np.sum((a - b) ** 2)) for b in rows) for a in rows]
    assert medoid(rows) == int(np.argmin(cost))
    assert cohesion(rows) == pytest.approx(np.mean([[a @ b for b in rows] for a in rows]), abs=1e-5)
    assert cohesion(rows[:1]) == 1


partitions = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-1, 4), min_size=n, max_size=n),
        st.lists(st.integers(-1, 4), min_size=n, max_size=n),
    )
)


@given(pair=partitions)
def test_figures_for_partitions_are_those_of_scikit_learn(
    pair: tuple[list[int], list[int]],
) -> None:
    one, other = (np.array(part) for part in pair)
    nmi, ari = normalized_mutual_info_score(one, other), adjusted_rand_score(one, other)
    assert mutual_information(one, other) == pytest.approx(nmi, abs=1e-9)
    assert adjusted_rand_index(one, other) == pytest.approx(ari, abs=1e-9)


def test_purity_by_hand() -> None:
    labels, groups = np.array([0, 0, 1, 1, 1, 2]), np.array([5, 5, 5, 7, 7, 7])
    assert purity(labels, groups) == pytest.approx((2 + 2) / 6)
    assert purity(labels[:0], groups[:0]) == 0
