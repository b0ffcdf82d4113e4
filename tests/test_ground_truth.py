"""retrieval.ground_truth: the published layouts, read from names and lists alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import EvaluationError
from retrieval.ground_truth import GroundTruth, Query, Skip, read_ground_truth


def touch(folder: Path, *names: str) -> Path:
    """Empty files: ground truth never opens a photo."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def asked(truth: GroundTruth) -> dict[str, set[str]]:
    """Who asks for whom, by name, as if every photo were readable."""
    return {
        truth.paths[query.photo].name: {
            truth.paths[place].name
            for place in truth.groups[query.group]
            if query.box is not None or place != query.photo
        }
        for query in truth.queries
    }


def test_ukbench_goes_by_fours(tmp_path: Path) -> None:
    names = [f"ukbench{number:05}.jpg" for number in range(8)]
    truth = read_ground_truth(touch(tmp_path, *names, "ukbench8.jpg"), "ukbench")
    assert asked(truth) == {
        name: {*(names[:4] if name in names[:4] else names[4:])} - {name} for name in names
    }
    assert truth.skipped == (
        Skip("ukbench8.jpg", "no label (its name is not like ukbench00000.jpg)"),
    )


def test_in_holidays_only_the_first_of_a_group_asks(tmp_path: Path) -> None:
    names = ("100000.jpg", "100001.jpg", "100002.jpg", "100100.jpg", "100101.jpg", "149900.jpg")
    truth = read_ground_truth(touch(tmp_path, *(f"jpg/{name}" for name in names)), "holidays")
    assert asked(truth) == {
        "100000.jpg": {"100001.jpg", "100002.jpg"},
        "100100.jpg": {"100101.jpg"},
        "149900.jpg": set(),
    }
    assert len(truth.paths) == 6


def test_corel_goes_by_hundreds(tmp_path: Path) -> None:
    names = ("0.jpg", "99.jpg", "100.jpg", "199.jpg", "1000.jpg")
    truth = read_ground_truth(touch(tmp_path, *names, "Thumbs.db"), "corel")
    assert asked(truth) == {
        "0.jpg": {"99.jpg"},
        "99.jpg": {"0.jpg"},
        "100.jpg": {"199.jpg"},
        "199.jpg": {"100.jpg"},
        "1000.jpg": set(),
    }
    assert [skip.path for skip in truth.skipped] == ["Thumbs.db"]


# Oxford5k and Paris6k


@pytest.fixture
def buildings(tmp_path: Path) -> tuple[Path, Path]:
    """Photos in folders, as Paris6k has them, and one query of the ground truth beside them."""
    folder = touch(
        tmp_path / "photos", *(f"{place}/{place}_{n}.jpg" for place in "ab" for n in "123")
    )
    truth = tmp_path / "truth"
    truth.mkdir()
    write_query(truth, "a_1", "oxc1_a_1 10.5 20 110 220.25", good="a_1\n", ok="a_2\n", junk="b_1\n")
    return folder, truth


def write_query(truth: Path, name: str, query: str, **lists: str) -> None:
    for kind, text in ({"query": query} | lists).items():
        (truth / f"{name}_{kind}.txt").write_text(text)


def test_oxford_crops_its_queries_and_sets_junk_aside(buildings: tuple[Path, Path]) -> None:
    folder, lists = buildings
    write_query(lists, "b_1", "b_3 0 0 50 50", good="b_2\ngone\n", ok="b_3\nb_2\n", junk="")
    truth = read_ground_truth(folder, lists)
    assert asked(truth) == {"a_1.jpg": {"a_1.jpg", "a_2.jpg"}, "b_3.jpg": {"b_2.jpg", "b_3.jpg"}}
    first, second = truth.queries
    assert (first.box, second.box) == ((10.5, 20.0, 110.0, 220.25), (0.0, 0.0, 50.0, 50.0))
    assert [truth.paths[place].name for place in first.junk] == ["b_1.jpg"]
    assert second.junk == ()
    assert truth.skipped == (Skip("gone", "in the ground truth, not in the folder"),)
    assert len(truth.paths) == 6  # distractors are searched too


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("", "must hold a photo's name and a box, x1 y1 x2 y2; it holds nothing"),
        ("a_1 1 2 3", "must hold a photo's name"),
        ("a_1 1 2 3 x", "must hold a photo's name"),
        ("a_1 30 2 3 4", "must hold a photo's name"),
        ("a_1 0 0 nan 4", "must hold a photo's name"),
        ("a_1 0 0 inf 4", "must hold a photo's name"),
        ("twin 0 0 4 4", "have one name"),
    ],
)
def test_queries_that_make_no_sense_are_refused(
    query: str, complaint: str, buildings: tuple[Path, Path]
) -> None:
    folder, truth = buildings
    touch(folder, "a/twin.jpg", "b/twin.jpg")
    write_query(truth, "a_1", query)
    with pytest.raises(EvaluationError, match=complaint):
        read_ground_truth(folder, truth)


def test_lists_that_are_not_there_are_refused(buildings: tuple[Path, Path]) -> None:
    folder, truth = buildings
    (truth / "a_1_ok.txt").unlink()
    with pytest.raises(EvaluationError, match=r"a_1_ok\.txt can't be read"):
        read_ground_truth(folder, truth)
    with pytest.raises(EvaluationError, match=r"holds no \*_query\.txt"):
        read_ground_truth(folder, folder)


def test_a_query_that_is_not_in_the_folder_asks_nothing(buildings: tuple[Path, Path]) -> None:
    folder, lists = buildings
    (folder / "a" / "a_1.jpg").unlink()
    truth = read_ground_truth(folder, lists)
    assert truth.queries == ()
    assert truth.skipped == (Skip("a_1", "in the ground truth, not in the folder"),)
    assert [group.tolist() for group in truth.groups] == [[0]]


def test_photos_of_one_group_share_one_array(tmp_path: Path) -> None:
    """Or 50,000 photos of ten labels would take 2 GB."""
    truth = read_ground_truth(touch(tmp_path, "x/1.jpg", "x/2.jpg", "y/3.jpg"), "folder")
    assert [query.group for query in truth.queries] == [0, 0, 1]
    assert [group.tolist() for group in truth.groups] == [[0, 1], [2]]
    assert all(isinstance(query, Query) and query.junk == () for query in truth.queries)
    assert all(group.dtype == np.intp for group in truth.groups)
