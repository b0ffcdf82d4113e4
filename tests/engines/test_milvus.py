"""A library whose vectors are on a real Milvus answers as one whose vectors are in its folder."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from milvus_server import MilvusServer, skip_where_milvus_cannot_run
from test_crash import RUN

import indexer.coding
import indexer.engines.milvus_client
import indexer.pipeline
from indexer import Library, open_library
from indexer.engines.addresses import read_addresses
from indexer.engines.stores import open_store, parse_address
from indexer.filters import NO_FILTERS, Filters
from indexer.finder import Answer
from retrieval.errors import LibraryError
from retrieval.extractor import Extractor

pymilvus = pytest.importorskip(
    "pymilvus", reason='pymilvus is not installed: pip install "fc7[cluster]"'
)
NAMES = count()


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    skip_where_milvus_cannot_run()
    with MilvusServer(tmp_path_factory.mktemp("milvus")) as server:
        yield server


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is never whole is refused after some seconds."""
    monkeypatch.setattr(indexer.engines.milvus_client, "_PATIENCE", 10.0)


def address_of(milvus: MilvusServer) -> str:
    """A place for one library."""
    return f"milvus://127.0.0.1:{milvus.port}/library{next(NAMES)}?shards=2"


@pytest.fixture
def remote(milvus: MilvusServer, tmp_path: Path, extractor: Extractor) -> Iterator[Library]:
    with open_library(tmp_path / "remote", extractor=extractor, store=address_of(milvus)) as opened:
        yield opened


@pytest.fixture(scope="module")
def both(
    milvus: MilvusServer,
    gallery: Path,
    tmp_path_factory: pytest.TempPathFactory,
    extractor: Extractor,
) -> Iterator[tuple[Library, Library]]:
    """The sample photos, here and on Milvus."""
    folder = tmp_path_factory.mktemp("both")
    with (
        open_library(folder / "local", extractor=extractor) as local,
        open_library(folder / "far", extractor=extractor, store=address_of(milvus)) as far,
    ):
        local.index([gallery])
        assert far.index([gallery]).added == local.count() > 100
        assert not list((far.path).glob("segments/*"))
        yield local, far


def told(answer: Answer) -> list[tuple[Path, float]]:
    return [(hit.photo.path, round(hit.distance, 4)) for hit in answer.hits]


def same_answers(local: Library, far: Library, step: int = 1) -> None:
    """Each photo is answered alike, exactly and by codes; the photos have other ids there."""
    for photo in local.photos(limit=1000)[::step]:
        for mode in ("exact", "codes"):
            here, there = (one.answer(photo.path, 10, mode=mode) for one in (local, far))
            assert told(there) == told(here)
            assert there.effort == here.effort
            assert there.labels == here.labels


def client_of(far: Library) -> tuple[pymilvus.MilvusClient, str]:
    """A client that is not ours, and the collection of a library's FC7."""
    own = parse_address(read_addresses(far.path).store or "")
    return pymilvus.MilvusClient(own.uri), own.name


def ids_in(client: pymilvus.MilvusClient, name: str, expression: str) -> set[int]:
    rows = client.query(
        name, filter=expression, output_fields=["id"], limit=16_000, consistency_level="Strong"
    )
    return {row["id"] for row in rows}


def check_nothing_is_left_over(far: Library) -> None:
    """What is in Milvus are the contents that have photos, and their codes by one coder."""
    client, name = client_of(far)
    live = set(far._catalog.live_contents())
    collections = [one for one in client.list_collections() if one.startswith(name + "_")]
    assert len(collections) == 1
    for one in (name, *collections):
        assert ids_in(client, one, "id > 0") == live


@pytest.mark.light
def test_photos_are_answered_as_by_a_local_library(both: tuple[Library, Library]) -> None:
    same_answers(*both, step=9)


@pytest.mark.parametrize(
    "filters",
    [
        Filters(label="dog"),
        Filters(label="no such thing"),
        Filters(since="2010"),
        Filters(until="2012-06"),
        Filters(since="2008-05-30", until="2008-05-30"),
        Filters(camera="canon"),
        Filters(box=(-90, -180, 90, 180)),
        Filters(box=(-90, 100, 90, -100)),
        Filters(label="shoe", until="2030"),
    ],
    ids=str,
)
@pytest.mark.light
def test_filters_on_what_never_changes_are_told_milvus(
    both: tuple[Library, Library], filters: Filters
) -> None:
    asked = both[0].photos(limit=1)[0].path
    for mode in ("exact", "codes"):
        here, there = (one.answer(asked, 30, mode=mode, filters=filters) for one in both)
        assert told(there) == told(here)
        assert there.effort == here.effort


@pytest.mark.light
def test_folders_and_albums_are_told_milvus_as_ids(
    both: tuple[Library, Library], gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.engines.milvus._IDS", 5)  # several expressions, merged
    asked = both[0].photos(limit=1)[0].path
    everything = [
        replace(NO_FILTERS, folder=gallery / "shoes"),
        replace(NO_FILTERS, folder=gallery / "shoes", label="shoe"),
    ]
    for filters in everything:
        here, there = (one.answer(asked, 30, mode="exact", filters=filters) for one in both)
        assert told(there) == told(here) != []
    chosen = [photo.path for photo in both[0].photos(limit=11)]
    found = []
    for library in both:
        album = library.albums.create("Eleven", [library.photo_at(p).id for p in chosen])
        filters = replace(NO_FILTERS, album=album.id)
        found.append(told(library.answer(asked, 30, mode="codes", filters=filters)))
    assert found[0] == found[1]
    assert {path for path, _ in found[0]} == {path for path in chosen if path != asked}


def test_albums_and_duplicates_are_found_alike(both: tuple[Library, Library]) -> None:
    groups = [
        [{photo.path for photo in one.albums.photos(album.id)} for album in one.albums.all()]
        for one in both
        if one.albums.group()
    ]
    assert groups[0] == groups[1]
    pairs = [
        [(group.kind, group.keep.path, [copy.photo.path for copy in group.others])
         for group in one.duplicates.find()]
        for one in both
    ]  # fmt: skip
    assert pairs[0] == pairs[1]


@pytest.mark.light
def test_photos_that_come_change_move_and_leave_do_so_in_milvus_too(
    photos: Path, remote: Library, tmp_path: Path, extractor: Extractor, draw: Callable[..., Path]
) -> None:
    with open_library(tmp_path / "local", extractor=extractor) as local:
        for library in (local, remote):
            library.index([photos])
        every = sorted(photos.rglob("*.jpg"))
        every[0].unlink()
        every[1].rename(photos / "renamed.jpg")
        shutil.copy2(every[2], every[3])  # another content at an old path
        draw(photos / "new.png", 1)
        for library in (local, remote):
            report = library.index([photos])
            assert (report.added, report.moved, report.updated, report.removed) == (1, 1, 1, 1)
        same_answers(local, remote)
    check_nothing_is_left_over(remote)


def test_codes_made_anew_replace_the_old_ones(
    remote: Library, draw: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer.coding, "LEAST", 40)
    monkeypatch.setattr("indexer.engines.milvus.ROWS", 7)  # several messages
    for seed in range(40):
        draw(tmp_path / "drawn" / f"{seed}.png", seed, (64, 64))
    remote.index([tmp_path / "drawn"])
    client, name = client_of(remote)
    before = {one for one in client.list_collections() if one.startswith(name + "_")}
    remote.train_codes(32)
    after = {one for one in client.list_collections() if one.startswith(name + "_")}
    assert len(before) == len(after) == 1
    assert before != after
    coder = remote._coders.read(remote._catalog.settings()["coder"])
    rows = client.query(name, filter="id > 0", output_fields=["id", "fc7"], limit=100)
    codes = client.query(after.pop(), filter="id > 0", output_fields=["id", "code"], limit=100)
    expected = coder.encode(np.array([row["fc7"] for row in rows], np.float16))
    stored = {row["id"]: bytes(row["code"][0]) for row in codes}
    assert stored == {row["id"]: code.tobytes() for row, code in zip(rows, expected, strict=True)}
    answer = remote.answer(remote.photos(limit=1)[0].id, 5, mode="codes")
    assert (answer.effort.bits, len(answer.hits)) == (32, 5)


@pytest.mark.parametrize(("point", "when"), [("thumbnail", 4), ("commit", 6)])
def test_a_killed_run_leaves_nothing_that_counts(
    remote: Library,
    draw: Callable[..., Path],
    tmp_path: Path,
    extractor: Extractor,
    point: str,
    when: int,
) -> None:
    folder = tmp_path / "drawn"
    for seed in range(30):
        draw(folder / f"{seed:02}.png", seed, (64, 64))
    command = [sys.executable, "-c", RUN, str(remote.path), str(folder), point, str(when)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert 0 < remote.count() < 30
    hits = remote.answer(remote.photos(limit=1)[0].id, 30, mode="exact").hits
    assert len(hits) == remote.count() - 1  # rows that were not committed are not among them
    remote.index([folder])
    with open_library(tmp_path / "local", extractor=extractor) as local:
        local.index([folder])
        same_answers(local, remote, step=5)
    check_nothing_is_left_over(remote)


@pytest.mark.light
def test_an_answer_that_lacks_a_part_is_refused(photos: Path, remote: Library) -> None:
    remote.index([photos])
    client, name = client_of(remote)
    first, *_ = remote.photos()
    witnesses = ids_in(client, name, "id < 0")
    assert len(witnesses) == 4  # two shards, before and after one write
    client.delete(name, filter=f"id in {sorted(witnesses)[:1]}")
    with pytest.raises(LibraryError, match="only incomplete answers"):
        remote.answer(first.id, 3, mode="exact")
    assert len(remote.answer(first.id, 3, mode="codes").hits) == 3  # asks the other collection
    client.delete(name, filter=f"id in {sorted(remote._catalog.live_contents())}")
    with pytest.raises(LibraryError, match="only incomplete answers"):
        remote.answer(first.id, 3, mode="codes")


def test_a_library_keeps_to_its_place(
    milvus: MilvusServer, remote: Library, photos: Path, tmp_path: Path
) -> None:
    remote.index([photos])
    own = read_addresses(remote.path).store
    assert own is not None
    with pytest.raises(LibraryError, match="has vectors of another library"):
        open_library(tmp_path / "other", store=own)
    with pytest.raises(LibraryError, match="has its vectors in Milvus at"):
        open_library(remote.path, store=address_of(milvus))
    with open_library(tmp_path / "local") as local:
        local.index([photos])
    with pytest.raises(LibraryError, match="has its vectors in its folder"):
        open_library(tmp_path / "local", store=address_of(milvus))
    with pytest.raises(LibraryError, match=r"^Milvus at 127.0.0.1:9 can't be used"):
        open_library(tmp_path / "nowhere", store="milvus://127.0.0.1:9")
    assert not (tmp_path / "nowhere" / "engines.json").exists()


def test_without_pymilvus_it_is_said_what_to_install(
    remote: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(LibraryError, match=r'pip install "fc7\[cluster\]"'):
        open_store(remote.path, remote._catalog)


def test_the_command_line_indexes_there_and_finds_it_again(
    milvus: MilvusServer, photos: Path, tmp_path: Path
) -> None:
    def fc7(*words: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "ui.cli", *words, "--library", str(tmp_path / "library")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return ran.stdout

    address = address_of(milvus)
    fc7("index", str(photos), "--store", address)
    assert f"vectors    {address.partition('?')[0]}" in fc7("status")
    photo = min(photos.rglob("*.jpg"))
    assert len(fc7("search", str(photo), "-k", "3").splitlines()) >= 3
