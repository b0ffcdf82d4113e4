"""retrieval.crops and rescaling, against slices written out by hand and against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import difference, scene
from PIL import Image
from torchvision import transforms

from retrieval.crops import centre_crop, grid_crops, ten_crops
from retrieval.errors import ImageError
from retrieval.images import encode_png, frame, read_photo, rescale


def test_ten_crops_are_corners_and_centre_of_the_central_square_and_their_mirror_images() -> None:
    pixels = scene(300, 256)  # 256 high, 300 wide: the square begins at column 22
    crops = ten_crops(pixels, 224)
    expected = [
        pixels[0:224, 22:246],
        pixels[0:224, 54:278],
        pixels[32:256, 22:246],
        pixels[32:256, 54:278],
        pixels[16:240, 38:262],
    ]
    expected += [crop[:, ::-1] for crop in expected]
    assert crops.shape == (10, 224, 224, 3)
    for crop, wanted in zip(crops, expected, strict=True):
        assert (crop == wanted).all()


def test_ten_crops_of_a_square_are_torchvisions() -> None:
    pixels = scene(40, 40)
    theirs = transforms.TenCrop(32)(Image.fromarray(pixels))
    # Its order: two upper corners, two lower ones, the centre; then those of the mirrored photo,
    # whose left corner is our right one, mirrored.
    places = [0, 1, 2, 3, 4, 6, 5, 8, 7, 9]
    for crop, place in zip(ten_crops(pixels, 32), places, strict=True):
        assert (crop == np.asarray(theirs[place])).all()


def test_the_grid_is_regular_from_edge_to_edge() -> None:
    pixels = scene(336, 256)
    crops = grid_crops(pixels, 224)
    assert crops.shape == (50, 224, 224, 3)
    expected = [
        pixels[top : top + 224, left : left + 224]
        for top in (0, 8, 16, 24, 32)
        for left in (0, 28, 56, 84, 112)
    ]
    for place, wanted in enumerate(expected):
        assert (crops[place] == wanted).all()
        assert (crops[25 + place] == wanted[:, ::-1]).all()


@pytest.mark.parametrize("size", [(640, 480), (333, 501), (100, 60), (5, 3)])
@pytest.mark.parametrize("short_side", [224, 256, 288])
def test_rescaling_and_the_centre_are_torchvisions(size: tuple[int, int], short_side: int) -> None:
    drawn = scene(*size)
    image = transforms.Resize(short_side)(Image.fromarray(drawn))
    scaled = rescale(drawn, short_side)
    assert (scaled == np.asarray(image)).all()
    centre = np.asarray(transforms.CenterCrop(224)(image))
    assert (centre_crop(scaled, 224)[0] == centre).all()


def test_the_centre_at_256_is_what_every_other_command_sees() -> None:
    drawn = scene(501, 333)
    centre = centre_crop(rescale(drawn, 256), 224)[0]
    assert np.abs(centre.astype(int) - frame(drawn)).max() <= 1
    assert difference(centre, frame(drawn)) < 0.3


def test_a_photo_too_thin_to_be_scaled_as_a_whole_is_refused() -> None:
    with pytest.raises(ImageError, match=r"too thin \(2x50\)"):
        rescale(scene(2, 50), 256)


def test_png_keeps_every_pixel() -> None:
    drawn = scene(17, 9)
    assert (read_photo(encode_png(drawn))[0] == drawn).all()
