"""Duplicates of real photos: found, proposed, moved away and back, with nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from indexer import Group, Library, open_library
from indexer.duplicates import Kind
from indexer.moving import move_photos, plan_moves, undo
from retrieval.attacks import copy_of
from retrieval.copies_evaluation import evaluate_copies
from retrieval.errors import EvaluationError, LibraryError
from retrieval.extractor import Extractor
from ui.cli import main

HOSTILE = "<b>\n'x'&.jpg"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, gallery: Path, extractor: Extractor) -> Path:
    """A folder with `photos` and their `library`; to be copied before it is changed."""
    place = tmp_path_factory.mktemp("made")
    photos = place / "photos"
    (photos / "copies").mkdir(parents=True)
    for name in ("tulips/tulip-01.jpg", "cats/cat-02.jpg", "shoes/shoe-01.jpg"):
        shutil.copy2(gallery / name, photos)
    tulip, cat = ((photos / n).read_bytes() for n in ("tulip-01.jpg", "cat-02.jpg"))
    attacks = {"small.jpg": "resized to 1/2", "cut.jpg": "crop, 70 % left",
               "turned.jpg": "turned, 90 degrees", "mirror.jpg": "mirrored"}  # fmt: skip
    for name, attack in attacks.items():
        (photos / "copies" / name).write_bytes(copy_of(tulip, attack, seed=1))
    (photos / "copies" / "shot.png").write_bytes(copy_of(cat, "screenshot", seed=1))
    shutil.copy2(photos / "cat-02.jpg", photos / "copies" / HOSTILE)
    for level in range(4):
        Image.new("RGB", (300, 200), (level, level, level)).save(photos / f"black-{level}.png")
    with open_library(place / "library", extractor=extractor) as library:
        library.index([photos])
    return place


@pytest.fixture
def own(tmp_path: Path, made: Path, extractor: Extractor) -> Iterator[Library]:
    """The same at a place of its own, so that its files may be moved."""
    shutil.copytree(made / "photos", tmp_path / "photos")
    with open_library(tmp_path / "library", extractor=extractor) as library:
        library.index([tmp_path / "photos"])
        yield library


def named(groups: list[Group]) -> dict[str, set[str]]:
    return {g.keep.path.name: {other.photo.path.name for other in g.others} for g in groups}


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def find(library: Library, *kinds: Kind) -> list[Group]:
    return library.duplicates.find(kinds)


def test_equal_files_copies_and_plain_photos_are_kept_apart(made: Path) -> None:
    with open_library(made / "library") as library:
        groups = library.duplicates.find()
        assert named([g for g in groups if g.kind == "file"]) == {"cat-02.jpg": {HOSTILE}}
        assert named([g for g in groups if g.kind == "picture"]) == {
            "tulip-01.jpg": {"small.jpg", "cut.jpg", "turned.jpg", "mirror.jpg"},
            "cat-02.jpg": {"shot.png"},
        }
        assert not [g for g in groups if g.kind == "shot"]
        assert library.duplicates.find(["picture"]) == [g for g in groups if g.kind == "picture"]


def test_each_copy_says_how_it_differs(made: Path) -> None:
    with open_library(made / "library") as library:
        (tulips,) = (g for g in find(library, "picture") if g.keep.path.name == "tulip-01.jpg")
    copies = {other.photo.path.name: other for other in tulips.others}
    assert copies["cut.jpg"].covered == pytest.approx(0.7, abs=0.03)
    assert copies["small.jpg"].covered > 0.95
    assert copies["turned.jpg"].turn == "turned by 90"
    assert copies["mirror.jpg"].turn == "mirrored"
    assert not any(other.more for other in tulips.others)


def test_of_equal_files_the_preferred_folder_keeps_its_own(made: Path) -> None:
    with open_library(made / "library") as library:
        (group,) = library.duplicates.find(["file"], prefer=made / "photos" / "copies")
    assert (group.keep.path.name, group.reason) == (HOSTILE, "folder")


def test_a_preferred_folder_costs_no_pixels(made: Path) -> None:
    with open_library(made / "library") as library:
        groups = library.duplicates.find(["picture"], prefer=made / "photos" / "copies")
    assert {"small.jpg", "cut.jpg"} <= set().union(*named(groups).values())


def test_a_part_with_more_pixels_does_not_take_the_place_of_the_whole(
    library: Library, gallery: Path, tmp_path: Path
) -> None:
    """The part is worth keeping for its pixels; the whole shows more, and stays too."""
    folder = tmp_path / "photos"
    folder.mkdir()
    whole = Image.open(gallery / "mountains" / "mountain-02.jpg").convert("RGB")
    part = whole.crop((0, 0, round(0.7 * whole.width), round(0.7 * whole.height)))
    whole.resize((whole.width // 3, whole.height // 3)).save(folder / "whole.jpg", quality=92)
    part.save(folder / "part.jpg", quality=92)
    library.index([folder])
    (group,) = find(library, "picture")
    assert named([group]) == {"part.jpg": {"whole.jpg"}}
    assert group.others[0].more
    moves, stay = plan_moves([group], tmp_path / "away", [folder])
    assert (moves, [path.name for path, _ in stay]) == ([], ["whole.jpg"])


def test_photos_of_different_seconds_are_never_one_picture(
    library: Library, gallery: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    content = (gallery / "tulips" / "tulip-01.jpg").read_bytes()
    for second in (10, 13):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2023:05:17 12:00:{second}"
        image = Image.open(gallery / "tulips" / "tulip-01.jpg").convert("RGB")
        image.save(folder / f"{second}.jpg", quality=80 + second, exif=exif)
    (folder / "undated.jpg").write_bytes(copy_of(content, "JPEG 75", seed=0))
    library.index([folder])
    groups = library.duplicates.find()
    assert named([g for g in groups if g.kind == "shot"]) == {"13.jpg": {"10.jpg"}}
    assert named([g for g in groups if g.kind == "picture"]) == {"13.jpg": {"undated.jpg"}}


# --- moving


def test_what_was_moved_comes_back_by_the_log(own: Library, tmp_path: Path) -> None:
    photos, away = tmp_path / "photos", tmp_path / "away"
    before = everything(photos)
    moves, _ = plan_moves(find(own, "file", "picture"), away, own.status().folders)
    assert everything(photos) == before
    assert not away.exists()
    report = move_photos(moves, away)
    assert report.log is not None
    assert (report.moved, report.left) == (6, ())
    stay = {"tulip-01.jpg", "cat-02.jpg", "shoe-01.jpg", *(f"black-{n}.png" for n in range(4))}
    assert everything(photos) == {name: before[name] for name in stay}
    for name in before.keys() - stay:
        assert (away / "photos" / name).read_bytes() == before[name]
    back = undo(report.log)
    assert (back.moved, back.left) == (6, ())
    assert everything(photos) == before
    assert undo(report.log).moved == 0
    assert everything(away).keys() == {report.log.name}


def test_a_changed_or_missing_file_stays_and_so_do_copies_of_a_changed_one(
    own: Library, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    groups = find(own, "file", "picture")
    (photos / "copies" / "small.jpg").write_bytes(b"edited since")
    (photos / "copies" / "cut.jpg").unlink()
    with (photos / "cat-02.jpg").open("ab") as file:
        file.write(b"!")
    moves, _ = plan_moves(groups, tmp_path / "away", own.status().folders)
    report = move_photos(moves, tmp_path / "away")
    reasons = {path.name: why for path, why in report.left}
    assert "has changed" in reasons["small.jpg"]
    assert "is not there" in reasons["cut.jpg"]
    assert "the one to keep" in reasons[HOSTILE]
    assert "the one to keep" in reasons["shot.png"]
    assert report.moved == 2


def test_undo_overwrites_nothing_and_trusts_no_log(own: Library, tmp_path: Path) -> None:
    photos, away = tmp_path / "photos", tmp_path / "away"
    moves, _ = plan_moves(find(own, "file", "picture"), away, own.status().folders)
    log = move_photos(moves, away).log
    assert log is not None
    new = photos / "copies" / "small.jpg"
    new.write_bytes(b"another photo by now")
    (away / "photos" / "copies" / "cut.jpg").write_bytes(b"not what was moved")
    report = undo(log)
    assert {path.name for path, _ in report.left} == {"small.jpg", "cut.jpg"}
    assert new.read_bytes() == b"another photo by now"
    assert not (photos / "copies" / "cut.jpg").exists()
    entry = json.loads(log.read_text().splitlines()[0])
    log.write_text(json.dumps(entry | {"to": str(new)}) + "\n")
    with pytest.raises(LibraryError, match="is not in"):
        undo(log)
    log.write_text("[]\n")
    with pytest.raises(LibraryError, match="line 1: no log of moved photos"):
        undo(log)


def test_names_that_are_taken_get_a_number(own: Library, tmp_path: Path) -> None:
    taken = tmp_path / "away" / "photos" / "copies" / "small.jpg"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"something else")
    moves, _ = plan_moves(find(own, "picture"), tmp_path / "away", own.status().folders)
    move_photos(moves, tmp_path / "away")
    assert taken.read_bytes() == b"something else"
    assert taken.with_name("small (2).jpg").is_file()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system here")
def test_across_file_systems_files_are_copied_and_compared(own: Library, tmp_path: Path) -> None:
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    away = Path("/dev/shm") / f"fc7-{os.getpid()}"
    before = everything(tmp_path / "photos")
    try:
        moves, _ = plan_moves(find(own, "file", "picture"), away, own.status().folders)
        report = move_photos(moves, away)
        assert report.log is not None
        assert report.moved == 6
        assert undo(report.log).moved == 6
        assert everything(tmp_path / "photos") == before
        assert everything(away).keys() == {report.log.name}
    finally:
        shutil.rmtree(away, ignore_errors=True)


# A real move in a process of its own that kills itself at the n-th system call of a kind.
DYING = """
import os, signal, sys
from pathlib import Path
from indexer import open_library
from indexer.moving import move_photos, plan_moves

library, away, call, when, link = sys.argv[1:]
folder, left = Path(away), int(when)
real = getattr(os, call)

def dying(*args, **kwargs):
    global left
    result = real(*args, **kwargs)
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

with open_library(Path(library), create=False) as opened:
    groups = opened.duplicates.find(["file", "picture"])
    moves, _ = plan_moves(groups, folder, opened.status().folders)
    if link == "no":
        def refused(*args, **kwargs):
            raise OSError(18, "Invalid cross-device link")
        os.link = refused
    setattr(os, call, dying)
    move_photos(moves, folder)
"""


@pytest.mark.parametrize(
    ("call", "when", "link"),
    [("fsync", 1, "yes"), ("link", 0, "yes"), ("link", 2, "yes"), ("unlink", 1, "yes"),
     ("fsync", 4, "no"), ("rename", 0, "no"), ("unlink", 2, "no")],
)  # fmt: skip
def test_killed_at_any_moment_nothing_is_lost_and_undo_brings_all_back(
    own: Library, tmp_path: Path, call: str, when: int, link: str
) -> None:
    photos, away = tmp_path / "photos", tmp_path / "away"
    before = everything(photos)
    command = [sys.executable, "-c", DYING, str(own.path), str(away), call, str(when), link]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    contents = {*everything(photos).values(), *everything(away).values()}
    assert contents >= set(before.values())
    (log,) = away.glob("*.jsonl")
    report = undo(log)
    assert everything(photos) == before
    assert all("it is there already" in why for _, why in report.left)


# --- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main([str(one) for one in ("duplicates", *arguments)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_command_lists_and_moves_only_when_told_twice(
    own: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, page, away = ("--library", own.path), tmp_path / "page.html", tmp_path / "away"
    before = everything(tmp_path / "photos")
    _, listed, _ = run(capsys, *here, "--html", page)
    assert "the same file: 1 groups, 1 photos besides those to keep" in listed
    assert r"<b>\n'x'&.jpg" in listed
    html = page.read_text()
    assert html.count("<img ") == 9
    assert "<b>\n'" not in html and "&lt;b&gt;\n&#x27;x&#x27;&amp;" in html
    assert "://" not in html
    _, lines, _ = run(capsys, *here, "--json", "--kind", "file")
    (group,) = map(json.loads, lines.splitlines())
    assert (group["kind"], group["keep"]["path"]) == ("file", str(tmp_path / "photos/cat-02.jpg"))
    _, planned, _ = run(capsys, *here, "--move-to", away)
    assert "6 photos would be moved" in planned
    assert everything(tmp_path / "photos") == before
    assert not away.exists()
    code, done, _ = run(capsys, *here, "--move-to", away, "--yes")
    assert (code, "6 photos moved" in done) == (0, True)
    (log,) = away.glob("*.jsonl")
    code, back, _ = run(capsys, "--undo", log)
    assert (code, "6 photos moved back" in back) == (0, True)
    assert everything(tmp_path / "photos") == before


def test_the_command_refuses_what_would_lose_photos(
    own: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = tmp_path / "photos" / "sub"
    code, _, complaint = run(capsys, "--library", own.path, "--move-to", inside)
    assert (code, "which is indexed" in complaint) == (1, True)
    for wrong in (["--yes"], ["--kind", "shot", "--move-to", "x"], ["--undo", "x", "--json"]):
        with pytest.raises(SystemExit):
            run(capsys, "--library", own.path, *wrong)
    code, _, complaint = run(capsys, "--undo", tmp_path / "none.jsonl")
    assert (code, "can't be read" in complaint) == (1, True)


# --- how well


def test_evaluation_counts_pairs_as_a_slow_count_does(
    tmp_path: Path, gallery: Path, extractor: Extractor
) -> None:
    """Six photos and one copy of a copy, said to be the same; each has one copy of each kind."""
    for photo in sorted((gallery / "tulips").iterdir())[:5]:
        shutil.copy2(photo, tmp_path)
    content = (tmp_path / "tulip-01.jpg").read_bytes()
    (tmp_path / "again.jpg").write_bytes(copy_of(content, "JPEG 50", seed=0))
    same = tmp_path / ".same.csv"
    same.write_text("again.jpg,tulip-01.jpg\n")
    attacks = ("JPEG 75", "crop, 50 % left")
    found = evaluate_copies(tmp_path, extractor, same=same, attacks=attacks)
    # A pair for each of the other four, and all six pairs of the two alike and their two copies.
    score = found.scores["fc7"]["JPEG 75"]
    assert (score.found, score.right, score.recalled, score.photos) == (10, 10, 6, 6)
    assert found.lookalikes == (("again.jpg", "tulip-01.jpg"),)
    assert found.scores["phash 10"]["JPEG 75"].recall == 1
    assert found.scores["phash 10"]["crop, 50 % left"].recall < 0.5
    assert found.scores["fc7"]["crop, 50 % left"].recall == 1
    strict = evaluate_copies(tmp_path, extractor, attacks=("JPEG 75",))
    assert strict.scores["fc7"]["JPEG 75"].precision == 0.6  # four of the six pairs are wrong


def test_a_folder_without_photos_can_not_be_evaluated(tmp_path: Path, extractor: Extractor) -> None:
    with pytest.raises(EvaluationError, match="no two readable photos"):
        evaluate_copies(tmp_path, extractor)
