"""A library killed, without power, and in places that fail: the short form of `make torture`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from torture import killed, places, power
from torture.disk import Disk, write
from torture.forking import Trials, trials
from torture.traced import Call, CantTraceError

from indexer.catalog import Catalog
from retrieval.errors import LibraryError, SearchError
from retrieval.search import write_codes


@pytest.fixture(scope="module")
def fork() -> Iterator[Trials]:
    with trials() as made:
        yield made


@pytest.mark.parametrize(
    "name",
    ["update", "compaction", "album edits", "migration of schema 1", "migration of schema 3"],
)
def test_killed_at_any_moment_a_library_is_whole_and_its_run_can_be_finished(
    fork: Trials, tmp_path: Path, name: str
) -> None:
    bench = killed.Bench(name, tmp_path, fork)
    assert killed.at_random(bench, 1).lost == []
    tried = killed.at_points(bench, every=40)
    assert tried.killed
    assert tried.lost == []


@pytest.mark.parametrize("name", ["recode", "migration of schema 2", "migration of schema 3"])
def test_a_power_loss_takes_nothing_that_was_committed(
    fork: Trials, tmp_path: Path, name: str
) -> None:
    try:
        bench = power.Bench(name, tmp_path, fork)
    except CantTraceError as error:
        pytest.skip(str(error))
    tried = power.lose(bench, 4)
    assert tried.states
    assert tried.lost == []


def test_a_disk_keeps_what_was_synced_and_of_the_rest_what_it_likes(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "old").write_bytes(b"old")
    disk = Disk(tmp_path / "before")
    at = f"{tmp_path}/before"
    for call in (
        Call("create", f"{at}/a", file=1),
        Call("write", f"{at}/a", file=1, data=b"first"),
        Call("sync", f"{at}/a", file=1),
        Call("write", f"{at}/a", file=1, offset=5, data=b", second"),
        Call("rename", f"{at}/a", f"{at}/b"),
        Call("unlink", f"{at}/old"),
    ):
        disk.apply(call)
    rng = random.Random(0)
    assert disk.after("all", rng) == {"old": b"old"}
    assert disk.after("none", rng) == {"b": b"first, second"}
    assert disk.after("data", rng) == {"b": b"first"}
    disk.apply(Call("open", at, file=2))
    disk.apply(Call("sync", at, file=2))
    assert disk.after("all", rng) == {"b": b"first"}
    write(disk.after("all", rng), tmp_path / "after")
    assert (tmp_path / "after" / "b").read_bytes() == b"first"


@pytest.fixture(scope="module")
def bench(fork: Trials, tmp_path_factory: pytest.TempPathFactory) -> places.Bench:
    """Photos that changed, and the library that is to follow."""
    if fork(places.may_mount).error:
        pytest.skip("this user may not mount here: unshare --mount --map-root-user")
    return places.Bench(fork, tmp_path_factory.mktemp("places") / "update", "update", "index")


def test_on_a_full_disk_a_run_ends_with_one_line_and_goes_on_later(bench: places.Bench) -> None:
    assert bench.look(places.full, 20_000) == []


def test_a_library_on_a_read_only_disk_can_be_searched_and_says_that_it_can_not_be_changed(
    bench: places.Bench,
) -> None:
    assert bench.look(places.read_only, "mount") == []


@pytest.mark.parametrize("scene", [places.forbidden, places.unreadable])
def test_what_may_not_be_read_is_told_and_taken_up_when_it_may(
    bench: places.Bench, scene: Callable[..., list[str]]
) -> None:
    assert bench.look(scene) == []


@pytest.mark.parametrize("gone", ["photos", "library"])
def test_a_disk_unplugged_while_a_run_is_at_work_costs_nothing(
    bench: places.Bench, gone: str
) -> None:
    assert bench.look(places.unplugged, gone, 2) == []


def test_a_catalogue_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with closing(Catalog(folder / "catalog.sqlite")) as catalog, catalog.snapshot():
        folder.rename(tmp_path / "unplugged")
        folder.mkdir()
        with pytest.raises(LibraryError, match=r"catalog\.sqlite can't be used"):
            catalog.settings()  # on a second connection
    assert list(folder.iterdir()) == []


def test_codes_for_which_there_is_no_room_are_told() -> None:
    with pytest.raises(SearchError, match="No space left"):
        write_codes(Path("/dev/full"), np.zeros((1, 8), np.uint8))
