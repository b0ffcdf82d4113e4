"""What happens to photos on their way through people's hands: copies, to measure who finds them.

Each copy is a whole file, decoded again by whoever looks at it. Where nothing else is said it is
a JPEG of quality 90.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from retrieval.images import read_photo

Attack = Callable[[Image.Image, np.random.Generator], bytes]

_QUALITY = 90
_BLUR = 0.005  # of the long side
_PHONE = (9, 19.5)  # a screen's shape


def copy_of(photo: bytes, attack: str, seed: int) -> bytes:
    """Make the copy of a photo's file that `ATTACKS` calls so.

    seed: decides what is left to chance: where it is cut, what is written on it.
    Raises ImageError if the file gives no picture.
    """
    pixels, _ = read_photo(photo, min_side=1 << 28)
    return ATTACKS[attack](Image.fromarray(pixels), np.random.default_rng(seed))


def _jpeg(image: Image.Image, quality: int = _QUALITY) -> bytes:
    return _file(image, "JPEG", quality=quality)


def _file(image: Image.Image, format_: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def _coded(image: Image.Image, _: np.random.Generator, format_: str, **options: int) -> bytes:
    return _file(image, format_, **options)


def _resized(image: Image.Image, _: np.random.Generator, share: float) -> bytes:
    size = tuple(max(1, round(share * side)) for side in image.size)
    return _jpeg(image.resize((size[0], size[1]), Image.Resampling.LANCZOS))


def _cropped(image: Image.Image, rng: np.random.Generator, share: float) -> bytes:
    """Keep a share of the area, in the photo's shape, anywhere."""
    width, height = (round(share**0.5 * side) for side in image.size)
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    return _jpeg(image.crop((left, top, left + width, top + height)))


def _straightened(image: Image.Image, _: np.random.Generator, degrees: float) -> bytes:
    """Turn a little, and keep the largest upright rectangle of the photo's shape."""
    width, height = image.size
    angle = np.radians(degrees)
    long, short = max(width, height), min(width, height)
    share = short / (long * np.sin(angle) + short * np.cos(angle))
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    across, down = share * width / 2, share * height / 2
    box = (width / 2 - across, height / 2 - down, width / 2 + across, height / 2 + down)
    return _jpeg(turned.crop(tuple(map(round, box))))


def _turned(image: Image.Image, _: np.random.Generator, how: Image.Transpose) -> bytes:
    return _jpeg(image.transpose(how))


def _blurred(image: Image.Image, _: np.random.Generator) -> bytes:
    return _jpeg(image.filter(ImageFilter.GaussianBlur(_BLUR * max(image.size))))


def _noisy(image: Image.Image, rng: np.random.Generator) -> bytes:
    noise = rng.normal(0, 12, (*image.size[::-1], 3))
    return _jpeg(Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)))


def _adjusted(
    image: Image.Image, _: np.random.Generator, what: Callable[[Image.Image], Any], factor: float
) -> bytes:
    adjusted: Image.Image = what(image).enhance(factor)
    return _jpeg(adjusted)


def _captioned(image: Image.Image, rng: np.random.Generator) -> bytes:
    """White letters with a black edge across the photo, as high as a tenth of it."""
    image = image.copy()
    size = max(8, image.height // 10)
    text = "".join(rng.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ  "), 40))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for line in range(2):
        place = (size // 2, image.height * (0.05 + 0.75 * line))
        draw.text(place, text[20 * line :], "white", font, stroke_width=size // 12,
                  stroke_fill="black")  # fmt: skip
    return _jpeg(image)


def _screenshot(image: Image.Image, rng: np.random.Generator) -> bytes:
    """The photo as wide as a phone's screen, between bars with a few lines of text."""
    height = round(image.width * _PHONE[1] / _PHONE[0])
    height = max(height, round(1.3 * image.height))
    paper = 255 * int(rng.integers(2))
    screen = Image.new("RGB", (image.width, height), (paper,) * 3)
    screen.paste(image, (0, (height - image.height) // 3))
    draw, font = ImageDraw.Draw(screen), ImageFont.load_default(max(8, image.width // 25))
    for line in range(2):
        place = (image.width * 0.05, height * (0.9 + 0.04 * line))
        draw.text(place, "Liked by 12 others", (255 - paper,) * 3, font)
    return _file(screen, "PNG")


def _framed(image: Image.Image, _: np.random.Generator) -> bytes:
    """Black bars above and below, as films have them."""
    screen = Image.new("RGB", (image.width, round(1.25 * image.height)))
    screen.paste(image, (0, (screen.height - image.height) // 2))
    return _jpeg(screen)


ATTACKS: Mapping[str, Attack] = {
    **{f"JPEG {q}": partial(_coded, format_="JPEG", quality=q) for q in (95, 75, 50, 30, 10)},
    "PNG": partial(_coded, format_="PNG"),
    "WebP 80": partial(_coded, format_="WEBP", quality=80),
    "resized to 1/2": partial(_resized, share=1 / 2),
    "resized to 1/4": partial(_resized, share=1 / 4),
    **{f"crop, {s} % left": partial(_cropped, share=s / 100) for s in (90, 70, 50)},
    "straightened, 2 degrees": partial(_straightened, degrees=2),
    "straightened, 5 degrees": partial(_straightened, degrees=5),
    "turned, 90 degrees": partial(_turned, how=Image.Transpose.ROTATE_90),
    "turned, 180 degrees": partial(_turned, how=Image.Transpose.ROTATE_180),
    "mirrored": partial(_turned, how=Image.Transpose.FLIP_LEFT_RIGHT),
    "blurred": _blurred,
    "noise": _noisy,
    "darker": partial(_adjusted, what=ImageEnhance.Brightness, factor=0.6),
    "brighter": partial(_adjusted, what=ImageEnhance.Brightness, factor=1.4),
    "more contrast": partial(_adjusted, what=ImageEnhance.Contrast, factor=1.6),
    "less contrast": partial(_adjusted, what=ImageEnhance.Contrast, factor=0.6),
    "more colour": partial(_adjusted, what=ImageEnhance.Color, factor=1.8),
    "grey": partial(_adjusted, what=ImageEnhance.Color, factor=0.0),
    "text over it": _captioned,
    "bars": _framed,
    "screenshot": _screenshot,
}
