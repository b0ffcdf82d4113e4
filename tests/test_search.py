"""Search over FAISS files equals comparing with every row in a plain loop."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.errors import DeviceError
from retrieval.search import Search, check_faiss_builds, merge_rows, write_rows

WIDTH = 64


def unit_rows(count: int, seed: int) -> NDArray[np.float32]:
    rows = np.abs(np.random.default_rng(seed).standard_normal((count, WIDTH)))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def rows() -> NDArray[np.float32]:
    return unit_rows(50, seed=0)


@pytest.fixture
def files(tmp_path: Path, rows: NDArray[np.float32]) -> list[Path]:
    """Three files; row i has the id 10 + 3 i."""
    ids = 10 + 3 * np.arange(50, dtype=np.int64)
    paths = []
    for part in np.array_split(np.arange(50), 3):
        paths.append(tmp_path / f"{part[0]}.faiss")
        write_rows(paths[-1], ids[part], rows[part])
    return paths


def by_loop(
    rows: NDArray[np.float32], query: NDArray[np.float32], hidden: set[int], k: int
) -> list[tuple[float, int]]:
    stored = rows.astype(np.float16).astype(np.float64)
    pairs = [
        (float(np.sqrt(((row - query) ** 2).sum())), 10 + 3 * at)
        for at, row in enumerate(stored)
        if 10 + 3 * at not in hidden
    ]
    return sorted(pairs)[:k]


@pytest.mark.parametrize("hidden", [set(), {10, 13, 157}])
def test_search_equals_a_plain_loop(
    files: list[Path], rows: NDArray[np.float32], hidden: set[int]
) -> None:
    queries = unit_rows(4, seed=1)
    search = Search(files, np.array(sorted(hidden), dtype=np.int64))
    distances, ids = search.exact(queries, 7)
    for query, found, named in zip(queries, distances, ids, strict=True):
        expected = by_loop(rows, query, hidden, 7)
        assert named.tolist() == [id_ for _, id_ in expected]
        np.testing.assert_allclose(found, [distance for distance, _ in expected], atol=1e-5)


def test_more_answers_than_rows_gives_every_row_that_is_not_hidden(files: list[Path]) -> None:
    search = Search(files, np.array([10, 13], dtype=np.int64))
    distances, ids = search.exact(unit_rows(2, seed=2), 500)
    assert ids.shape == distances.shape == (2, 48)
    assert not {10, 13} & set(ids.ravel().tolist())


def test_a_stored_row_finds_itself_at_distance_nought(files: list[Path]) -> None:
    search = Search(files, np.empty(0, np.int64))
    own = search.descriptors([40, 157])
    distances, ids = search.exact(own, 1)
    assert ids.ravel().tolist() == [40, 157]
    assert distances.ravel().tolist() == [0.0, 0.0]


def test_equal_distances_are_ordered_by_id(tmp_path: Path) -> None:
    same = np.repeat(unit_rows(1, seed=3), 6, axis=0)
    write_rows(tmp_path / "a", np.array([9, 5, 7], dtype=np.int64), same[:3])
    write_rows(tmp_path / "b", np.array([8, 4, 6], dtype=np.int64), same[3:])
    search = Search([tmp_path / "a", tmp_path / "b"], np.empty(0, np.int64))
    assert search.exact(same[:1], 6)[1].tolist() == [[4, 5, 6, 7, 8, 9]]


def test_an_unknown_id_has_no_descriptor(files: list[Path]) -> None:
    with pytest.raises(KeyError):
        Search(files, np.empty(0, np.int64)).descriptors([11])


def test_merging_keeps_the_stored_numbers_and_drops_the_rest(
    tmp_path: Path, files: list[Path]
) -> None:
    keep = np.array([10, 64, 157, 999], dtype=np.int64)
    assert merge_rows(tmp_path / "merged", files, keep) == 3
    before = Search(files, np.empty(0, np.int64)).descriptors([10, 64, 157])
    merged = Search([tmp_path / "merged"], np.empty(0, np.int64))
    assert np.array_equal(merged.descriptors([10, 64, 157]), before)
    with pytest.raises(KeyError):
        merged.descriptors([13])


def test_no_files_means_no_answers() -> None:
    distances, ids = Search([], np.empty(0, np.int64)).exact(unit_rows(2, seed=0), 3)
    assert distances.shape == ids.shape == (2, 0)


def test_two_builds_of_faiss_in_one_environment_are_refused() -> None:
    check_faiss_builds(["faiss-cpu"])
    with pytest.raises(DeviceError, match="pip uninstall -y faiss-cpu faiss-gpu"):
        check_faiss_builds(["faiss-cpu", "faiss-gpu"])


@pytest.mark.skipif(
    faiss.get_num_gpus() == 0, reason="needs a CUDA card and the GPU build of faiss"
)
def test_the_card_gives_the_same_answers(files: list[Path], rows: NDArray[np.float32]) -> None:
    search = Search(files, np.array([10], dtype=np.int64))
    distances, ids = search.exact(unit_rows(1, seed=1), 5)
    expected = by_loop(rows, unit_rows(1, seed=1)[0], {10}, 5)
    assert ids[0].tolist() == [id_ for _, id_ in expected]
    np.testing.assert_allclose(distances[0], [d for d, _ in expected], atol=1e-3)
