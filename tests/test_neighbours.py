"""Fewer numbers, and each row's nearest others, against plain linear algebra and a slow loop."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.neighbours import Rows, nearest_others, principal


def test_principal_directions_are_those_of_the_singular_values() -> None:
    rng = np.random.default_rng(1)
    rows = (rng.standard_normal((300, 60)) * np.geomspace(3, 0.01, 60)).astype(np.float32)
    axes = principal(rows, 12)
    centred = rows - rows.mean(axis=0)
    _, expected, directions = np.linalg.svd(centred, full_matrices=False)
    projected = axes.project(rows)
    np.testing.assert_allclose(np.linalg.norm(projected, axis=0), expected[:12], rtol=1e-3)
    assert np.abs((axes.directions[0] * directions[0]).sum()) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(axes.directions @ axes.directions.T, np.eye(12), atol=1e-5)


def test_few_rows_have_fewer_directions_and_keep_their_distances() -> None:
    rows = np.random.default_rng(2).standard_normal((5, 40)).astype(np.float32)
    projected = principal(rows, 128).project(rows)
    assert projected.shape == (5, 5)
    for one in range(5):
        expected = np.linalg.norm(rows - rows[one], axis=1)
        found = np.linalg.norm(projected - projected[one], axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_nearest_others_are_those_of_a_slow_loop() -> None:
    rows = np.random.default_rng(3).standard_normal((40, 7)).astype(np.float32)
    distances, places = nearest_others(rows, 5)
    for one in range(40):
        all_ = [(float(np.linalg.norm(rows[one] - rows[o])), o) for o in range(40) if o != one]
        assert places[one].tolist() == [other for _, other in sorted(all_)[:5]]
        np.testing.assert_allclose(distances[one], [d for d, _ in sorted(all_)[:5]], atol=1e-4)


def test_no_row_is_its_own_neighbour_even_among_equals() -> None:
    rows = np.ones((30, 4), np.float32)
    distances, places = nearest_others(rows, 6)
    assert (distances == 0).all()
    assert (places != np.arange(30)[:, np.newaxis]).all()


@pytest.mark.parametrize("count", [500, 20_500])  # exact; and by cells
def test_what_is_near_is_found_however_many_rows_there_are(count: int) -> None:
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((40, 24))
    rows = (centres[rng.integers(0, 40, count)] + rng.standard_normal((count, 24))).astype("f")
    asked = rows[::10] + rng.normal(0, 0.05, rows[::10].shape).astype("f")
    distances, places = Rows(rows).nearest(asked, 3)
    assert places[:, 0].tolist() == list(range(0, count, 10))
    for one in range(0, len(asked), 100):
        expected = np.sort(np.linalg.norm(rows - asked[one], axis=1))[0]
        assert distances[one, 0] == pytest.approx(expected, abs=1e-3)
    again, others = Rows(rows).nearest(asked, 3)
    np.testing.assert_array_equal(again, distances)
    np.testing.assert_array_equal(others, places)
