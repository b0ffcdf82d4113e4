"""What comes from elsewhere, libraries, files and names: it runs nothing, and leads nowhere."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from torture import hostile
from torture.backups import small_library
from torture.elsewhere import MAKERS, mutated
from torture.mutants import try_one

from indexer import Filters, Library, open_library
from indexer.backup import back_up
from indexer.checking import check
from indexer.export import export_albums
from retrieval.errors import Fc7Error, LibraryError, SearchError
from retrieval.extractor import Extractor
from retrieval.search import Search, write_rows
from ui.cli import main

# --- files


def test_mutated_segments_cost_a_line_and_no_process(tmp_path: Path) -> None:
    row = mutated("rows", tmp_path / "rows", 150)
    assert (row.tried, row.lost) == (150, 0), row.note


@pytest.mark.parametrize("kind", ["codes", "coder", "run", "engines", "backup"])
def test_other_mutated_files_cost_a_line(kind: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path)
    (tmp_path / "work").mkdir()
    files = sorted(file for file in tmp_path.iterdir() if file.is_file())
    for number in range(30 if kind == "backup" else 100):
        assert try_one(kind, number, files, tmp_path / "work") == "ok", number


def test_each_byte_of_a_segment_that_is_not_data_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "x.faiss"
    write_rows(file, np.array([3, 4], np.int64), np.ones((2, 16), np.float32))
    whole = file.read_bytes()
    data = {*range(118, 118 + 64), *range(len(whole) - 16, len(whole))}
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        if at in data:
            assert Search([file], np.empty(0, np.int64)).count() == 2
        else:
            with pytest.raises(SearchError, match="missing or damaged"):
                Search([file], np.empty(0, np.int64))


def test_segments_and_queries_of_different_widths_are_refused(tmp_path: Path) -> None:
    for width in (8, 16):
        write_rows(tmp_path / f"{width}.faiss", np.array([width]), np.ones((1, width), np.float32))
    with pytest.raises(SearchError, match=r"16\.faiss holds rows of 16 numbers beside others of 8"):
        Search([tmp_path / "8.faiss", tmp_path / "16.faiss"], np.empty(0, np.int64))
    search = Search([tmp_path / "8.faiss"], np.empty(0, np.int64))
    with pytest.raises(SearchError, match=r"descriptor has 16 numbers, those of .* have 8"):
        search.exact(np.ones((1, 16), np.float32), 1)


# --- libraries


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_library(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("trap", hostile.TRAPS)
def test_a_library_made_to_deceive_leads_nowhere(trap: str, tmp_path: Path, small: Path) -> None:
    library, outside = hostile.set_up(tmp_path, small)
    hostile.TRAPS[trap](library, outside)
    before = hostile.digests(outside)
    told = []
    for what in (look, check, lambda path: back_up(path, tmp_path / "file")):
        with suppress(Fc7Error):
            what(library)
            continue
        told.append(what)
    assert hostile.digests(outside) == before
    harmless = ("photos", "journal", "thumbnails that", "the coder is a", "dates", "a NUL")
    if not any(word in trap for word in harmless):
        assert told  # it is not taken for a library that is well, nor mended by the run
    if (tmp_path / "file").exists():
        assert b"a secret" not in (tmp_path / "file").read_bytes()


def look(library: Path) -> None:
    with open_library(library) as opened:
        opened.work()
        opened.index()
        opened.status()
        for photo in opened.photos():
            opened.thumbnail(photo.id)
        opened.answer(1, 2, mode="exact")
        opened.answer(1, 2, mode="codes")


def test_the_traps_of_this_test_are_set_in_a_library_that_is_well(
    small: Path, tmp_path: Path
) -> None:
    library, _ = hostile.set_up(tmp_path, small)
    look(library)
    assert check(library).problems == ()


def test_what_is_no_picture_is_not_exported(small: Path, tmp_path: Path) -> None:
    library, outside = hostile.set_up(tmp_path, small)
    with open_library(library) as opened:
        opened.albums.create("all", [1, 2, 3, 4])
    hostile.TRAPS["photos that are a person's files"](library, outside)
    with open_library(library) as opened:
        report = export_albums(opened, opened.albums.all(), tmp_path / "out")
    letter = outside / "documents" / "letter.txt"
    assert report.failed == ((letter, "not an image"),)
    assert len(report.albums[0][1]) == 3


# --- names

NAMES = (
    b"new\nline.png",
    b"\x1b]0;owned\x07\x1b[31mred.png",
    b"\r overwritten.png",
    b"quote'\"`$(id).png",
    b"\xff\xfe no UTF-8.png",
    "🌻🏔.png".encode(),
    "\u202egnp.right to left.png".encode(),
    b"<script>alert(1)<!--.png",
    b"<img src=x onerror=alert(1)>.png",
    b"-rf --help.png",
    b"'; DROP TABLE photos;--.png",
    b"a..png",
    b"%s%n{0}%_.png",
    b"[x](javascript:alert(1)) *b* $x$ :red[c].png",
    b" spaces .png",
    b"back\\slash.png",
    b"=cmd|' -C calc'!A0.png",
    ("é" * 125).encode() + b".png",
    b"con.png",
)
FOLDER = b"<b>'\"\n\x1b[31m 100%_\xff"
EXIF = "<img src=x onerror=alert(2)>\x1b[31m'; DROP TABLE photos;--\n" + "long " * 10_000
ALBUM = "<img src=x onerror=alert(3)> [x](javascript:alert(4)) *b* '; DROP TABLE albums;--"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, extractor: Extractor) -> Iterator[Library]:
    """Photos of hostile names in a folder of one, with hostile EXIF, in an album of one."""
    root = tmp_path_factory.mktemp("photos")
    folder = os.fsencode(root) + b"/" + FOLDER
    os.mkdir(folder)  # noqa: PTH102
    exif = Image.Exif()
    exif[0x010F] = exif[0x0110] = exif[0x013B] = EXIF  # make, model, artist
    for seed, name in enumerate(NAMES):
        noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((64, 48))
        with open(folder + b"/" + name, "wb") as file:  # noqa: PTH123
            picture.save(file, "PNG", exif=exif)
    secret = tmp_path_factory.mktemp("outside") / "secret.png"
    shutil.copy(Path(os.fsdecode(folder + b"/" + NAMES[0])), secret)
    (root / "link").symlink_to(secret.parent)
    (root / "link.png").symlink_to(secret)
    with open_library(tmp_path_factory.mktemp("library"), extractor=extractor) as opened:
        assert opened.index([root]).added == len(NAMES)
        opened.albums.create(ALBUM, [photo.id for photo in opened.photos()])
        yield opened


def test_any_name_is_kept_byte_for_byte_and_links_are_not_followed(library: Library) -> None:
    photos = library.photos(limit=100)
    assert {os.fsencode(photo.path.name) for photo in photos} == set(NAMES)
    assert {os.fsencode(photo.path.parent.name) for photo in photos} == {FOLDER}
    assert library.index().unchanged == len(NAMES)
    folder = photos[0].path.parent
    assert len(library.answer(1, 50, filters=Filters(folder=folder)).hits) == len(NAMES) - 1
    other = folder.with_name(folder.name.replace("%", "x").replace("_", "x"))
    assert not library.answer(1, 50, filters=Filters(folder=other)).hits
    cameras = {photo.camera for photo in photos}
    assert len(cameras) == 1
    camera = cameras.pop()
    assert camera is not None and camera.isprintable() and len(camera) <= 401
    assert camera.startswith("<img src=x onerror=alert(2)>")


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["search", "PHOTO", "-k", "50"],
        ["search", "PHOTO", "-k", "50", "--json"],
        ["search", "PHOTO", "--camera", "'; DROP TABLE photos;--", "--json"],
        ["albums"],
        ["albums", "--json"],
        ["album", "show", "1"],
        ["album", "show", ALBUM],
        ["duplicates"],
        ["check"],
    ],
    ids=" ".join,
)
def test_no_name_acts_on_a_terminal(
    command: list[str], library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(library.photo(1).path)
    words = [photo if word == "PHOTO" else word for word in command]
    assert main([*words, "--library", str(library.path)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert all(c.isprintable() or c == "\n" for c in said.out)
    if "--json" in command:
        objects = [json.loads(line) for line in said.out.splitlines()]
        if command[0] == "search":
            found = {os.fsencode(Path(one["path"]).name) for one in objects}
            assert found <= set(NAMES)
            assert len(objects) == min(len(NAMES) - 1, 50 if "-k" in command else 10)
    assert library.count() == len(NAMES)


class Tags(HTMLParser):
    """What a page consists of, as a browser reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.handlers += [
            f"{name}={value}"
            for name, value in attrs
            if name.startswith("on") or "javascript:" in (value or "")[:20].lower()
        ]


def test_no_name_is_html_in_a_report_or_a_contact_sheet(
    library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--library", str(library.path)]
    for photo in library.photos(limit=100)[:3]:
        assert main(["search", str(photo.path), "--html", str(tmp_path / "a.html"), *where]) == 0
    assert main(["albums", "--export", str(tmp_path / "out"), *where]) == 0
    capsys.readouterr()
    for page in (tmp_path / "a.html", tmp_path / "out" / "index.html"):
        tags = Tags()
        tags.feed(page.read_text(encoding="utf-8"))
        assert tags.handlers == []
        assert not tags.found & {
            "script",
            "b",
            "iframe",
            "object",
            "a" if page.name == "a.html" else "x",
        }
    manifest = json.loads((tmp_path / "out" / "albums.json").read_text())
    (album,) = manifest["albums"]
    names = {os.fsencode(Path(one["file"]).name) for one in album["photos"]}
    assert names == set(NAMES)
    for one in album["photos"]:
        file = tmp_path / "out" / one["file"]
        assert file.resolve().parent.parent == (tmp_path / "out").resolve()
        assert file.is_file()


def test_an_album_may_be_called_as_the_export_calls_its_own_files(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "library"
    shutil.copytree(small, library)
    with open_library(library) as opened:
        for number, name in enumerate(("thumbnails", "index.html", "albums.json", "..", "/etc")):
            opened.albums.create(name, [1 + number % 4])
    assert main(["albums", "--export", str(tmp_path / "out"), "--library", str(library)]) == 0
    manifest = json.loads((tmp_path / "out" / "albums.json").read_text())
    files = [tmp_path / "out" / one["file"] for a in manifest["albums"] for one in a["photos"]]
    assert len(files) == 5
    assert all(file.is_file() and tmp_path / "out" in file.resolve().parents for file in files)


@pytest.mark.parametrize("where", ["", "albums", "albums?album=1", "duplicates", "library"])
def test_no_name_is_html_in_the_browser(
    where: str, page: Page, server: str, library: Library
) -> None:
    """The page itself sees to it that no dialog opens and nothing else is asked for."""
    page.goto(f"{server}/{where}")
    expect(page.locator("main, [data-testid=stMain]").first).to_be_visible()
    expect(page.locator("[data-testid=stStatusWidget]")).to_have_count(0)
    if where in ("", "albums?album=1"):
        names = page.locator("ol .name")
        expect(names).to_have_count(len(NAMES))
        expect(names.filter(has_text="<img src=x onerror=alert(1)>.png")).to_have_count(1)
    if where == "albums":
        expect(page.locator("ol")).to_contain_text("<img src=x onerror=alert(3)> [x](javascript")
    assert page.locator("img[src=x], a[href^=javascript], [onerror]").count() == 0
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_the_server_hands_out_no_file_that_is_no_picture(
    page: Page, server: str, library: Library, tmp_path: Path
) -> None:
    photo = library.photo(1)
    address = f"{server}/original/{photo.id}"
    assert page.request.get(address).status == 200
    whole = photo.path.read_bytes()
    try:
        photo.path.write_text("root:x:0:0: a secret")
        assert page.request.get(address).status == 404
        assert b"a secret" not in page.request.get(f"{server}/album/1.zip").body()
    finally:
        photo.path.write_bytes(whole)


def test_a_catalogue_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    file = tmp_path / "catalog.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = file.read_bytes()
    with pytest.raises(LibraryError, match="changed by another program"):
        open_library(tmp_path)
    with closing(sqlite3.connect(file)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    assert tables == [("theirs",)]
    assert len(file.read_bytes()) == len(before)
