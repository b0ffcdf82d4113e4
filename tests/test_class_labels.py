"""retrieval.class_labels: folders, ImageNet's ids and its several lists of labels."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest
from torchvision import models

from retrieval.class_labels import class_numbers, class_of, read_classes
from retrieval.errors import EvaluationError
from retrieval.ground_truth import Skip

IMAGENET = tuple(models.AlexNet_Weights.IMAGENET1K_V1.meta["categories"])
# The first five of ImageNet's validation set, as three lists of labels tell them.
VALIDATION = [f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3, 4, 5)]
CAFFE = (65, 970, 230, 809, 516)  # Caffe's val.txt: fc8's order, from 0
KIT = (490, 361, 171, 822, 297)  # ILSVRC2012_validation_ground_truth.txt
SEEN = ("sea snake", "alp", "Shetland sheepdog", "soup bowl", "cradle")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path, classes: tuple[str, ...], labels: Path | None = None) -> dict[str, str]:
    photos = read_classes(folder, classes, labels)
    return {
        path.as_posix(): classes[target]
        for path, target in zip(photos.paths, photos.targets, strict=True)
    }


def test_folders_are_classes_by_their_names_in_the_networks_order(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "dog/deep/er/2.jpg", "cat/.hidden.jpg", "cover.jpg")
    photos = read_classes(tmp_path, ("dog", "horse", "cat"))
    assert photos.paths == (PurePath("cat/1.jpg"), PurePath("dog/deep/er/2.jpg"))
    assert photos.targets.tolist() == [2, 0]
    assert photos.skipped == (Skip("cover.jpg", "no label (in no class folder)"),)


def test_wordnet_ids_name_imagenets_classes_as_folders_and_as_files(tmp_path: Path) -> None:
    touch(tmp_path, "n01440764/a.JPEG", "n15075141/b.JPEG", "n01484850_great_white_shark.JPEG")
    touch(tmp_path, "sea snake/c.JPEG")
    assert found(tmp_path, IMAGENET) == {
        "n01440764/a.JPEG": "tench",
        "n15075141/b.JPEG": "toilet tissue",
        "n01484850_great_white_shark.JPEG": "great white shark",
        "sea snake/c.JPEG": "sea snake",
    }


def test_ids_mean_nothing_to_other_networks_but_as_names(tmp_path: Path) -> None:
    touch(tmp_path, "n01440764/a.JPEG")
    assert found(tmp_path, ("n02102040", "n01440764")) == {"n01440764/a.JPEG": "n01440764"}
    with pytest.raises(EvaluationError, match=r"n01440764 is none of the network's 2 classes"):
        read_classes(tmp_path, ("cat", "dog"))


@pytest.mark.parametrize(
    "lines",
    [
        [f"{name} {label}" for name, label in zip(VALIDATION, CAFFE, strict=True)],
        [str(label) for label in KIT],
        ["n01751748", "n09193705", "n02105855", "n04263257", "n03125729"],
        ["ImageId,PredictionString"]
        + [f"{Path(n).stem},{w} 1 2 3 4 " for n, w in zip(
            VALIDATION, ["n01751748", "n09193705", "n02105855", "n04263257", "n03125729"],
            strict=True)],
        ["path,label"] + [f"{name},{w}" for name, w in zip(VALIDATION, SEEN, strict=True)],
    ],
    ids=["Caffe", "development kit", "ids", "Kaggle", "CSV"],
)  # fmt: skip
def test_every_published_list_tells_the_same_of_a_flat_folder(
    tmp_path: Path, lines: list[str]
) -> None:
    folder = touch(tmp_path / "val", *VALIDATION)
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(lines) + "\n")
    assert found(folder, IMAGENET, labels) == dict(zip(VALIDATION, SEEN, strict=True))


def test_lists_and_folders_need_not_agree_where_there_are_names(tmp_path: Path) -> None:
    folder = touch(tmp_path / "val", "a.jpg", "b.jpg")
    labels = tmp_path / "labels.txt"
    labels.write_text("b.jpg 1\nc.jpg 0\n")
    photos = read_classes(folder, ("cat", "dog"), labels)
    assert (photos.paths, photos.targets.tolist()) == ((PurePath("b.jpg"),), [1])
    assert photos.skipped == (
        Skip("c.jpg", "in the ground truth, not in the folder"),
        Skip("a.jpg", "no label (not in the ground truth)"),
    )


def test_of_a_runs_list_the_validating_photos_count(tmp_path: Path) -> None:
    touch(tmp_path, "photos/cat/1.jpg", "photos/dog/2.jpg")
    data = tmp_path / "runs" / "data.csv"
    data.parent.mkdir()
    elsewhere = tmp_path / "photos" / "dog" / "2.jpg"
    data.write_text(
        f"split,path,class\ntrain,../photos/cat/1.jpg,cat\nval,{elsewhere},dog\nval,x/3.jpg,cat\n"
    )
    photos = read_classes(data, ("cat", "dog"))
    assert [photos.folder / path for path in photos.paths] == [elsewhere, data.parent / "x/3.jpg"]
    assert photos.targets.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0\n", "has 1 labels for 2 files"),
        ("a.jpg 2\nb.jpg 0\n", "2 is none of the network's 2 classes"),
        ("a.jpg\nb.jpg 0\n", r"a.jpg is none of the network's 2 classes \(cat, dog\)"),
        ("path,label\nc.jpg,cat\n", "holds no photo in a class folder"),
        ("split,path\nval,c.jpg\n", "must have the columns path,label"),
        ("", "has 0 labels for 2 files"),
    ],
)
def test_labels_that_make_no_sense_are_told_in_a_line(
    tmp_path: Path, lines: str, message: str
) -> None:
    folder = touch(tmp_path / "val", "a.jpg", "b.jpg")
    labels = tmp_path / "labels.txt"
    labels.write_text(lines)
    with pytest.raises(EvaluationError, match=message):
        read_classes(folder, ("cat", "dog"), labels)


def test_folders_without_classes_and_missing_ones_are_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no folder"):
        read_classes(tmp_path / "gone", ("cat", "dog"))
    with pytest.raises(EvaluationError, match="name a file of labels"):
        read_classes(touch(tmp_path, "ILSVRC2012_val_00000001.JPEG"), IMAGENET)
    with pytest.raises(EvaluationError, match="can't be read"):
        read_classes(tmp_path, IMAGENET, tmp_path / "gone.txt")


def test_a_photos_own_place_tells_its_class_for_figures() -> None:
    known = class_numbers(IMAGENET)
    assert class_of(PurePath("photos/n01440764_tench.JPEG"), known) == 0
    assert class_of(PurePath("n01443537/n01440764_5.JPEG"), known) == 1
    assert class_of(PurePath("sea snake/1.jpg"), known) == 65
    assert class_of(PurePath("holiday/1.jpg"), known) is None
