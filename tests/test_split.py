"""Which photos train and which validate."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.errors import TrainingError
from retrieval.training.split import (
    Listed,
    copy_photos,
    find_photos,
    list_text,
    read_list,
    split_folder,
)
from ui.cli import main

SIZES = {"cats": 10, "dogs": 25, "owl": 1, "two words": 2}


@pytest.fixture(scope="module")
def drawn(draw: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """38 photos of four classes, some of them deeper in their class's folder."""
    folder = tmp_path_factory.mktemp("drawn")
    for label, size in SIZES.items():
        for number in range(size):
            below = "more/" if number % 3 == 0 else ""
            draw(folder / label / f"{below}{number}.png", number, (16, 16))
    return folder


def sides(photos: list[Listed], folder: Path) -> dict[str, str]:
    return {photo.path.relative_to(folder).as_posix(): photo.split for photo in photos}


def test_every_class_is_split_by_the_same_share(drawn: Path) -> None:
    photos = split_folder(drawn, 0.2)
    validate = Counter(photo.label for photo in photos if photo.split == "val")
    assert validate == {"cats": 2, "dogs": 5, "two words": 1}  # of one owl none can
    assert Counter(photo.label for photo in photos) == SIZES
    assert all(photo.path.relative_to(drawn).parts[0] == photo.label for photo in photos)


def test_a_split_is_the_same_again_and_in_another_place(drawn: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(drawn, elsewhere)
    assert sides(split_folder(drawn), drawn) == sides(split_folder(elsewhere), elsewhere)


def test_another_seed_gives_another_split(drawn: Path) -> None:
    assert sides(split_folder(drawn, seed=1), drawn) != sides(split_folder(drawn), drawn)


def test_added_photos_change_the_side_of_few_others(
    drawn: Path, draw: Callable[..., Path], tmp_path: Path
) -> None:
    grown = tmp_path / "grown"
    shutil.copytree(drawn, grown)
    before = sides(split_folder(grown), grown)
    draw(grown / "dogs" / "new.png", 99, (16, 16))
    after = sides(split_folder(grown), grown)
    assert sum(after[name] != side for name, side in before.items()) <= 1


def test_hidden_files_links_and_what_is_no_photo_are_ignored(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(drawn, folder)
    photo = folder / "cats" / "1.png"
    for name in ("cats/._1.png", "cats/.hidden/2.png", ".thumbnails/x/3.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder / name)
    (folder / "cats" / "notes.txt").write_text("a cat")
    (folder / "cats" / "page.jpg").write_text("<html>not found</html>")
    (folder / "readme.md").write_text("cats and dogs")
    (folder / "cats" / "link.png").symlink_to(photo)
    photo.rename(folder / "cats" / "1.without-a-suffix-that-says-png")
    assert len(split_folder(folder)) == sum(SIZES.values())


@pytest.mark.parametrize("held_out", ["val", "valid", "validation", "test", "test_set"])
def test_data_that_is_split_already_is_taken_as_it_is(
    drawn: Path, tmp_path: Path, held_out: str
) -> None:
    shutil.copytree(drawn, tmp_path / "train")
    shutil.copytree(drawn / "cats", tmp_path / held_out / "cats")
    photos = find_photos(tmp_path)
    assert Counter(photo.split for photo in photos) == {"train": 38, "val": 10}
    with pytest.raises(TrainingError, match="split already"):
        split_folder(tmp_path)


def test_photos_to_test_with_are_left_alone_where_others_validate(
    drawn: Path, tmp_path: Path
) -> None:
    for part in ("train", "val", "test"):
        shutil.copytree(drawn, tmp_path / part)
    assert not any(
        "test" in photo.path.relative_to(tmp_path).parts for photo in find_photos(tmp_path)
    )


def test_a_list_is_read_as_it_was_written(drawn: Path, tmp_path: Path) -> None:
    photos = split_folder(drawn)
    inside, outside = drawn / "inside.csv", tmp_path / "outside.csv"
    inside.write_text(list_text(photos, inside.parent))
    outside.write_text(list_text(photos, outside.parent))
    assert read_list(inside) == read_list(outside) == photos
    assert "\ntrain,two words/" in inside.read_text()  # relative: folder and list can move together
    inside.unlink()


def test_copies_are_made_only_when_asked(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(drawn.rglob("*"))
    out = tmp_path / "list.csv"
    assert main(["split", str(drawn), "--out", str(out)]) == 0
    assert "train, 8 validate, of 4 classes" in capsys.readouterr().out
    assert sorted(drawn.rglob("*")) == before
    assert list(tmp_path.iterdir()) == [out]
    assert main(["split", str(drawn), "--copy", str(tmp_path / "copy")]) == 0
    copied = find_photos(tmp_path / "copy")
    assert [(p.split, p.label) for p in copied] == [(p.split, p.label) for p in read_list(out)]
    with pytest.raises(TrainingError, match="there already"):
        copy_photos(copied, tmp_path / "copy", tmp_path / "copy")
    assert main(["split", str(drawn), "--out", str(out)]) == 1  # a list is not written over


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,class\na.png,cat\n", "no columns"),
        ("split,path,class\nelse,a.png,cat\n", "line 2"),
        ("split,path,class\ntrain,a.png,cat\ntrain,b.png,dog\n", "validate with"),
        ("split,path,class\ntrain,a.png,cat\nval,b.png,cat\n", "1 classes"),
        ("split,path,class\ntrain,a.png,x\ntrain,b.png,y\nval,c.png,z\n", "'z' validates"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused_in_a_line(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(TrainingError, match=says):
        find_photos(tmp_path / "list.csv")


def test_a_folder_that_is_not_there_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="can't be read"):
        find_photos(tmp_path / "nowhere")
