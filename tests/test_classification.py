"""retrieval.classification: every way of evaluating against plain torch and sums by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from retrieval.class_labels import ClassifiedPhotos
from retrieval.classification import evaluate_classifier
from retrieval.errors import EvaluationError
from retrieval.images import frame, read_photo, rescale
from retrieval.metrics import (
    confusion_matrix,
    mean_class_accuracy,
    ranks_of_targets,
    top_k_error,
)
from retrieval.networks import build, create
from retrieval.training.classifier import Classifier
from retrieval.weights import load_weights
from ui.cli import main

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
PHOTOS = ("sunflowers/sunflower-04.jpg", "shoes/shoe-05.jpg", "towers/tower-02.jpg")
CLASSES = ("cat", "dog", "hen", "owl", "fox", "elk", "bee")


@pytest.fixture(scope="module")
def alexnet() -> Classifier:
    return Classifier("alexnet", "bundled", "cpu")


def save(path: Path, network: str, framing: str, seed: int) -> Path:
    """A network of random numbers that is sure of itself, so that its answers differ."""
    module = create(network, len(CLASSES), torch.Generator().manual_seed(seed))
    state = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    state["classifier.6.weight"] *= 300
    words = {"network": network, "framing": framing, "classes": json.dumps(CLASSES)}
    save_file(state, path, words)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for crops of 32 x 32."""
    return save(tmp_path_factory.mktemp("small") / "small.safetensors", "alexnet-cifar", "crop", 1)


def plain(network: str | None, weights: str) -> nn.Module:
    """The network by itself, without what is tested."""
    loaded = load_weights(network, weights)
    module = build(loaded.info.network, len(loaded.classes))
    module.load_state_dict(loaded.state_dict, assign=True)
    return module


def normalised(pixels: Pixels) -> torch.Tensor:
    """(h, w, 3) -> (1, 3, h, w), as torchvision's weights want it."""
    scaled = pixels.astype(np.float32) / 255
    scaled = (scaled - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1)[None].contiguous()


@torch.no_grad()
def soft_max(module: nn.Module, *crops: Pixels) -> Floats:
    """The mean over crops."""
    batch = torch.cat([normalised(crop) for crop in crops])
    return np.asarray(module(batch).softmax(1).mean(0).numpy())


@torch.no_grad()
def slid(module: nn.Module, pixels: Pixels, grid: int) -> Floats:
    """The fully connected layers on each window of the feature map in turn, scores averaged."""
    maps = module.get_submodule("features")(normalised(pixels))
    scores = [
        module.get_submodule("classifier")(maps[:, :, y : y + grid, x : x + grid].flatten(1))
        for y in range(maps.shape[2] - grid + 1)
        for x in range(maps.shape[3] - grid + 1)
    ]
    return np.asarray(torch.stack(scores).mean(0).softmax(1)[0].numpy())


def targets_by(means: Floats, ranks: list[int]) -> NDArray[np.intp]:
    """Classes that stand at these ranks of the answers (n, c)."""
    order = np.argsort(-means, axis=1)
    return order[np.arange(len(means)), ranks]


# One network, one photo


@pytest.mark.parametrize("network", ["alexnet", "vgg16", "alexnet-cifar"])
def test_dense_at_the_size_of_training_is_the_ordinary_pass(
    network: str, gallery: Path, small: Path
) -> None:
    weights = str(small) if network == "alexnet-cifar" else "bundled"
    classifier = Classifier(network, weights, "cpu")
    pixels = frame(read_photo(gallery / PHOTOS[0])[0], side=classifier.side)
    both = classifier.probabilities(np.stack([pixels, pixels[:, ::-1]]))
    assert classifier.dense(pixels) == pytest.approx(both.mean(axis=0), abs=1e-5)
    assert both[0] == pytest.approx(soft_max(plain(network, weights), pixels), abs=1e-5)


@pytest.mark.parametrize(("height", "width"), [(288, 256), (256, 365)])
def test_dense_is_the_classifier_slid_over_the_feature_map(
    height: int, width: int, alexnet: Classifier, gallery: Path
) -> None:
    photo = read_photo(gallery / PHOTOS[1])[0]
    pixels = rescale(photo, max(height, width))[:height, :width]
    module = plain("alexnet", "bundled")
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    expected = (slid(module, pixels, 6) + slid(module, mirrored, 6)) / 2
    assert alexnet.dense(pixels) == pytest.approx(expected, abs=1e-6)


def test_dense_works_for_other_sides(small: Path, gallery: Path) -> None:
    pixels = rescale(read_photo(gallery / PHOTOS[2])[0], 45)
    module = plain(None, str(small))
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    expected = (slid(module, pixels, 4) + slid(module, mirrored, 4)) / 2
    assert Classifier(None, str(small), "cpu").dense(pixels) == pytest.approx(expected, abs=1e-5)


# Whole evaluations


def crops_by_hand(pixels: Pixels, way: str, side: int) -> list[Pixels]:
    height, width = pixels.shape[:2]
    if way == "centre":
        top, left = round((height - side) / 2), round((width - side) / 2)
        return [pixels[top : top + side, left : left + side]]
    if way == "ten":
        short = min(height, width)
        top, left = round((height - short) / 2), round((width - short) / 2)
        far, mid = short - side, round((short - side) / 2)
        places = [(0, 0), (0, far), (far, 0), (far, far), (mid, mid)]
        places = [(top + y, left + x) for y, x in places]
    else:
        places = [
            (round(i * (height - side) / 4), round(j * (width - side) / 4))
            for i in range(5)
            for j in range(5)
        ]
    cut = [pixels[y : y + side, x : x + side] for y, x in places]
    return cut + [np.ascontiguousarray(one[:, ::-1]) for one in cut]


def by_hand(module: nn.Module, photo: Path, way: str, scale: int, side: int, grid: int) -> Floats:
    pixels = rescale(read_photo(photo, min_side=1 << 28)[0], scale)
    if way == "dense":
        mirrored = np.ascontiguousarray(pixels[:, ::-1])
        return (slid(module, pixels, grid) + slid(module, mirrored, grid)) / 2
    return soft_max(module, *crops_by_hand(pixels, way, side))


@pytest.mark.parametrize(
    ("crops", "ways"),
    [
        ("centre", ("centre",)),
        ("ten", ("ten",)),
        ("multi", ("multi",)),
        ("multi+dense", ("multi", "dense")),
    ],
)
def test_crops_and_scales_are_averaged_as_by_hand(
    crops: str, ways: tuple[str, ...], small: Path, gallery: Path
) -> None:
    scales = (36, 43)
    module = plain(None, str(small))
    posteriors = np.array(
        [
            [[by_hand(module, gallery / photo, way, scale, 32, 4) for photo in PHOTOS]
             for way in ways]
            for scale in scales
        ]
    )  # fmt: skip
    all_scales = posteriors.mean(axis=(0, 1))
    targets = targets_by(all_scales, [0, 4, 5])  # in turn right, just in and just out of the five
    photos = ClassifiedPhotos(gallery, tuple(map(PurePath, PHOTOS)), targets, ())
    classifier = Classifier(None, str(small), "cpu")
    figures = evaluate_classifier(photos, [classifier], [crops], scales)
    assert [row.scales for row in figures.rows] == [(36,), (43,), scales]
    last = figures.rows[-1]
    assert (last.top1_error, last.top5_error) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    for row, mean in zip(figures.rows, [*posteriors.mean(axis=1), all_scales], strict=True):
        expected = np.zeros((7, 7), int)
        for target, taken in zip(targets, mean.argmax(axis=1), strict=True):
            expected[target, taken] += 1
        assert (row.confusion == expected).all()
        order = np.argsort(-mean, axis=1)
        ranks = [list(one).index(target) for one, target in zip(order, targets, strict=True)]
        assert row.top5_error == pytest.approx(np.mean([rank >= 5 for rank in ranks]))


def test_networks_are_fused_by_the_mean_of_their_soft_max(
    alexnet: Classifier, gallery: Path
) -> None:
    vgg = Classifier("vgg16", "bundled", "cpu")
    modules = [plain("alexnet", "bundled"), plain("vgg16", "bundled")]
    each = [[by_hand(m, gallery / p, "centre", 256, 224, 0) for p in PHOTOS] for m in modules]
    fused = np.mean(each, axis=0)
    photos = ClassifiedPhotos(
        gallery, tuple(map(PurePath, PHOTOS)), targets_by(fused, [0, 4, 5]), ()
    )
    figures = evaluate_classifier(photos, [alexnet, vgg])
    assert [row.networks for row in figures.rows] == [
        ("alexnet:bundled",),
        ("vgg16:bundled",),
        ("alexnet:bundled", "vgg16:bundled"),
    ]
    for row, mean in zip(figures.rows, [*map(np.array, each), fused], strict=True):
        hits = np.argsort(-mean, axis=1)
        missed = [t not in order[:5] for t, order in zip(photos.targets, hits, strict=True)]
        assert row.top5_error == pytest.approx(np.mean(missed))
    last = figures.rows[-1]
    assert (last.top1_error, last.top5_error) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_a_network_of_squashed_photos_sees_them_so(tmp_path: Path, gallery: Path) -> None:
    file = save(tmp_path / "squash.safetensors", "alexnet-cifar", "squash", 2)
    module = plain(None, str(file))
    squashed = [frame(read_photo(gallery / one)[0], "squash", 32) for one in PHOTOS]
    taken = [int(soft_max(module, one).argmax()) for one in squashed]
    photos = ClassifiedPhotos(gallery, tuple(map(PurePath, PHOTOS)), np.array(taken), ())
    [row] = evaluate_classifier(photos, [Classifier(None, str(file), "cpu")]).rows
    assert (row.scales, row.top1_error) == ((32,), 0.0)


def test_what_cannot_be_read_is_skipped_and_counted_nowhere(small: Path, photos: Path) -> None:
    (photos / "shoes" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    paths = ("shoes/broken.jpg", "shoes/shoe-01.jpg", "shoes/gone.jpg")
    several = ClassifiedPhotos(photos, tuple(map(PurePath, paths)), np.array([0, 1, 2]), ())
    told: list[tuple[str, int, int]] = []
    classifier = Classifier(None, str(small), "cpu")
    figures = evaluate_classifier(several, [classifier], progress=lambda *at: told.append(at))
    assert figures.photos == 1
    assert [skip.path for skip in figures.skipped] == ["shoes/broken.jpg", "shoes/gone.jpg"]
    assert figures.rows[0].confusion.sum() == figures.rows[0].confusion[1].sum() == 1
    assert told[-1] == ("photos", 3, 3)
    nothing = ClassifiedPhotos(photos, several.paths[::2], np.array([0, 2]), ())
    with pytest.raises(EvaluationError, match="none of its photos can be read"):
        evaluate_classifier(nothing, [classifier])


def test_what_does_not_fit_is_refused(small: Path, alexnet: Classifier, gallery: Path) -> None:
    one = Classifier(None, str(small), "cpu")
    photos = ClassifiedPhotos(gallery, (PurePath(PHOTOS[0]),), np.array([0]), ())
    with pytest.raises(EvaluationError, match="tell different classes apart"):
        evaluate_classifier(photos, [one, alexnet])
    with pytest.raises(EvaluationError, match="scale 31 is less than the crops"):
        evaluate_classifier(photos, [one], ["ten"], [36, 31])
    with pytest.raises(EvaluationError, match="crops are centre, ten"):
        evaluate_classifier(photos, [one], ["eleven"])


# Figures


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.4]), min_size=7, max_size=7),
                  st.integers(0, 6)),
        min_size=1, max_size=6,
    ),
    st.integers(1, 7),
)  # fmt: skip
def test_top_k_error_is_a_slow_loops(answers: list[tuple[list[float], int]], k: int) -> None:
    missed = 0
    for row, target in answers:
        first = sorted(range(7), key=lambda place: (-row[place], place))[:k]
        missed += target not in first
    probabilities = np.array([row for row, _ in answers])
    ranks = ranks_of_targets(probabilities, np.array([target for _, target in answers]))
    assert top_k_error(k, ranks) == pytest.approx(missed / len(answers))


def test_confusion_and_the_mean_over_classes_by_hand() -> None:
    targets, predicted = np.array([0, 0, 0, 0, 2, 2]), np.array([0, 0, 0, 1, 2, 0])
    confusion = confusion_matrix(targets, predicted, 4)
    assert confusion.tolist() == [[3, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert mean_class_accuracy(confusion) == pytest.approx((3 / 4 + 1 / 2) / 2)


# The command


@pytest.fixture
def classed(photos: Path, tmp_path: Path) -> Path:
    """Photos in folders that are called like classes of `small`."""
    for name, group in zip(CLASSES, sorted(photos.iterdir()), strict=False):
        shutil.move(group, tmp_path / "classed" / name)
    return tmp_path / "classed"


def test_the_command_prints_a_row_a_way_and_writes_the_confusion_matrix(
    small: Path, classed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "confusion.csv"
    arguments = ["evaluate", "classifier", "--data", str(classed), "--weights", str(small)]
    arguments += ["--device", "cpu", "--crops", "ten", "dense", "--scales", "36", "40"]
    assert main([*arguments, "--confusion", str(file)]) == 0
    head, columns, *rows = capsys.readouterr().out.splitlines()
    assert head == f"{classed}: 8 photos, 7 classes; per cent"
    assert columns.split() == [
        "network", "crops", "scales", "top-1", "top-5", "error-1", "error-5", "mean", "class"
    ]  # fmt: skip
    assert [row.split()[1] for row in rows[:6]] == ["ten"] * 3 + ["dense"] * 3
    assert rows[5].split()[2:4] == ["36,", "40"]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["photos"], len(answer["rows"])) == (8, 6)
    last = answer["rows"][-1]
    assert last["top1_accuracy"] == pytest.approx(1 - last["top1_error"])
    assert f"{100 * last['top1_error']:.2f}" in rows[5]
    names, *cells = [line.split(",") for line in file.read_text().splitlines()]
    assert names == ["true class", *CLASSES]
    written = {
        (row[0], name): int(cell)
        for row in cells
        for name, cell in zip(names[1:], row[1:], strict=True)
        if int(cell)
    }
    assert written == {(true, taken): count for true, taken, count in last["confusion"]}
    assert sum(written.values()) == 8


def test_the_command_fuses_networks_that_are_named_with_their_weights(
    classed: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save(tmp_path / "other.safetensors", "alexnet-cifar", "crop", 9)
    weights = [f"alexnet-cifar:{small}", str(other)]
    assert main(["evaluate", "classifier", "--data", str(classed), "--weights", *weights]) == 0
    rows = capsys.readouterr().out.splitlines()[2:5]
    assert " + " in rows[2]
    assert f"alexnet-cifar:{other}" in rows[1]


def test_the_command_says_in_a_line_what_is_wrong(
    photos: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "classifier", "--data", str(photos), "--weights", str(small)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"fc7: {photos}: bananas, mountains, shoes, ... is none of the network")
    assert error.count("\n") == 1
