"""Framing, checked against torchvision, and thumbnails."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from drawn import difference, scene
from PIL import Image

from retrieval import images
from retrieval.images import frame, read_photo, thumbnail


@pytest.mark.parametrize(("side", "whole"), [(224, 256), (32, 36)])
@pytest.mark.parametrize(
    "size",
    [(640, 480), (480, 640), (257, 256), (333, 501), (224, 224), (100, 60), (31, 97), (5, 3)],
)
def test_cropping_is_torchvisions_resize_and_centre_crop(
    size: tuple[int, int], side: int, whole: int
) -> None:
    from torchvision import transforms

    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    plain = transforms.Compose([transforms.Resize(whole), transforms.CenterCrop(side)])
    squashed = transforms.Resize((side, side))
    for drawn in (scene(*size), noise):
        image = Image.fromarray(drawn)
        cropped, expected = frame(drawn, "crop", side), np.asarray(plain(image))
        assert np.abs(cropped.astype(int) - expected).max() <= 1  # rounding between the two passes
        assert difference(cropped, expected) < 0.3
        assert (frame(drawn, "squash", side) == np.asarray(squashed(image))).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 20000)])
def test_the_thinnest_photos_are_framed_from_their_middle(size: tuple[int, int]) -> None:
    drawn = scene(*size)
    for framing in images.FRAMINGS:
        assert frame(drawn, framing).shape == (224, 224, 3)
    middle = drawn[size[1] // 2, size[0] // 2].astype(int)
    assert np.abs(frame(drawn)[112, 112].astype(int) - middle).max() <= 2


def test_an_unknown_framing_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="crop, squash"):
        frame(scene(8, 8), "stretch")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (320, 240)),
        ((300, 900), (107, 320)),
        ((90, 60), (90, 60)),
        ((4000, 1), (320, 1)),
    ],
)
def test_a_thumbnail_is_a_small_jpeg_without_metadata(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    drawn = scene(*size)
    data = thumbnail(drawn)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert image.size == expected
        assert not {"exif", "icc_profile", "xmp"} & image.info.keys()
        small = np.asarray(image)
    if min(expected) > 1:
        assert difference(small, np.asarray(Image.fromarray(drawn).resize(expected))) < 4


def test_photos_of_the_gallery_are_framed_as_torchvision_does(gallery: Path) -> None:
    from torchvision import transforms

    plain = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    photos = sorted(path for path in gallery.rglob("*") if path.suffix in (".jpg", ".webp", ".png"))
    assert len(photos) > 20
    for path in photos[::12]:
        pixels, _ = read_photo(path, min_side=10**6)
        assert difference(frame(pixels), np.asarray(plain(Image.fromarray(pixels)))) < 0.3
