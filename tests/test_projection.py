"""Places on the map: likes lie together, the same rows give the same map, new ones move none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier

from retrieval.neighbours import nearest
from retrieval.projection import FEW, place, project

GROUPS = 8


def groups(n: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit rows (n, 32) around eight directions, and which."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((GROUPS, 32))
    own = rng.integers(0, GROUPS, n)
    rows = centres[own] + 0.6 * rng.standard_normal((n, 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), own


def accuracy(
    places: NDArray[np.float32],
    own: NDArray[np.int64],
    of: NDArray[np.float32],
    theirs: NDArray[np.int64],
) -> float:
    """How often the five nearest of `places` tell the group of `of`."""
    known = KNeighborsClassifier(5).fit(places, own)
    return float(known.score(of, theirs))


@pytest.fixture(scope="module")
def drawn() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    rows, own = groups(400)
    return rows, own, project(rows)


def test_neighbours_on_the_map_are_neighbours_in_truth_more_than_along_two_directions(
    drawn: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]],
) -> None:
    rows, own, places = drawn
    centred = rows - rows.mean(axis=0)
    flat = (centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T).astype(np.float32)
    ours, plain = (trustworthiness(rows, p, n_neighbors=10) for p in (places, flat))
    assert ours > 0.9
    assert ours > plain + 0.05
    assert accuracy(places[::2], own[::2], places[1::2], own[1::2]) > 0.95


def test_the_same_rows_and_seed_give_the_same_map(
    drawn: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]],
) -> None:
    rows, _, places = drawn
    np.testing.assert_array_equal(project(rows), places)
    assert not np.array_equal(project(rows, seed=1), places)


def test_new_rows_come_to_their_own_group_however_many_come(
    drawn: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]],
) -> None:
    rows, own, places = drawn
    new, theirs = groups(300, seed=5)
    found = place(new, rows, places)
    assert accuracy(places, own, found, theirs) > 0.95
    np.testing.assert_allclose(place(new[7:8], rows, places)[0], found[7], atol=1e-4)
    assert len(np.unique(found, axis=0)) == len(found)


def test_a_new_row_is_not_put_between_two_groups() -> None:
    """Six of its neighbours lie in one corner and four in another: it goes to the six."""
    old = np.eye(10, dtype=np.float32)
    places = np.array([[0, 0]] * 6 + [[100, 100]] * 4, np.float32)
    places += np.random.default_rng(0).normal(0, 0.1, places.shape).astype(np.float32)
    new = np.full((1, 10), 0.1, np.float32)  # as far from all
    assert np.linalg.norm(place(new, old, places)) < 1


def test_a_place_is_the_weighted_mean_that_its_formula_says() -> None:
    """Worked by hand, in one direction, as the slow road."""
    old = np.array([[0.0, 0], [1, 0], [3, 0]], np.float32)
    places = np.array([[0.0, 0], [2, 0], [8, 0]], np.float32)
    # Distances 0, 1, 3: their mean beyond the nearest is 4/3, the weights e^0, e^-.75, e^-2.25.
    weights = [1.0, np.exp(-0.75), np.exp(-2.25)]
    # The middles of their shares are .32, .78 and .97: half the weight is passed at the second.
    kernel = [w / (1 + (p - 2.0) ** 2) for w, p in zip(weights, (0, 2, 8), strict=True)]
    expected = sum(k * p for k, p in zip(kernel, (0, 2, 8), strict=True)) / sum(kernel)
    found = place(np.zeros((1, 2), np.float32), old, places)
    np.testing.assert_allclose(found, [[expected, 0]], rtol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, FEW, FEW + 1, 20])
def test_few_rows_have_places_too(n: int) -> None:
    rows, _ = groups(n)
    places = project(rows)
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) == n
    if n > 0:
        assert np.isfinite(place(groups(3, seed=1)[0], rows, places)).all()


def test_copies_lie_together_and_nothing_else_comes_between() -> None:
    rows, _ = groups(120)
    rows[:40] = rows[0]
    places = project(rows)
    assert np.isfinite(places).all()
    _, nearest_to = nearest(places, places[:40], 20)
    assert (nearest_to < 40).mean() > 0.9


@pytest.mark.parametrize("n", [2, 5, 30])
def test_photos_that_are_all_equal_are_no_trouble(n: int) -> None:
    rows = np.zeros((n, 16), np.float32)
    places = project(rows)
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()
    assert np.isfinite(place(rows[:1], rows, places)).all()


def test_rows_of_one_number_are_no_trouble() -> None:
    """A library's rows have no more numbers than photos less one."""
    assert np.isfinite(project(np.arange(6, dtype=np.float32)[:, np.newaxis])).all()


def test_forces_summed_over_a_grid_show_the_same_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.projection._TREE", 100)
    monkeypatch.setattr("retrieval.projection._SPREADING", 50)
    rows, own = groups(300)
    places = project(rows)
    assert accuracy(places[::2], own[::2], places[1::2], own[1::2]) > 0.95


def test_progress_ends_when_all_is_done() -> None:
    told: list[tuple[int, int]] = []
    project(groups(30)[0], progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1][0] == told[-1][1]
