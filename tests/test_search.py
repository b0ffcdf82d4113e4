"""Search over FAISS files equals comparing with every row in a plain loop."""

from __future__ import annotations

import gc
import os
from collections.abc import Collection
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

import retrieval.hamming
from retrieval.errors import DeviceError, SearchError
from retrieval.hamming import Codes
from retrieval.layout import read_codes
from retrieval.search import (
    Search,
    blend,
    check_faiss_builds,
    merge_rows,
    stored_rows,
    write_codes,
    write_rows,
)
from retrieval.training.coders import learn_itq

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
    rows: NDArray[np.float32],
    query: NDArray[np.float32],
    hidden: set[int],
    k: int,
    only: set[int] | None = None,
) -> list[tuple[float, int]]:
    stored = rows.astype(np.float16).astype(np.float64)
    pairs = [
        (float(np.sqrt(((row - query) ** 2).sum())), 10 + 3 * at)
        for at, row in enumerate(stored)
        if 10 + 3 * at not in hidden and (only is None or 10 + 3 * at in only)
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


def test_of_no_ids_there_are_no_descriptors(files: list[Path], rows: NDArray[np.float32]) -> None:
    found = Search(files, np.empty(0, np.int64)).descriptors([])
    assert found.shape == (0, rows.shape[1])


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


def test_rows_outlive_the_search_that_mapped_them(
    files: list[Path], rows: NDArray[np.float32]
) -> None:
    stored = stored_rows(files[0])
    gc.collect()
    assert np.array_equal(stored, rows[: len(stored)].astype(np.float16))


def test_no_files_means_no_answers() -> None:
    distances, ids = Search([], np.empty(0, np.int64)).exact(unit_rows(2, seed=0), 3)
    assert distances.shape == ids.shape == (2, 0)


@pytest.mark.parametrize("hidden", [set(), {10, 13, 157}])
def test_a_restriction_still_gives_k_answers_if_there_are_so_many(
    files: list[Path], rows: NDArray[np.float32], hidden: set[int]
) -> None:
    queries, only = unit_rows(4, seed=1), {10, 22, 40, 43, 100, 157, 11, 9_999}
    search = Search(files, ids_of(hidden))
    assert search.count(ids_of(only)) == len(only - hidden - {11, 9_999})
    distances, ids = search.exact(queries, 4, ids_of(only))
    for query, found, named in zip(queries, distances, ids, strict=True):
        expected = by_loop(rows, query, hidden, 4, only)
        assert len(expected) == 4
        assert named.tolist() == [id_ for _, id_ in expected]
        np.testing.assert_allclose(found, [distance for distance, _ in expected], atol=1e-5)
    assert search.exact(queries, 4, ids_of({11}))[1].shape == (4, 0)


def ids_of(ids: Collection[int]) -> NDArray[np.int64]:
    return np.array(sorted(ids, reverse=True), dtype=np.int64)


# --- by codes


def coded(
    folder: Path,
    rows: NDArray[np.float32],
    codes: NDArray[np.uint8],
    ids: NDArray[np.int64],
    parts: int,
    hidden: Collection[int] = (),
) -> Search:
    """A search over rows and their codes, in so many files."""
    folder.mkdir(exist_ok=True)
    split = np.array_split(np.arange(len(rows)), parts)
    for at, part in enumerate(split):
        write_rows(folder / f"{at}.faiss", ids[part], rows[part])
        write_codes(folder / f"{at}.codes", codes[part])
    search = Search([folder / f"{at}.faiss" for at in range(parts)], ids_of(hidden))
    search.load_codes([folder / f"{at}.codes" for at in range(parts)])
    return search


def draw_codes(count: int, width: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)


def signs(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Activations of which nothing is known but the codes."""
    return 2 * np.unpackbits(codes, axis=1).astype(np.float32) - 1


def shortlist_by_counting(
    codes: NDArray[np.uint8], ids: NDArray[np.int64], query: NDArray[np.uint8], most: int
) -> set[int]:
    """The ids of the nearest codes, bit by bit; equal ones by id."""
    ranked = sorted(
        (sum((int(a) ^ int(b)).bit_count() for a, b in zip(code, query, strict=True)), int(id_))
        for code, id_ in zip(codes, ids, strict=True)
    )
    return {id_ for _, id_ in ranked[:most]}


def test_a_shortlist_of_all_rows_gives_what_exact_search_gives(tmp_path: Path) -> None:
    rows, queries = unit_rows(90, seed=0), unit_rows(5, seed=1)
    ids = np.random.default_rng(2).permutation(400)[:90].astype(np.int64)
    hidden = set(ids[:7].tolist())
    search = coded(tmp_path, rows, draw_codes(90, 8, seed=3), ids, 4, hidden)
    for only in (None, ids[5:60]):
        exact = search.exact(queries, 12, only)
        by_codes = search.by_codes(queries, signs(draw_codes(5, 8, seed=4)), 12, 90, only)
        assert np.array_equal(by_codes[0], exact[0])
        assert np.array_equal(by_codes[1], exact[1])
        assert not hidden & set(by_codes[1].ravel().tolist())


@pytest.mark.parametrize("most", [1, 7, 40])
def test_the_shortlist_is_what_counting_bits_gives_equals_by_id(tmp_path: Path, most: int) -> None:
    """Codes of one byte, so that many are equally far at the end of the shortlist."""
    rows, codes = unit_rows(120, seed=0), draw_codes(120, 1, seed=1)
    ids = np.random.default_rng(2).permutation(500)[:120].astype(np.int64)
    hidden = set(ids[50:60].tolist())
    shown = ~np.isin(ids, list(hidden))
    queries = draw_codes(6, 1, seed=3)
    search = coded(tmp_path / "a", rows, codes, ids, 3, hidden)
    found = search.by_codes(unit_rows(6, seed=4), signs(queries), most, most)[1]
    for query, named in zip(queries, found, strict=True):
        expected = shortlist_by_counting(codes[shown], ids[shown], query, most)
        assert set(named.tolist()) == expected
    order = np.random.default_rng(5).permutation(120)
    shuffled = coded(tmp_path / "b", rows[order], codes[order], ids[order], 5, hidden)
    again = shuffled.by_codes(unit_rows(6, seed=4), signs(queries), most, most)[1]
    assert np.array_equal(again, found)


def test_what_is_known_of_the_query_beyond_its_code_chooses_among_the_nearest_codes(
    tmp_path: Path,
) -> None:
    rows, codes, ids = unit_rows(300, seed=0), draw_codes(300, 2, seed=1), np.arange(300)
    activations = np.random.default_rng(2).standard_normal((4, 16)).astype(np.float32)
    search = coded(tmp_path, rows, codes, ids.astype(np.int64), 2)
    found = search.by_codes(unit_rows(4, seed=3), activations, 5, 5)[1]
    asked = np.packbits(activations > 0, axis=1)
    for known, query, named in zip(activations, asked, found, strict=True):
        near = shortlist_by_counting(codes, ids, query, 2 * 5)
        alike = {id_: sum(a if (int(codes[id_][bit // 8]) >> (7 - bit % 8)) & 1 else -a
                          for bit, a in enumerate(known.tolist())) for id_ in near}  # fmt: skip
        expected = sorted(near, key=lambda id_: (-round(alike[id_], 4), id_))[:5]
        assert set(named.tolist()) == set(expected)


def test_a_segment_cut_while_it_is_open_is_told_in_one_line(tmp_path: Path) -> None:
    rows, codes = unit_rows(200, seed=0), draw_codes(200, 4, seed=1)
    search = coded(tmp_path, rows, codes, np.arange(200), 1)
    os.truncate(tmp_path / "0.faiss", 4096)
    with pytest.raises(SearchError, match="descriptors can't be read from the library: the file"):
        search.by_codes(rows[:1], signs(codes[:1]), 5, 200)


def test_a_restricted_shortlist_is_made_of_what_may_be_answered(tmp_path: Path) -> None:
    rows, codes = unit_rows(120, seed=0), draw_codes(120, 4, seed=1)
    ids = np.arange(1, 121, dtype=np.int64)
    search = coded(tmp_path, rows, codes, ids, 3, hidden={1, 2, 3})
    only = np.array([120, 3, 60, 61, 62, 2, 8, 9, 500], dtype=np.int64)
    query = draw_codes(1, 4, seed=3)
    allowed = np.isin(ids, only) & (ids > 3)
    for most in (4, 6):
        found = search.by_codes(unit_rows(1, seed=2), signs(query), 4, most, only)[1][0].tolist()
        listed = shortlist_by_counting(codes[allowed], ids[allowed], query[0], most)
        assert len(found) == 4
        assert set(found) <= listed
    assert search.by_codes(unit_rows(1, seed=2), signs(query), 50, 1, only)[1].shape == (1, 6)
    assert search.by_codes(unit_rows(1, seed=2), signs(query), 5, 9, only[:0])[1].shape == (1, 0)


@pytest.mark.parametrize("share", [7, 1000])
def test_codes_shared_by_threads_are_found_as_by_counting(
    share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval.hamming, "_SHARE", share)
    stored, queries = draw_codes(90, 1, seed=0), draw_codes(5, 1, seed=1)
    codes, places = Codes(stored), np.arange(90)
    among = np.random.default_rng(2).random(90) < 0.3
    among[:40] = False  # in some threads' parts nothing competes
    for query in queries:
        distance = [(int(a) ^ int(query[0])).bit_count() for a in stored[:, 0]]
        every = sorted(places, key=lambda at: (distance[at], at))
        some = [at for at in every if among[at]]
        assert codes.nearest(query[np.newaxis], 30)[0].tolist() == every[:30]
        assert codes.nearest(query[np.newaxis], 9, among)[0].tolist() == some[:9]
    at_once = codes.nearest(queries, 30)
    assert [
        codes.nearest(query[np.newaxis], 30)[0].tolist() for query in queries
    ] == at_once.tolist()


def test_codes_learned_by_itq_find_most_of_the_nearest_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clusters = np.abs(rng.standard_normal((40, WIDTH)))
    rows = np.abs(clusters[np.arange(2020) % 40] + 0.4 * rng.standard_normal((2020, WIDTH)))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    gallery, queries = rows[:2000], rows[2000:]
    coder = learn_itq(gallery, 32)
    ids = np.arange(2000, dtype=np.int64)
    search = coded(tmp_path, gallery, coder.encode(gallery), ids, 3)
    assert search.bits == 32
    exact = search.exact(queries, 10)[1]
    near = search.by_codes(queries, coder.activations(queries), 10, 200)[1]
    recall = [len(set(a) & set(b)) / 10 for a, b in zip(exact, near, strict=True)]
    assert np.mean(recall) > 0.95
    chance = search.by_codes(queries, signs(draw_codes(20, 4, seed=1)), 10, 200)[1]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, chance, strict=True)]) < 0.5


def test_codes_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    rows, ids = unit_rows(20, seed=0), np.arange(20, dtype=np.int64)
    search = coded(tmp_path, rows, draw_codes(20, 4, seed=1), ids, 2)
    with pytest.raises(SearchError, match=r"16 bits, the codes of the segments 32$"):
        search.by_codes(rows[:1], signs(draw_codes(1, 2, seed=1)), 3, 5)
    files = [tmp_path / "0.codes", tmp_path / "1.codes"]
    write_codes(files[1], draw_codes(9, 4, seed=1))
    with pytest.raises(SearchError, match=r"1\.codes doesn't fit its segment: 9 codes for 10 rows"):
        search.load_codes(files)
    write_codes(files[1], draw_codes(10, 2, seed=1))
    with pytest.raises(SearchError, match=r"1\.codes holds codes of 16 bits beside others of 32"):
        search.load_codes(files)
    for damage in (
        b"",
        b"no index",
        files[0].read_bytes()[:-5],
        (tmp_path / "0.faiss").read_bytes(),
    ):
        files[1].write_bytes(damage)
        with pytest.raises(SearchError, match=r"1\.codes is missing or damaged$"):
            search.load_codes(files)
    files[1].unlink()
    with pytest.raises(SearchError, match=r"1\.codes is missing or damaged$"):
        read_codes(files[1])


# --- one query of several examples


def test_a_query_of_several_examples_is_what_a_plain_loop_makes_of_them() -> None:
    positive, negative = unit_rows(3, seed=0), unit_rows(2, seed=1)
    for away in (negative, negative[:0], None):
        expected = []
        for column in range(WIDTH):
            value = sum(float(row[column]) for row in positive) / 3
            if away is not None and len(away):
                value -= 0.5 * sum(float(row[column]) for row in away) / len(away)
            expected.append(max(value, 0.0))
        norm = sum(value * value for value in expected) ** 0.5
        found = blend(positive, away)
        assert found.shape == (1, WIDTH)
        np.testing.assert_allclose(found[0], [value / norm for value in expected], atol=1e-6)


def test_a_single_example_is_its_own_query() -> None:
    row = unit_rows(1, seed=0) * np.float32(1.0001)  # as fp16 leaves it: not quite a unit row
    assert np.array_equal(blend(row), row)


def test_counter_examples_that_leave_nothing_are_told() -> None:
    positive = np.eye(4, dtype=np.float32)
    with pytest.raises(SearchError, match="nothing is left"):
        blend(positive, np.full((1, 4), 0.5, np.float32))


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


@pytest.mark.skipif(
    faiss.get_num_gpus() == 0, reason="needs a CUDA card and the GPU build of faiss"
)
def test_codes_on_the_card_give_what_counting_bits_gives(tmp_path: Path) -> None:
    rows, codes, ids = unit_rows(200, seed=0), draw_codes(200, 32, seed=1), np.arange(200)
    query = draw_codes(1, 32, seed=2)
    search = coded(tmp_path, rows, codes, ids.astype(np.int64), 2)
    found = search.by_codes(unit_rows(1, seed=3), signs(query), 20, 20)[1][0]
    near = sorted(ids, key=lambda id_: int(np.unpackbits(codes[id_] ^ query[0]).sum()))
    last = int(np.unpackbits(codes[near[19]] ^ query[0]).sum())
    for id_ in found:  # which of those at the last distance is the card's choice
        assert int(np.unpackbits(codes[id_] ^ query[0]).sum()) <= last
