"""Folders -> files -> what changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.catalog import FileStat
from indexer.scan import Found, plan, scan


def names(found: Found) -> list[str]:
    return [Path(stat.path).name for stat in found.files]


def test_scan_lists_every_regular_file_whatever_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep").write_bytes(b"123")
    (tmp_path / "photo.JPG").write_bytes(b"1")
    found = scan(tmp_path)
    assert names(found) == ["photo.JPG", "deep"]
    stat = (tmp_path / "a" / "b" / "deep").stat()
    assert found.files[1] == FileStat(
        str(tmp_path / "a" / "b" / "deep"), stat.st_size, stat.st_mtime_ns
    )


def test_scan_leaves_out_hidden_names_links_and_the_excluded_folder(tmp_path: Path) -> None:
    (tmp_path / "kept.jpg").write_bytes(b"1")
    for hidden in (".DS_Store", "._kept.jpg", ".git/object"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"1")
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "thumbnail.jpg").write_bytes(b"1")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "other.jpg").symlink_to(tmp_path / "kept.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    assert names(scan(tmp_path, exclude=tmp_path / "library")) == ["kept.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    assert scan(tmp_path).unreadable == ((str(tmp_path / "closed"), "Permission denied"),)


def test_what_lies_in_an_unreadable_folder_is_not_gone() -> None:
    known = {path: FileStat(path, 1, 1) for path in ("/p/closed/a.jpg", "/p/closed2/a.jpg")}
    found = Found((), (("/p/closed", "Permission denied"),))
    assert plan(found, known, {}).gone == ("/p/closed2/a.jpg",)


stats = st.builds(
    FileStat, st.sampled_from(["/p/a", "/p/b", "/p/c"]), st.integers(0, 2), st.integers(0, 2)
)
by_path = st.lists(stats, max_size=3).map(lambda found: {stat.path: stat for stat in found})


@given(here=by_path, photos=by_path, skipped=by_path)
def test_every_file_is_planned_exactly_once(
    here: dict[str, FileStat], photos: dict[str, FileStat], skipped: dict[str, FileStat]
) -> None:
    skipped = {path: stat for path, stat in skipped.items() if path not in photos}
    made = plan(Found(tuple(here.values()), ()), photos, skipped)
    assert len(made.read) + made.unchanged + len(made.still_skipped) == len(here)
    assert set(made.gone) == photos.keys() - here.keys()
    assert set(made.gone_skips) == skipped.keys() - here.keys()
    for stat in made.read:
        assert photos.get(stat.path) != stat
        assert skipped.get(stat.path) != stat


@given(here=by_path)
def test_a_plan_applied_leaves_nothing_to_plan(here: dict[str, FileStat]) -> None:
    made = plan(Found(tuple(here.values()), ()), here, {})
    assert (made.read, made.gone, made.unchanged) == ((), (), len(here))
