"""Shards without Ray: how they are planned, read, committed, and loaded into a library."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason='pip install ".[cluster]"')
pytest.importorskip("fsspec", reason='pip install ".[cluster]"')

import pyarrow.parquet as pq
from comparing import check_exactly_once, check_same, rows_of, skips_of

from indexer import Library, open_library
from indexer.engines.extraction import Describer, open_run, read_files
from indexer.engines.places import Place, read_at, walk
from indexer.engines.shards import (
    RunHeader,
    committed,
    planned_files,
    read_shard,
    write_shard,
)
from indexer.storing import Read
from retrieval.codes import shipped_coder
from retrieval.errors import EngineError, LibraryError, ShardsError
from retrieval.extractor import Extractor

HOUSE = Path(__file__).parent.parent.parent
PER_SHARD = 4


def make_shard(place: Place, header: RunHeader, *shards: int) -> bool:
    """What the machines of a cluster do, one after the other; whether all these attempts count."""
    describer = Describer(header, "cpu")
    tables = [describer.describe(read_files(place, header, shard)) for shard in shards]
    wins = [write_shard(place, *both) for both in zip(shards, tables, strict=True)]
    return all(wins)


def begin(folders: list[str], place: Place) -> RunHeader:
    return open_run(place, folders, network=None, weights=None, per_shard=PER_SHARD)


def run(folder: str, shards: Path) -> RunHeader:
    """A whole run."""
    place = Place(str(shards))
    header = begin([folder], place)
    assert make_shard(place, header, *range(header.shards))
    return header


@pytest.fixture
def folder(photos: Path) -> Path:
    """8 photos; copies of two of them, files that give none, and names out of the ordinary."""
    first, second, *_ = sorted(photos.rglob("*.jpg"))
    shutil.copy2(first, photos / "copy of one.jpg")
    shutil.copy2(first, photos / "z another copy.jpg")
    (photos / "empty.jpg").touch()
    (photos / "words.jpg").write_text("no photo")
    (photos / "cut.jpg").write_bytes(second.read_bytes()[:2000])
    (photos / ".hidden.jpg").write_bytes(first.read_bytes())
    (photos / "向日葵.jpg").write_bytes(second.read_bytes() + b"!")
    Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.jpg")).write_bytes(first.read_bytes() + b"!")
    return photos


@pytest.fixture
def local(folder: Path, tmp_path: Path, extractor: Extractor) -> Path:
    """The library that plain `fc7 index` makes."""
    with open_library(tmp_path / "local", extractor=extractor) as library:
        library.index([folder])
    return tmp_path / "local"


@pytest.fixture
def shards(folder: Path, tmp_path: Path) -> Path:
    run(str(folder), tmp_path / "shards")
    return tmp_path / "shards"


def load(shards: Path, library: Path) -> None:
    with open_library(library) as opened:
        opened.load(str(shards))


# --- the same as local


def test_loading_shards_is_indexing(shards: Path, local: Path, tmp_path: Path) -> None:
    load(shards, tmp_path / "loaded")
    assert check_same(local, tmp_path / "loaded")["photos"] == 12
    assert len(skips_of(local)) == 3
    assert check_exactly_once(shards) == 15


def test_after_loading_an_index_of_the_folder_reads_nothing(
    shards: Path, folder: Path, tmp_path: Path
) -> None:
    with open_library(tmp_path / "loaded") as library:
        library.load(str(shards))
        for folders in ([folder], []):
            report = library.index(folders)
            assert report.pace is None
            assert (report.unchanged, len(report.skipped), report.removed) == (12, 3, 0)


def test_a_loaded_library_answers_as_an_indexed_one(
    shards: Path, local: Path, tmp_path: Path, extractor: Extractor
) -> None:
    load(shards, tmp_path / "loaded")
    with (
        open_library(local, extractor=extractor) as one,
        open_library(tmp_path / "loaded", extractor=extractor) as other,
    ):
        for photo in one.photos():
            ours = one.search(photo.path, 5)
            theirs = other.search(photo.path, 5)
            assert [hit.distance for hit in theirs] == pytest.approx(
                [hit.distance for hit in ours], abs=0.02
            )
            codes = other.answer(photo.path, 5, mode="codes").hits
            assert {hit.photo.path for hit in codes} == {hit.photo.path for hit in theirs}


def test_loading_twice_is_loading_once(shards: Path, tmp_path: Path) -> None:
    with open_library(tmp_path / "loaded") as library:
        first = library.load(str(shards))
        before = [(photo.id, photo.indexed_at) for photo in library.photos()]
        second = library.load(str(shards))
        assert (first.added, first.unchanged) == (12, 0)
        assert (second.added, second.updated, second.unchanged) == (0, 0, 12)
        assert [(photo.id, photo.indexed_at) for photo in library.photos()] == before


def test_loading_where_the_photos_are_not_moves_none_of_their_copies(
    shards: Path, folder: Path, tmp_path: Path
) -> None:
    folder.rename(tmp_path / "elsewhere")
    with open_library(tmp_path / "loaded") as library:
        assert library.load(str(shards)).added == library.count() == 12
        report = library.index()
        assert report.missing_folders == (folder,)
        assert library.count() == 12


def test_a_library_keeps_its_own_photos_when_shards_are_loaded(
    shards: Path, library: Library, draw: Callable[..., Path], tmp_path: Path
) -> None:
    other = draw(tmp_path / "other" / "drawn.png", 5)
    library.index([other.parent])
    library.load(str(shards))
    assert library.count() == 13
    assert library.search(other, 1)


# --- what fails and how it heals


LOAD = """
import os, signal, sys
from pathlib import Path
import sqlalchemy
from indexer import open_library

left = int(sys.argv[3])

def dying(connection):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

with open_library(Path(sys.argv[2])) as library:
    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", dying)
    library.load(sys.argv[1])
"""


@pytest.mark.parametrize("when", [0, 2, 4, 5])
def test_a_load_that_was_killed_goes_on(
    shards: Path, local: Path, tmp_path: Path, when: int
) -> None:
    loaded = tmp_path / "loaded"
    command = [sys.executable, "-c", LOAD, str(shards), str(loaded), str(when)]
    assert subprocess.run(command, cwd=HOUSE, check=False).returncode == -signal.SIGKILL
    load(shards, loaded)
    check_same(local, loaded)


def test_of_two_attempts_at_a_shard_the_first_counts(folder: Path, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "shards"))
    header = begin([str(folder)], place)
    assert make_shard(place, header, 0)
    counting = committed(place)
    assert not make_shard(place, header, 0)
    assert committed(place) == counting
    assert place.names("data") == [counting[0].data]


def test_an_attempt_whose_record_is_there_already_has_won(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to its first writing was lost, and the second says that the record is there."""
    place = Place(str(shards))
    (shards / "commits" / "00000000.json").unlink()
    write = place.write_once

    def twice(name: str, data: bytes) -> bool:
        assert write(name, data)
        return write(name, data)

    monkeypatch.setattr(place, "write_once", twice)
    assert make_shard(place, begin([], place), 0)
    assert (shards / "data" / committed(place)[0].data).is_file()


def test_what_an_attempt_left_behind_is_not_read(shards: Path, local: Path, tmp_path: Path) -> None:
    one, *_ = (shards / "data").iterdir()
    shutil.copy(one, one.with_name("00000000-late.parquet"))  # written, never committed
    (shards / "commits" / ".00000000.json.aside").write_text("{")
    load(shards, tmp_path / "loaded")
    check_same(local, tmp_path / "loaded")


def test_of_a_run_that_is_not_complete_what_is_there_is_loaded(
    folder: Path, tmp_path: Path
) -> None:
    place = Place(str(tmp_path / "shards"))
    header = begin([str(folder)], place)
    make_shard(place, header, 1)
    with open_library(tmp_path / "loaded") as library:
        report = library.load(place.address)
        assert (report.shards, report.missing) == (1, header.shards - 1)
        known = {stat.path for stat in planned_files(place, header, 1)}
        paths = {str(photo.path) for photo in library.photos()}
        assert paths | set(skips_of(library.path)) == known


def test_a_run_that_goes_on_keeps_its_plan(folder: Path, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "shards"))
    header = begin([str(folder)], place)
    shutil.copy(folder / "copy of one.jpg", folder / "late.jpg")
    assert begin([str(folder)], place) == header
    assert begin([], place) == header
    planned = [stat.path for n in range(header.shards) for stat in planned_files(place, header, n)]
    assert len(planned) == header.files == 15


def test_a_plan_that_was_cut_off_is_made_anew(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "shards" / "plan-cut").mkdir(parents=True)
    (tmp_path / "shards" / "plan-cut" / "00000000.parquet").write_bytes(b"PAR1")
    run(str(folder), tmp_path / "shards")
    assert check_exactly_once(tmp_path / "shards") == 15


def test_a_file_that_is_gone_is_skipped_and_a_folder_that_is_gone_ends_the_run(
    folder: Path, tmp_path: Path
) -> None:
    place = Place(str(tmp_path / "shards"))
    header = begin([str(folder)], place)
    Path(planned_files(place, header, 0)[1].path).unlink()
    make_shard(place, header, 0)
    assert committed(place)[0].skipped["can't be read: No such file or directory"] == 1
    folder.rename(tmp_path / "unmounted")
    folder.mkdir()
    with pytest.raises(EngineError, match=r"doesn't see .*photos"):
        make_shard(place, header, 1)


# --- what is refused


def test_shards_of_other_photos_are_refused(shards: Path, gallery: Path) -> None:
    with pytest.raises(ShardsError, match=r"holds the run of .*photos: give another folder"):
        begin([str(gallery)], Place(str(shards)))


def test_shards_of_another_network_are_refused(shards: Path, folder: Path) -> None:
    place = Place(str(shards))
    with pytest.raises(ShardsError, match=r"of alexnet \(bundled\), not of vgg16"):
        open_run(place, [str(folder)], network="vgg16", weights=None)


def test_a_library_of_another_model_refuses_shards(shards: Path, tmp_path: Path) -> None:
    header = json.loads((shards / "run.json").read_text())
    (shards / "run.json").write_text(json.dumps(header | {"stamp": "0" * 64}))
    load(shards, tmp_path / "of another")
    (shards / "run.json").write_text(json.dumps(header))
    with pytest.raises(LibraryError, match="load them into another with --library"):
        load(shards, tmp_path / "of another")


def test_a_machine_with_other_weights_is_refused(shards: Path) -> None:
    place = Place(str(shards))
    header = json.loads((shards / "run.json").read_text())
    (shards / "run.json").write_text(json.dumps(header | {"coder": "another"}))
    with pytest.raises(Exception, match="has other weights or codes"):
        make_shard(place, begin([], place), 0)


@pytest.mark.parametrize("damage", ["run.json", "commit", "data", "plan"])
def test_damage_is_one_line(shards: Path, tmp_path: Path, damage: str) -> None:
    pattern = {"commit": "commits/*.json", "data": "data/*", "plan": "plan-*/*"}.get(damage, damage)
    next(shards.glob(pattern)).write_bytes(b'{"x":')
    with pytest.raises(ShardsError, match="damaged"):
        if damage == "plan":
            place = Place(str(shards))
            planned_files(place, begin([], place), 0)
        load(shards, tmp_path / "loaded")


def test_no_folder_no_run_no_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    place = Place(str(tmp_path / "shards"))
    with pytest.raises(ShardsError, match="no run yet"):
        begin([], place)
    with pytest.raises(LibraryError, match="is not there"):
        begin([str(tmp_path / "none")], place)
    with pytest.raises(ShardsError, match="no files there"):
        begin([str(tmp_path / "empty")], place)
    with pytest.raises(ShardsError, match="no run in"):
        load(tmp_path / "shards", tmp_path / "loaded")


# --- the format


def test_a_shard_is_plain_parquet_with_fp16_rows_and_codes(
    shards: Path, local: Path, extractor: Extractor
) -> None:
    header = json.loads((shards / "run.json").read_text())
    coder = shipped_coder("alexnet", extractor.stamp)
    assert coder is not None
    known = rows_of(local)
    seen = 0
    for record in (shards / "commits").iterdir():
        table = pq.read_table(shards / "data" / json.loads(record.read_text())["data"])
        for row in table.to_pylist():
            if row["skipped"] is not None:
                assert row["fc7"] is row["code"] is row["sha256"] is row["norm"] is None
                continue
            path = os.fsdecode(row["path_bytes"]) if row["path_bytes"] else row["path"]
            assert row["sha256"] == known[path]["hash"]
            fc7 = np.array(row["fc7"], np.float16)
            assert fc7.shape == (header["dims"],)
            assert np.linalg.norm(fc7.astype(np.float32)) == pytest.approx(1, abs=2e-3)
            code = np.array(row["code"], np.uint8)
            assert np.array_equal(code, coder[0].encode(fc7[np.newaxis])[0])
            seen += 1
    assert seen == len(known)


def test_file_addresses_are_local_paths(folder: Path, local: Path, tmp_path: Path) -> None:
    place = Place(f"file://{tmp_path}/shards")
    header = begin([f"file://{folder}"], place)
    assert header.folders == [str(folder)]
    make_shard(place, header, *range(header.shards))
    load(tmp_path / "shards", tmp_path / "loaded")
    check_same(local, tmp_path / "loaded")


def test_photos_in_an_archive_are_those_of_its_folder(
    folder: Path, local: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "\udce9" not in file.name:
                out.write(file, file.relative_to(folder))
    address = f"zip://::{archive}"
    run(address, tmp_path / "shards")
    assert check_exactly_once(tmp_path / "shards") == 14
    load(tmp_path / "shards", tmp_path / "loaded")
    ours, theirs = rows_of(local), rows_of(tmp_path / "loaded")
    assert len(theirs) == 11
    for where, row in theirs.items():
        inner = where.removeprefix("zip://").removesuffix(f"::{archive}")
        same = ours[str(folder / inner)]
        assert (row["hash"], row["size"], row["width"]) == (
            same["hash"], same["size"], same["width"]
        )  # fmt: skip
        assert np.linalg.norm(row["fc7"].astype(float) - same["fc7"].astype(float)) < 0.02
    reasons = {reason for *_, reason in skips_of(tmp_path / "loaded").values()}
    assert reasons == {reason for *_, reason in skips_of(local).values()}


def test_a_photo_at_an_address_stays_when_its_copy_is_indexed_here(
    folder: Path, tmp_path: Path, extractor: Extractor
) -> None:
    photo = folder / "向日葵.jpg"
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.write(photo, photo.name)
    run(f"zip://::{archive}", tmp_path / "shards")
    with open_library(tmp_path / "loaded", extractor=extractor) as library:
        library.load(str(tmp_path / "shards"))
        report = library.index([folder])
        assert (report.added, report.moved, report.removed) == (12, 0, 0)
        assert library.count() == 13


def test_an_archive_in_which_a_photo_is_damaged_costs_that_photo(
    folder: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for name in ("copy of one.jpg", "向日葵.jpg"):
            out.write(folder / name, name)
    data = bytearray(archive.read_bytes())
    data[5000] ^= 0xFF  # in the first one's bytes: its checksum is wrong now
    archive.write_bytes(data)
    broken, whole = [
        read_at(stat, "crop", 224)
        for stat in sorted(walk(f"zip://::{archive}"), key=lambda stat: stat.path)
    ]
    assert not isinstance(broken, Read)
    assert broken.reason == "damaged"
    assert isinstance(whole, Read)


def test_a_store_that_is_not_there_is_one_line() -> None:
    with pytest.raises(EngineError, match="nonsense://bucket can't be used"):
        Place("nonsense://bucket")


def test_shards_read_back_as_they_were_written(shards: Path) -> None:
    place = Place(str(shards))
    header = begin([], place)
    for commit in committed(place).values():
        shard = read_shard(place, header, commit)
        assert shard.codes is not None
        assert len(shard.stats) + len(shard.skipped) == commit.files
        assert shard.fc7.shape == (len(shard.stats), header.dims)
        assert shard.codes.shape == (len(shard.stats), header.bits // 8)
        assert sum(commit.skipped.values()) == len(shard.skipped)
