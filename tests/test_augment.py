"""What chance does to training photos, against slow loops and the papers' formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from retrieval.images import frame
from retrieval.training.augment import (
    Colours,
    colour_shifts,
    crop_of_area,
    crop_of_scaled,
    draw_epoch,
    mirror,
    padded,
    principal_colours,
    random_crops,
)
from retrieval.training.photos import Photos, View, augmented, training_view
from retrieval.training.recipes import PRESETS, recipe_for
from tests.drawn import scene

CHANCE = np.random.default_rng(0)


def noise(count: int, side: int) -> NDArray[np.uint8]:
    return CHANCE.integers(0, 256, (count, side, side, 3), np.uint8)


def test_crops_are_what_a_loop_cuts_out() -> None:
    photos, places = noise(50, 12), CHANCE.random((50, 2), np.float32)
    crops = random_crops(photos, 9, places)
    for photo, (down, across), crop in zip(photos, places, crops, strict=True):
        top, left = int(down * 4), int(across * 4)
        assert np.array_equal(crop, photo[top : top + 9, left : left + 9])


def test_every_crop_is_as_likely() -> None:
    photos = np.zeros((4000, 4, 4, 3), np.uint8)
    photos[:, :, :, 0] = np.arange(16).reshape(4, 4)
    corners = random_crops(photos, 3, CHANCE.random((4000, 2), np.float32))[:, 0, 0, 0]
    found, counts = np.unique(corners, return_counts=True)
    assert found.tolist() == [0, 1, 4, 5]
    assert counts.min() > 900  # 1000 expected, standard deviation 27


def test_margins_mirror_the_edges() -> None:
    row = np.arange(6, dtype=np.uint8)
    photo = np.broadcast_to(row[None, None, :, None], (1, 6, 6, 3))
    assert padded(photo, 2)[0, 0, :, 0].tolist() == [2, 1, 0, 1, 2, 3, 4, 5, 4, 3]
    assert padded(photo, 2).shape == (1, 10, 10, 3)


def test_mirroring_swaps_left_and_right_of_those_chosen() -> None:
    photos = noise(4, 5)
    swapped = mirror(photos, np.array([True, False, True, False]))
    for i, photo in enumerate(photos):
        for x in range(5):
            assert np.array_equal(swapped[i, :, x], photo[:, 4 - x if i % 2 == 0 else x])


def test_colour_shifts_are_the_papers_formula() -> None:
    rows = ((0.6, 0.8, 0.0), (-0.8, 0.6, 0.0), (0.0, 0.0, 1.0))
    colours = Colours((0.2, 0.02, 0.004), rows)
    draws = CHANCE.standard_normal((20, 3), np.float32)
    for shift, alphas in zip(colour_shifts(colours, draws, 0.1), draws, strict=True):
        slow = [
            sum(rows[i][channel] * 0.1 * alphas[i] * colours.variances[i] for i in range(3))
            for channel in range(3)
        ]
        assert shift == pytest.approx(slow, abs=1e-7)


def test_principal_colours_of_a_known_cloud_are_found() -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    spread = np.random.default_rng(2).standard_normal((100_000, 3)) * [0.12, 0.06, 0.02]
    pixels = np.clip((0.5 + spread @ turn.T) * 255, 0, 255).round().astype(np.uint8)
    colours = principal_colours([pixels[:60_000].reshape(200, 300, 3), pixels[60_000:]])
    assert np.sqrt(colours.variances) == pytest.approx([0.12, 0.06, 0.02], rel=0.02)
    alike = np.abs(np.asarray(colours.directions) @ turn)  # the sign of a direction is free
    assert alike == pytest.approx(np.eye(3), abs=0.02)


def test_a_scaled_crop_is_one_of_the_papers_crops() -> None:
    """S = 256 of a 512 x 768 photo: 224 pixels of the scaled photo are 448 of its own."""
    for place in CHANCE.random((50, 2), np.float32):
        left, top, right, bottom = crop_of_scaled(512, 768, 224 / 256, place)
        assert right - left == pytest.approx(448)
        assert bottom - top == pytest.approx(448)
        assert 0 <= left <= right <= 768
        assert 0 <= top <= bottom <= 512
    corner = crop_of_scaled(512, 768, 224 / 256, np.array([0.5, 0.0], np.float32))
    assert corner == (0, 32, 448, 480)


def test_a_crop_of_random_area_has_the_area_and_shape_it_should() -> None:
    for area, shape, place in zip(
        CHANCE.uniform(0.1, 0.5, 50),
        CHANCE.uniform(0.75, 1.33, 50),
        CHANCE.random((50, 2), np.float32),
        strict=True,
    ):
        left, top, right, bottom = crop_of_area(300, 400, area, shape, place)
        assert (right - left) * (bottom - top) == pytest.approx(area * 300 * 400)
        assert (right - left) / (bottom - top) == pytest.approx(shape)
        assert left >= 0
        assert top >= 0
        assert right <= 400
        assert bottom <= 300
    assert crop_of_area(10, 1000, 1.0, 1.0, np.zeros(2, np.float32)) == (0, 0, 100, 10)


def test_an_epoch_draws_each_photo_once_and_the_same_again() -> None:
    order, draws = draw_epoch(7, 3, 100)
    again, same = draw_epoch(7, 3, 100)
    other, others = draw_epoch(7, 4, 100)
    assert sorted(order) == list(range(100))
    assert np.array_equal(order, again)
    assert np.array_equal(draws.colours, same.colours)
    assert not np.array_equal(order, other)
    assert not np.array_equal(draws.places, others.places)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """12 drawn photos of several sizes."""
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for number in range(12):
        path = folder / f"{number}.png"
        Image.fromarray(scene(60 + 40 * number, 300 - 10 * number)).save(path)
        paths.append(path)
    return paths


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_photo_becomes_depends_on_neither_batch_nor_thread(
    files: list[Path], preset: str
) -> None:
    recipe = recipe_for(preset, 224)
    view = training_view(recipe, 224, "crop")
    order, draws = draw_epoch(0, 0, len(files))
    labels = np.arange(len(files))

    def squares(batch: int, workers: int, ahead: int, keep: int) -> NDArray[np.uint8]:
        photos = Photos(files, labels, view, fill=True, ahead=ahead, workers=workers, keep=keep)
        found = np.zeros((len(files), 224, 224, 3), np.uint8)
        for _ in range(2):  # the second time some are in memory
            for part in photos.batches(np.array_split(order, len(files) // batch), draws):
                assert np.array_equal(part.rows, part.labels)
                found[part.rows] = augmented(part, recipe, 224, draws)
        return found

    once = squares(12, 1, 0, 0)
    assert np.array_equal(once, squares(3, 3, 2, 1 << 30))
    assert len({square.tobytes() for square in once}) == 12


def test_validation_sees_photos_as_they_are_seen_in_use(files: list[Path]) -> None:
    photos = Photos(files, np.arange(12), View("frame", 224, "crop"), fill=False)
    (batch,) = photos.batches([np.arange(12)])
    for path, square in zip(files, batch.pixels, strict=True):
        assert np.array_equal(square, frame(np.asarray(Image.open(path))))


def test_a_broken_photo_costs_itself(files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:200])
    paths = [files[0], broken, tmp_path / "gone.png", files[1], broken]
    learning = Photos(paths, np.arange(5), View("frame", 32), fill=True)
    for _ in range(2):
        (batch,) = learning.batches([np.arange(5)], draw_epoch(0, 0, 5)[1])
        assert batch.labels.tolist() == [0, 3, 3, 3, 0]  # the next one fills its place
    validating = Photos(paths, np.arange(5), View("frame", 32), fill=False)
    (batch,) = validating.batches([np.arange(5)])
    assert batch.labels.tolist() == batch.rows.tolist() == [0, 3]
    assert set(validating.broken) == {1, 2, 4} <= set(learning.broken)
    assert validating.broken[1] == "truncated"
