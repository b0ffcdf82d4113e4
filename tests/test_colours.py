"""Every way to store colour becomes 8-bit RGB in sRGB, checked against formulas written out."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from drawn import LOSSLESS, Pixels, difference, encode, png, scene
from PIL import Image, ImageCms
from PIL.ImageCms import ImageCmsProfile

from retrieval.images import read_photo

# Pillow warns about files that it reads nevertheless.
pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")


def test_transparency_is_shown_over_white() -> None:
    drawn = scene(40, 30)
    alpha = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    share = alpha[..., None] / 255
    expected = np.rint(drawn * share + 255 * (1 - share)).astype(np.uint8)
    rgba = np.dstack([drawn, alpha])
    for format in ("PNG", "TIFF", "WEBP"):
        pixels, _ = read_photo(encode(rgba, format, **LOSSLESS[format], **_exact(format)))
        assert np.abs(pixels.astype(int) - expected).max() <= 1, format
    grey = np.dstack([drawn[..., 0], alpha])
    pixels, _ = read_photo(encode(Image.fromarray(grey), "PNG"))
    assert np.abs(pixels.astype(int) - expected[..., :1]).max() <= 1


def _exact(format: str) -> dict[str, object]:
    return {"exact": True} if format == "WEBP" else {}


def test_a_palette_becomes_its_colours_and_its_transparent_entry_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([200, 10, 20, 30, 200, 40, 50, 60, 200])
    image.putdata([0, 1, 2])
    for format in ("PNG", "GIF", "TIFF", "BMP"):
        pixels, _ = read_photo(encode(image, format))
        assert pixels.tolist() == [[[200, 10, 20], [30, 200, 40], [50, 60, 200]]], format
    for format in ("PNG", "GIF"):
        pixels, _ = read_photo(encode(image, format, transparency=1))
        assert pixels.tolist() == [[[200, 10, 20], [255, 255, 255], [50, 60, 200]]], format
    pixels, _ = read_photo(encode(image, "PNG", transparency=bytes([255, 0, 127])))
    assert pixels[0, 1].tolist() == [255, 255, 255]
    assert pixels[0, 2].tolist() == [153, 158, 228]  # 127/255 of the colour, the rest white


def test_an_alpha_that_hides_everything_is_ignored() -> None:
    drawn = scene(40, 30)
    pixels, _ = read_photo(encode(np.dstack([drawn, np.zeros((30, 40), np.uint8)]), "PNG"))
    assert (pixels == drawn).all()


def test_grey_and_black_and_white_become_three_equal_channels() -> None:
    grey = scene(40, 30)[..., 0]
    for format in ("PNG", "JPEG", "TIFF", "BMP", "GIF"):
        pixels, _ = read_photo(encode(grey, format))
        assert np.abs(pixels.astype(int) - grey[..., None]).max() <= 4, format
    for format in ("PNG", "TIFF", "BMP"):
        pixels, _ = read_photo(encode(Image.fromarray(grey > 99), format))
        assert (pixels == np.where(grey > 99, 255, 0)[..., None]).all(), format


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    deep = (np.arange(40 * 30).reshape(30, 40) * 54).astype(np.uint16)
    expected = np.rint(deep / 257).astype(np.uint8)[..., None]
    for format in ("PNG", "TIFF"):
        pixels, _ = read_photo(encode(Image.fromarray(deep), format))
        assert (pixels == expected).all(), format
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in deep)
    pixels, _ = read_photo(png(struct.pack(">IIBBBBB", 40, 30, 16, 2, 0, 0, 0), rows))
    assert np.abs(pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0, 1e6])
def test_a_float_tiff_is_scaled_to_the_least_usual_white(white: float) -> None:
    ramp = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (30, 1))
    values = ramp * np.float32(white)
    values[0, :2] = [np.nan, -5]
    pixels, _ = read_photo(encode(Image.fromarray(values), "TIFF"))
    assert pixels[0, :2].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert np.abs(pixels[1:].astype(int) - np.rint(ramp[1:, :, None] * 255)).max() <= 1


def test_a_32_bit_grey_tiff_is_scaled() -> None:
    values = np.tile(np.linspace(0, 65535, 40).astype(np.int32), (30, 1))
    pixels, _ = read_photo(encode(Image.fromarray(values), "TIFF"))
    assert np.abs(pixels.astype(int) - np.rint(values[..., None] / 257)).max() <= 1


def _inks(width: int, height: int) -> Pixels:
    """Smooth CMYK: 0 is no ink."""
    black = np.tile(np.linspace(0, 90, width), (height, 1)).astype(np.uint8)
    return np.dstack([255 - scene(width, height), black])


def _cmyk(inks: Pixels) -> Image.Image:
    return Image.frombytes("CMYK", (inks.shape[1], inks.shape[0]), inks.tobytes())


def _printed(inks: Pixels) -> Pixels:
    paper = 255 - inks.astype(float)
    return np.rint(paper[..., :3] * paper[..., 3:] / 255).astype(np.uint8)


def test_cmyk_is_printed_on_white_paper() -> None:
    inks = _inks(64, 48)
    image = _cmyk(inks)
    for data in (encode(image, "TIFF"), encode(image, "JPEG", quality=95)):
        assert difference(read_photo(data)[0], _printed(inks)) < 3


def test_adobes_inverted_ycck_is_printed_on_white_paper() -> None:
    # Adobe stores 255 - ink; of these, libjpeg takes the colours as YCC if the marker says 2.
    inks = _inks(64, 48)
    luminance = np.asarray(Image.fromarray(inks[..., :3]).convert("YCbCr"))
    as_stored = np.dstack([luminance, 255 - inks[..., 3]])
    data = encode(_cmyk(255 - as_stored), "JPEG", quality=95)
    marker = b"Adobe\0\x64\0\0\0\0"
    assert marker + b"\0" in data
    ycck = data.replace(marker + b"\0", marker + b"\2")
    assert difference(read_photo(ycck)[0], _printed(inks)) < 3


def _profile(*, swapped: bool) -> bytes:
    profile = ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name in ("sRGB", "s\0R\0G\0B", "\0s\0R\0G\0B"):
        profile = profile.replace(name.encode(), name.replace("s", "x").encode())
    if swapped:  # what it calls red is blue
        profile = profile.replace(b"rXYZ", b"?XYZ", 1).replace(b"bXYZ", b"rXYZ", 1)
        profile = profile.replace(b"?XYZ", b"bXYZ", 1)
    return profile


def test_a_colour_profile_is_converted_to_srgb() -> None:
    drawn = scene(40, 30)
    pixels, _ = read_photo(encode(drawn, "PNG", icc_profile=_profile(swapped=True)))
    assert difference(pixels, drawn[..., ::-1]) < 2
    pixels, _ = read_photo(encode(drawn, "PNG", icc_profile=_profile(swapped=False)))
    assert difference(pixels, drawn) < 1


def test_a_broken_or_unfitting_colour_profile_costs_nothing() -> None:
    drawn = scene(40, 30)
    for profile in (b"nonsense", _profile(swapped=True)[:200]):
        assert (read_photo(encode(drawn, "PNG", icc_profile=profile))[0] == drawn).all()
    inks = _inks(40, 30)
    data = encode(_cmyk(inks), "TIFF", icc_profile=_profile(swapped=True))
    assert difference(read_photo(data)[0], _printed(inks)) < 3
