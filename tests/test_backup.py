"""A backup holds the library as it was at one moment; nobody waits for it, and nothing deceives."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from torture import backups
from torture.answering import answers
from torture.writers import digest_of

from indexer import Library, open_library
from indexer.backup import back_up, restore
from indexer.checking import check
from indexer.database import bring_row_sum
from indexer.engines.addresses import Addresses, write_addresses
from retrieval.errors import BackupError, LibraryError
from retrieval.extractor import Extractor

HOUSE = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, extractor: Extractor) -> Iterator[Library]:
    """A library of four photos in one album. Not to be changed."""
    path = backups.small_library(tmp_path_factory.mktemp("small"))
    with open_library(path, extractor=extractor) as library:
        library.albums.create("all", [1, 2, 3, 4])
        yield library


@pytest.fixture(scope="module")
def saved(drawn: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("saved") / "library.fc7"
    back_up(drawn.path, file)
    return file


def fc7(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ui.cli", *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=HOUSE,
    )  # fmt: skip


def test_a_restored_library_is_the_one_that_was_saved(
    drawn: Library, saved: Path, tmp_path: Path, extractor: Extractor
) -> None:
    seen = []
    restore(saved, tmp_path / "again", lambda done, total: seen.append((done, total)))
    assert digest_of(tmp_path / "again") == digest_of(drawn.path)
    assert seen[-1][0] == seen[-1][1] == sum(
        one.stat().st_size for one in (tmp_path / "again").rglob("*") if one.is_file()
    )  # fmt: skip
    root = drawn.status().folders[0]
    with open_library(tmp_path / "again", extractor=extractor) as again:
        for mode in ("exact", "codes"):
            assert answers(again, root, mode) == answers(drawn, root, mode)
        assert [album.name for album in again.albums.all()] == ["all"]
        assert again.thumbnail(1) == drawn.thumbnail(1)
        assert again.index().unchanged == 4
    assert check(tmp_path / "again").problems == ()


def test_the_commands_save_and_restore_and_say_what(drawn: Library, tmp_path: Path) -> None:
    file, again = tmp_path / "a b.fc7", tmp_path / "again"
    made = fc7("backup", file, "--library", drawn.path)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith(f"{file}: 4 photos of {drawn.path}, ")
    done = fc7("restore", file, "--library", again)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{again}: 4 photos, as of 20")
    with pytest.raises(BackupError, match="is there already: give another name, or remove it"):
        back_up(drawn.path, file)
    over = fc7("restore", file, "--library", again)
    assert (over.returncode, over.stdout) == (1, "")
    assert over.stderr == (
        f"fc7: {again} is there already: restore into a new folder with --library, or move that "
        "one away first\n"
    )
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a b.fc7", "again"]


def test_tar_unpacks_a_backup_too(saved: Path, tmp_path: Path, drawn: Library) -> None:
    with tarfile.open(saved) as archive:
        archive.extractall(tmp_path, filter="data")
    assert digest_of(tmp_path) == digest_of(drawn.path)
    line = (tmp_path / "manifest.sha256").read_text()
    manifest = (tmp_path / "manifest.json").read_bytes()
    assert line == f"{hashlib.sha256(manifest).hexdigest()}  manifest.json\n"
    for one in json.loads(manifest)["files"]:
        assert hashlib.sha256((tmp_path / one["name"]).read_bytes()).hexdigest() == one["sha256"]


def test_neither_a_writer_nor_a_reader_waits_for_a_backup_nor_it_for_them(
    drawn: Library, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    shutil.copytree(drawn.path, library)
    with closing(sqlite3.connect(library / "catalog.sqlite", timeout=0)) as writer:
        writer.isolation_level = None
        bring_row_sum(writer)  # what triggers call
        writer.execute("BEGIN IMMEDIATE")  # a transaction that stays open while all is saved
        writer.execute("UPDATE settings SET value = 'x' WHERE key = 'change'")
        before = digest_of(library)
        back_up(library, tmp_path / "first")
        writer.execute("ROLLBACK")
        told = 0

        def write(_done: int, _total: int) -> None:  # in the midst of it, without any patience
            nonlocal told
            told += 1
            writer.execute("UPDATE settings SET value = 'y' WHERE key = 'change'")
            assert writer.execute("SELECT value FROM settings WHERE key = 'change'").fetchone()

        back_up(library, tmp_path / "second", write)
        assert told > 3
    for name in ("first", "second"):
        restore(tmp_path / name, tmp_path / f"{name} again")
        assert digest_of(tmp_path / f"{name} again") == before


def test_what_is_merged_away_while_it_is_saved_is_saved_as_it_is_then(
    drawn: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extractor: Extractor
) -> None:
    """Between the snapshot and the opening of the files a run replaces the only segment."""
    path = tmp_path / "library"
    shutil.copytree(drawn.path, path)
    with open_library(path, extractor=extractor) as library:
        (segment,) = library._catalog.segments()
        left = 1

        def merge(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if left and event == "open" and str(arguments[0]).endswith(segment.name):
                left = 0
                from indexer.segments import SegmentStore, merge_segments

                store = SegmentStore(path / "segments")
                store.use(*library._vectors._coder)  # type: ignore[attr-defined]
                merge_segments(library._catalog, store, [segment.name], drop_hidden=False)

        library.index()  # so that it knows its coder
        sys.addaudithook(merge)
        back_up(path, tmp_path / "file")
        assert left == 0
        restore(tmp_path / "file", tmp_path / "again")
        (merged,) = library._catalog.segments()
        assert merged.name != segment.name
        assert (tmp_path / "again" / "segments" / merged.name).is_file()
        assert digest_of(tmp_path / "again") == digest_of(path)


def test_a_backup_under_load_is_of_one_commit(tmp_path: Path) -> None:
    assert backups.under_load(tmp_path / "load", 2, ["albums", "codes"], 20).lost == 0


@pytest.mark.parametrize("what", ["backup", "restore"])
def test_killed_it_leaves_nothing_or_all(
    drawn: Library, saved: Path, tmp_path: Path, what: str
) -> None:
    source = drawn.path if what == "backup" else saved
    assert backups.killed_at_each_point(what, source, tmp_path, 0.04).lost == 0


def test_a_flipped_bit_or_a_cut_is_found(saved: Path, tmp_path: Path) -> None:
    assert backups.flipped(saved, tmp_path / "flipped", 30).lost == 0
    assert backups.cut(saved, tmp_path / "cut", 10).lost == 0


# --- what can't be saved, or restored


def test_parts_on_servers_are_saved_by_their_own_means(drawn: Library, tmp_path: Path) -> None:
    library = tmp_path / "library"
    shutil.copytree(drawn.path, library)
    write_addresses(library, Addresses(store="milvus://host:1/name"))
    with pytest.raises(LibraryError, match="save its vectors with milvus-backup, then copy"):
        back_up(library, tmp_path / "file")
    (library / "catalog.sqlite").unlink()
    write_addresses(library, Addresses(catalog="postgresql+psycopg://host/x"))
    with pytest.raises(LibraryError, match="save its catalogue with pg_dump, then copy"):
        back_up(library, tmp_path / "file")
    assert [one.name for one in tmp_path.iterdir()] == ["library"]


def test_what_is_lost_is_told_and_not_saved(drawn: Library, tmp_path: Path) -> None:
    library = tmp_path / "library"
    shutil.copytree(drawn.path, library)
    (segment,) = (library / "segments").glob("*.faiss")
    segment.unlink()
    with pytest.raises(LibraryError, match=f"has lost segments/{segment.name}: fc7 check says"):
        back_up(library, tmp_path / "file")
    assert [one.name for one in tmp_path.iterdir()] == ["library"]


def test_what_changed_by_itself_is_told_and_not_saved(drawn: Library, tmp_path: Path) -> None:
    for name in ("segments/*.faiss", "segments/*.codes", "coders/*"):
        library = tmp_path / "library"
        shutil.copytree(drawn.path, library)
        (file,) = library.glob(name)
        content = bytearray(file.read_bytes())
        content[-20] ^= 1
        file.write_bytes(content)
        with pytest.raises(LibraryError, match=f"{file.name} changed by itself: fc7 check --rep"):
            back_up(library, tmp_path / "file")
        shutil.rmtree(library)
    assert list(tmp_path.iterdir()) == []


def test_links_out_of_a_library_are_not_followed(drawn: Library, tmp_path: Path) -> None:
    for name in ("segments/*.faiss", "catalog.sqlite", "thumbnails.sqlite", "coders/*"):
        library = tmp_path / "library"
        shutil.copytree(drawn.path, library)
        (file,) = library.glob(name)
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(LibraryError, match="is a link"):
            back_up(library, tmp_path / "file")
        shutil.rmtree(library)
    assert [one.name for one in tmp_path.iterdir()] == ["elsewhere"]


def archive(file: Path, change: Callable[[dict[str, object], tarfile.TarFile], None]) -> Path:
    """A tar with a manifest that fits it, and whatever else `change` puts into both."""
    inner = io.BytesIO()
    catalog = b"no SQLite"
    manifest: dict[str, object] = {"format": 1, "fc7": "0", "schema": 1, "made": "", "photos": 0}
    digest = hashlib.sha256(catalog).hexdigest()
    files = [{"name": "catalog.sqlite", "size": len(catalog), "sha256": digest}]
    with tarfile.open(fileobj=inner, mode="w", format=tarfile.GNU_FORMAT) as rest:
        add(rest, "catalog.sqlite", catalog)
        manifest["files"] = files
        change(manifest, rest)
    about = json.dumps(manifest).encode()
    head = io.BytesIO()
    with tarfile.open(fileobj=head, mode="w", format=tarfile.GNU_FORMAT) as first:
        add(first, "manifest.json", about)
        line = f"{hashlib.sha256(about).hexdigest()}  manifest.json\n"
        add(first, "manifest.sha256", line.encode())
        end = first.offset
    body = inner.getvalue().rstrip(b"\0")
    body += bytes(-len(body) % 512)
    file.write_bytes(head.getvalue()[:end] + body + bytes(1024))
    return file


def add(target: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    target.addfile(info, io.BytesIO(data))


def with_file(name: str) -> Callable[[dict[str, object], tarfile.TarFile], None]:
    def change(manifest: dict[str, object], rest: tarfile.TarFile) -> None:
        digest = hashlib.sha256(b"evil").hexdigest()
        manifest["files"] += [{"name": name, "size": 4, "sha256": digest}]  # type: ignore[operator]
        add(rest, name, b"evil")

    return change


def with_member(kind: bytes) -> Callable[[dict[str, object], tarfile.TarFile], None]:
    name = "segments/" + 32 * "0" + ".faiss"

    def change(manifest: dict[str, object], rest: tarfile.TarFile) -> None:
        digest = hashlib.sha256(b"").hexdigest()
        manifest["files"] += [{"name": name, "size": 0, "sha256": digest}]  # type: ignore[operator]
        add(rest, name, type=kind, linkname="/etc/passwd")

    return change


def saying(**values: object) -> Callable[[dict[str, object], tarfile.TarFile], None]:
    return lambda manifest, _rest: manifest.update(values)


HOSTILE = {
    "../evil": with_file("../evil"),
    "/tmp/evil": with_file("/tmp/evil"),
    "below": with_file("segments/../../evil"),
    "another name": with_file("engines.json"),
    "newline": with_file("catalog.sqlite\n"),
    "twice": with_file("catalog.sqlite"),
    "symbolic link": with_member(tarfile.SYMTYPE),
    "hard link": with_member(tarfile.LNKTYPE),
    "device": with_member(tarfile.CHRTYPE),
    "pipe": with_member(tarfile.FIFOTYPE),
    "folder": with_member(tarfile.DIRTYPE),
    "no files": saying(files=[]),
    "huge": saying(files=[{"name": "catalog.sqlite", "size": 1 << 60, "sha256": ""}]),
    "negative": saying(files=[{"name": "catalog.sqlite", "size": -512, "sha256": ""}]),
    "endless": saying(files=[{"name": "catalog.sqlite", "size": float("inf"), "sha256": ""}]),
    "text for a number": saying(format="1"),
    "no list": saying(files=7),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_from_elsewhere_is_refused(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    file = archive(place / "file", HOSTILE[kind])
    with pytest.raises(BackupError) as told:
        restore(file, place / "library")
    assert "\n" not in str(told.value)
    assert [one.name for one in tmp_path.rglob("*")] == ["place", "file"]
    assert not Path("/tmp/evil").exists()


def test_the_archives_of_this_test_are_well_made(tmp_path: Path) -> None:
    assert restore(archive(tmp_path / "file", saying()), tmp_path / "library").files == 1
    assert (tmp_path / "library" / "catalog.sqlite").read_bytes() == b"no SQLite"


def test_a_newer_backup_is_refused_politely(tmp_path: Path) -> None:
    for name, most in (("format", 1), ("schema", 999)):
        file = archive(tmp_path / "file", saying(**{name: most + 1}))
        with pytest.raises(BackupError, match=rf"newer fc7 \({name} {most + 1}, .*: update fc7"):
            restore(file, tmp_path / "library")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_what_is_no_backup_is_refused_with_a_line(tmp_path: Path, gallery: Path) -> None:
    texts = {"empty": b"", "text": b"fc7" * 1000, "zeros": bytes(5000)}
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
    photo = next((gallery / "shoes").iterdir())
    os.mkfifo(tmp_path / "pipe")
    for file in (*(tmp_path / name for name in texts), photo, tmp_path, tmp_path / "pipe",
                 tmp_path / "missing"):  # fmt: skip
        with pytest.raises(BackupError) as told:
            restore(file, tmp_path / "library")
        assert str(told.value).startswith(str(file))
        assert not (tmp_path / "library").exists()


def test_a_library_that_is_not_there_makes_no_backup(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="no library in"):
        back_up(tmp_path / "library", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_backup_where_nothing_can_be_written_is_told(drawn: Library, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for file in (tmp_path / "file" / "inside", tmp_path / "none" / "file", tmp_path / (255 * "x")):
        with pytest.raises(BackupError, match="can't be made"):
            back_up(drawn.path, file)


def test_two_backups_of_one_name_at_once_don_t_mix(drawn: Library, tmp_path: Path) -> None:
    told: list[int] = []

    def again(done: int, total: int) -> None:
        if not told:
            told.append(done)
            with pytest.raises(BackupError, match="is being made by another process"):
                back_up(drawn.path, tmp_path / "file")

    back_up(drawn.path, tmp_path / "file", again)
    assert restore(tmp_path / "file", tmp_path / "library").photos == 4
