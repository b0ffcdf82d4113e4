"""Albums of real photos: found, kept as a person left them, and written out as folders."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer import Filters, Grouping, Library, open_library
from indexer.export import export_albums, safe_name
from indexer.titles import title_of
from retrieval.album_evaluation import evaluate_albums
from retrieval.errors import EvaluationError, LibraryError
from retrieval.extractor import Extractor
from ui.cli import main

GROUPS = ("bananas", "dandelions", "shoes", "sunsets", "tulips")


@pytest.fixture(scope="module")
def gallery_copy(tmp_path_factory: pytest.TempPathFactory, gallery: Path) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "photos"
    for group in GROUPS:
        shutil.copytree(gallery / group, folder / group)
    return folder


@pytest.fixture(scope="module")
def indexed(
    tmp_path_factory: pytest.TempPathFactory, gallery_copy: Path, extractor: Extractor
) -> Path:
    where = tmp_path_factory.mktemp("indexed") / "library"
    with open_library(where, extractor=extractor) as library:
        library.index([gallery_copy])
    return where


@pytest.fixture
def own(tmp_path: Path, indexed: Path, extractor: Extractor) -> Iterator[Library]:
    """A library of the groups, not grouped yet."""
    shutil.copytree(indexed, tmp_path / "own")
    with open_library(tmp_path / "own", extractor=extractor) as library:
        yield library


def contents_of(library: Library) -> dict[int, set[Path]]:
    return {
        album.id: {photo.path for photo in library.albums.photos(album.id)}
        for album in library.albums.all(hidden=True)
    }


def by_folder(library: Library, folder: str) -> list[int]:
    return [photo.id for photo in library.photos(limit=1000) if photo.path.parent.name == folder]


def test_albums_are_mostly_what_people_put_into_one_folder(own: Library) -> None:
    report = own.albums.group()
    assert report.photos == own.count()
    found = contents_of(own)
    placed = sum(map(len, found.values()))
    assert placed == report.photos - report.left_out
    commonest = [
        Counter(p.parent.name for p in photos).most_common(1)[0][1] for photos in found.values()
    ]
    assert sum(commonest) >= 0.8 * placed
    assert len({photo for photos in found.values() for photo in photos}) == placed


def test_each_album_has_a_cover_a_title_and_its_cohesion(own: Library) -> None:
    own.albums.group()
    for album in own.albums.all():
        assert album.cover in {photo.id for photo in own.albums.photos(album.id)}
        assert album.name == album.title != ""
        assert album.cohesion is not None
        assert 0.4 < album.cohesion <= 1


def test_grouping_again_changes_nothing_and_is_known_to_be_current(own: Library) -> None:
    assert not own.albums.is_current()
    own.albums.group()
    before = own.albums.all()
    assert own.albums.is_current()
    assert own.albums.group().changes == ()
    assert own.albums.all() == before


def test_a_preview_says_what_comes_and_keeps_nothing(own: Library) -> None:
    preview = own.albums.group(preview=True)
    assert own.albums.all() == []
    assert not own.albums.is_current()
    report = own.albums.group()
    assert [(c.album, c.after) for c in report.changes] == [
        (c.album, c.after) for c in preview.changes
    ]


def test_names_and_choices_outlast_new_photos(
    own: Library, gallery_copy: Path, tmp_path: Path
) -> None:
    """New photos come; what a person named, merged, moved, removed and hid stays as it was."""
    albums = own.albums
    albums.group()
    first, second, third, *_ = (album.id for album in albums.all())
    albums.rename(first, "Ours")
    merged = contents_of(own)[first] | contents_of(own)[second]
    albums.merge(first, [second])
    gone = albums.photos(first)[0]
    albums.remove([gone.id], first)
    moved = albums.photos(third)[0]
    albums.move([moved.id], first)
    albums.hide(third)
    expected = (merged - {gone.path}) | {moved.path}
    assert contents_of(own)[first] == expected
    new = tmp_path / "new"
    shutil.copytree(gallery_copy.parent / "photos" / "tulips", new)
    for photo in new.iterdir():  # other files, so other contents
        photo.write_bytes(photo.read_bytes() + b" ")
    own.index([new])
    report = albums.group()
    assert report.photos == own.count()
    assert expected <= contents_of(own)[first]
    assert gone.path not in contents_of(own)[first]
    assert albums.get("ours").id == first
    assert albums.get(third).hidden
    assert moved.path not in contents_of(own)[third]
    assert any(new in photo.parents for photos in contents_of(own).values() for photo in photos)
    assert {change.album for change in report.changes} <= {
        *(album.name for album in albums.all(hidden=True))
    }


def test_a_renamed_file_stays_in_its_album_and_a_deleted_one_leaves(
    tmp_path: Path, gallery_copy: Path, extractor: Extractor
) -> None:
    shutil.copytree(gallery_copy / "shoes", tmp_path / "photos")
    with open_library(tmp_path / "library", extractor=extractor) as library:
        library.index([tmp_path / "photos"])
        one, other, *_ = (photo.id for photo in library.photos())
        album = library.albums.create("Both", [one, other])
        old = library.photo(one).path
        old.rename(old.with_name("renamed.jpg"))
        library.photo(other).path.unlink()
        library.index()
        assert [p.path.name for p in library.albums.photos(album.id)] == ["renamed.jpg"]


def test_a_number_gives_so_many_albums_and_leaves_nothing_out(own: Library) -> None:
    report = own.albums.group(Grouping(number=5))
    assert len(own.albums.all()) == 5
    assert report.left_out == 0
    assert own.albums.grouping() == Grouping(number=5)
    with pytest.raises(LibraryError, match="ask for fewer"):
        own.albums.group(Grouping(number=10_000))
    assert len(own.albums.all()) == 5


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"number": 0}, "ask for 1 or more"),
        ({"granularity": 1.5}, "0 .few big albums. to 1"),
        ({"number": 3, "time": True}, "need grouping by density"),
    ],
)
def test_wrong_groupings_are_refused(wrong: dict[str, float], complaint: str) -> None:
    with pytest.raises(LibraryError, match=complaint):
        Grouping(**wrong)  # type: ignore[arg-type]


def test_an_empty_library_has_nothing_to_group(library: Library) -> None:
    with pytest.raises(LibraryError, match="no photos to group yet"):
        library.albums.group()
    with pytest.raises(LibraryError, match="there is no album 7"):
        library.albums.hide(7)


def test_search_can_be_kept_to_an_album(own: Library) -> None:
    inside = by_folder(own, "shoes")[:4]
    album = own.albums.create("Four", inside)
    hits = own.answer(by_folder(own, "tulips")[0], 10, filters=Filters(album=album.id)).hits
    assert {hit.photo.id for hit in hits} == {*inside}


def test_two_albums_of_one_name_are_told_apart_by_number(own: Library) -> None:
    one = own.albums.create("Same", by_folder(own, "shoes")[:1])
    own.albums.create("Same", by_folder(own, "tulips")[:1])
    with pytest.raises(LibraryError, match="several albums are called 'same'"):
        own.albums.get("same")
    assert own.albums.get(str(one.id)) == one


# Titles


@pytest.mark.parametrize(
    ("labels", "folder", "dates", "title"),
    [
        ({"golden retriever": 3.0}, "", ["2023-05-02", "2023-05-30T10:00:00+02:00", "2023-05-09"],
         "golden retrievers, May 2023"),
        ({"daisy": 1.0, "bee": 0.9}, "Holidays", [], "daisies and bees"),
        ({"daisy": 0.4}, "Holidays", ["2023-05-02"] * 4, "Holidays, 2 May 2023"),
        ({"daisy": 0.4}, "100CANON", ["2023-05-02"], "daisies"),
        ({"timber wolf": 0.4, "bee": 0.1}, "17", ["2022-12-31", "2023-01-02"],
         "timber wolves, 2022 to 2023"),
        ({"daisy": 0.01}, "", ["1999-01-01", "2023-01-02"], "similar photos"),
        ({}, "", ["2023-01-01", "2023-03-02"], "similar photos, January to March 2023"),
        ({}, "", ["2023-01-01", "2023-09-02"], "similar photos, 2023"),
    ],
)  # fmt: skip
def test_titles(labels: dict[str, float], folder: str, dates: list[str], title: str) -> None:
    assert title_of(4, labels, folder, dates) == title


# Export


def test_exported_albums_are_the_photos_themselves(own: Library, tmp_path: Path) -> None:
    own.albums.create("Shoes", by_folder(own, "shoes")[:3])
    own.albums.create("shoes", by_folder(own, "tulips")[:2])
    before = {photo.path: photo.path.stat() for photo in own.photos(limit=1000)}
    report = export_albums(own, own.albums.all(), tmp_path / "out")
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == [
        "Shoes", "albums.json", "shoes (2)",
    ]  # fmt: skip
    assert report.failed == ()
    manifest = json.loads((tmp_path / "out" / "albums.json").read_text())
    listed = [photo for album in manifest["albums"] for photo in album["photos"]]
    assert len(listed) == 5
    for photo in listed:
        copied = tmp_path / "out" / photo["file"]
        assert copied.read_bytes() == Path(photo["original"]).read_bytes()
    assert {path: path.stat() for path in before} == before


@pytest.mark.parametrize("how", ["hardlink", "symlink"])
def test_links_cost_no_room_and_lead_to_the_originals(
    own: Library, tmp_path: Path, how: str
) -> None:
    album = own.albums.create("Shoes", by_folder(own, "shoes")[:3])
    report = export_albums(own, [album], tmp_path / "out", how)  # type: ignore[arg-type]
    for _, photos in report.albums:
        for one in photos:
            file = tmp_path / "out" / one.file
            assert file.samefile(one.photo.path)
            assert file.is_symlink() == (how == "symlink")


def test_files_of_one_name_and_missing_originals_cost_nothing_else(
    tmp_path: Path, gallery_copy: Path, extractor: Extractor
) -> None:
    for folder, photo in zip("abc", sorted((gallery_copy / "shoes").iterdir()), strict=False):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        shutil.copy(photo, tmp_path / "photos" / folder / "one.jpg")
    with open_library(tmp_path / "library", extractor=extractor) as library:
        library.index([tmp_path / "photos"])
        album = library.albums.create("One", [photo.id for photo in library.photos()])
        (tmp_path / "photos" / "b" / "one.jpg").unlink()
        report = export_albums(library, [album], tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out" / "One").iterdir()) == [
        "one (3).jpg", "one.jpg",
    ]  # fmt: skip
    assert [(path.parent.name, why) for path, why in report.failed] == [
        ("b", "No such file or directory")
    ]


def test_export_goes_only_where_nothing_is_and_nothing_is_indexed(
    own: Library, gallery_copy: Path, tmp_path: Path
) -> None:
    with pytest.raises(LibraryError, match="is indexed: its photos would be found twice"):
        export_albums(own, [], gallery_copy / "out")
    assert not (gallery_copy / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(LibraryError, match="is not empty"):
        export_albums(own, [], tmp_path / "full")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Rome, May 2023", "Rome, May 2023"),
        ("../../etc", "_.._etc"),
        ("a/b\\c:d*e", "a_b_c_d_e"),
        ("con", "_con"),
        ("  .. ", "album"),
        ("\N{SUNFLOWER}" * 60, "\N{SUNFLOWER}" * 30),
        ("a\nb\x00c", "a_b_c"),
    ],
)
def test_names_of_folders_are_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe


# The command line


def fc7(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_day_with_albums(
    own: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--library", own.path)
    code, out, _ = fc7(capsys, "albums", *where, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["grouping"]["photos"] == own.count()
    number, *others = (album["id"] for album in told["albums"])
    code, out, _ = fc7(capsys, "albums", *where)
    assert "nothing" not in out
    assert out.splitlines()[0].split() == ["number", "photos", "cohesion", "name"]
    assert fc7(capsys, "album", "rename", number, "<b>Ours</b>", *where)[0] == 0
    code, out, _ = fc7(capsys, "album", "show", "<b>Ours</b>", *where)
    paths = out.splitlines()
    assert len(paths) == told["albums"][0]["photos"]
    code, near, _ = fc7(capsys, "album", "show", number, "--by", "closeness", *where)
    assert sorted(near.splitlines()) == sorted(paths)
    assert near.splitlines()[0] == told["albums"][0]["cover"]
    assert "merge" not in fc7(capsys, "album", "merge", number, others[0], *where)[2]
    assert fc7(capsys, "album", "remove", number, paths[0], *where)[0] == 0
    assert fc7(capsys, "album", "new", "One", paths[0], *where)[0] == 0
    assert fc7(capsys, "album", "move", "One", paths[1], *where)[1].endswith("One, 2 photos\n")
    assert "hidden" in fc7(capsys, "album", "hide", "One", *where)[1]
    assert "One" not in fc7(capsys, "albums", *where)[1]
    assert "One" in fc7(capsys, "albums", "--hidden", *where)[1]
    assert fc7(capsys, "album", "unhide", "One", *where)[0] == 0
    code, out, _ = fc7(capsys, "albums", "--export", tmp_path / "out", "--as", "hardlink", *where)
    assert out.splitlines()[-1].endswith("index.html")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "&lt;b&gt;Ours&lt;/b&gt;" in page
    assert "<b>Ours" not in page
    code, out, _ = fc7(capsys, "search", paths[1], "--album", "One", "-k", 5, *where)
    assert len(out.splitlines()) == 2  # the head, and the other one
    code, _, err = fc7(capsys, "album", "show", "Nowhere", *where)
    assert (code, err) == (1, "fc7: there is no album 'Nowhere': fc7 albums lists them\n")


def test_granularity_by_the_command_line(own: Library, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--library", own.path)
    fc7(capsys, "albums", "--granularity", 0, *where)
    few = len(own.albums.all())
    out = fc7(capsys, "albums", "--granularity", 1, "--preview", *where)[1]
    assert "photos belong to no album" in out
    assert len(own.albums.all()) == few
    fc7(capsys, "albums", "--granularity", 1, *where)
    assert len(own.albums.all()) > few
    assert fc7(capsys, "albums", "--granularity", 7, *where)[2].startswith(
        "fc7: a granularity of 7"
    )


def test_a_grouping_that_is_killed_leaves_the_albums_as_they_were(own: Library) -> None:
    own.albums.group()
    before = own.albums.all()
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "import indexer.album_rows as rows\n"
        "from indexer import Grouping, open_library\n"
        "rows.put_photos = lambda *_, **__: os.kill(os.getpid(), 9)\n"
        "open_library(Path(sys.argv[1])).albums.group(Grouping(granularity=1.0))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(own.path)], check=False)
    assert killed.returncode == -9
    assert own.albums.all() == before
    assert own.albums.grouping() == Grouping()


# Evaluation


def test_albums_of_fc7_are_nearer_to_peoples_than_those_of_pixels(
    gallery_copy: Path, extractor: Extractor
) -> None:
    (gallery_copy / "tulips" / "broken.jpg").write_text("no picture")
    try:
        figures = evaluate_albums(gallery_copy, "folder", extractor)
    finally:
        (gallery_copy / "tulips" / "broken.jpg").unlink()
    assert (figures.labels, [s.path for s in figures.skipped]) == (5, ["tulips/broken.jpg"])
    told = figures.summary()
    assert {"kmeans", "density", "baselines"} <= told.keys()
    for way in ("kmeans", "density"):
        mine = figures.by["FC7"][way]
        assert set(told[way]) >= {"nmi", "ari", "purity", "left_out"}  # type: ignore[call-overload]
        assert mine.nmi > max(figures.by[name][way].nmi for name in ("raw pixels", "colours"))


def test_photos_of_one_label_are_nothing_to_measure(
    tmp_path: Path, extractor: Extractor, gallery: Path
) -> None:
    shutil.copytree(gallery / "shoes", tmp_path / "shoes")
    with pytest.raises(EvaluationError, match="no two readable photos of different labels"):
        evaluate_albums(tmp_path, "folder", extractor)
