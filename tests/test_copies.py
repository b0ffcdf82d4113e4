"""A second look: copies of real photos are told from photos that are only like them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from retrieval.attacks import ATTACKS, copy_of
from retrieval.copies import TURNS, View, look, view
from retrieval.errors import ImageError
from retrieval.images import read_photo
from retrieval.pairing import is_shot, stars

PHOTOS = ("cats/cat-01.png", "mountains/mountain-02.jpg", "tulips/tulip-01.jpg")
TURNED = {"mirrored", "turned, 90 degrees", "turned, 180 degrees"}


def seen(photo: bytes) -> View:
    return view(read_photo(photo)[0])


@pytest.mark.parametrize("attack", sorted(ATTACKS.keys() - TURNED - {"text over it"}))
def test_a_copy_is_found_whatever_was_done_to_it(gallery: Path, attack: str) -> None:
    for photo in PHOTOS:
        content = (gallery / photo).read_bytes()
        assert look(seen(content), seen(copy_of(content, attack, seed=1))) is not None, photo


def test_a_turned_copy_is_found_once_it_is_turned_back(gallery: Path) -> None:
    content = (gallery / PHOTOS[0]).read_bytes()
    pairs = {"mirrored": "mirrored", "turned, 180 degrees": "turned by 180",
             "turned, 90 degrees": "turned by 90"}  # fmt: skip
    for attack, turn in pairs.items():
        copy = seen(copy_of(content, attack, seed=1))
        assert look(seen(content), copy) is None
        assert look(seen(content).turned(turn), copy) is not None


def test_turning_a_view_is_turning_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 96, 3), dtype=np.uint8)
    turned: dict[str, NDArray[np.uint8]] = {
        "": pixels,
        "mirrored": pixels[:, ::-1],
        "turned by 90": np.rot90(pixels),
        "turned by 180": pixels[::-1, ::-1],
    }
    assert turned.keys() == TURNS.keys()
    for turn, wanted in turned.items():
        own = view(np.ascontiguousarray(wanted)).whole
        assert np.allclose(view(pixels).turned(turn).whole.light, own.light, atol=1e-3)


def test_a_look_says_how_much_a_crop_shows_and_of_which(gallery: Path) -> None:
    pixels = read_photo(gallery / "mountains" / "mountain-02.jpg")[0]
    height, width = pixels.shape[:2]
    part = pixels[height // 8 : height, : 3 * width // 4]
    found, other_way = look(view(pixels), view(part)), look(view(part), view(pixels))
    assert found is not None and other_way is not None
    assert found.covered == pytest.approx(7 / 8 * 3 / 4, abs=0.02)
    assert (found.swapped, other_way.swapped) == (False, True)


def test_bars_around_a_photo_do_not_count_as_showing_more(gallery: Path) -> None:
    content = (gallery / PHOTOS[1]).read_bytes()
    found = look(seen(copy_of(content, "bars", seed=0)), seen(content))
    assert found is not None
    assert found.covered > 0.95


def test_photos_of_one_kind_of_thing_are_not_copies(gallery: Path) -> None:
    for group in ("tulips", "cats", "mountains", "lemons"):
        views = [seen(photo.read_bytes()) for photo in sorted((gallery / group).iterdir())[:6]]
        for place, one in enumerate(views):
            assert all(look(one, other) is None for other in views[place + 1 :])


def test_the_same_thing_in_another_colour_is_another_picture(gallery: Path) -> None:
    pixels = read_photo(gallery / "sunflowers" / "sunflower-04.jpg")[0]
    hue, saturation, value = Image.fromarray(pixels).convert("HSV").split()
    hue = hue.point(lambda h: (h + 128) % 256)
    other = np.array(Image.merge("HSV", (hue, saturation, value)).convert("RGB"))
    assert look(view(pixels), view(pixels)) is not None
    assert look(view(pixels), view(other)) is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_plain_photos_have_nothing_to_compare(level: int) -> None:
    noise = np.random.default_rng(0).normal(level, 1, (200, 300, 3))
    plain = view(np.clip(noise, 0, 255).astype(np.uint8))
    assert not plain.detailed
    assert look(plain, plain) is None


def test_pages_of_text_in_one_layout_are_different_pages(draw: Callable[..., Path]) -> None:
    def page(seed: int) -> View:
        rng = np.random.default_rng(seed)
        ink = rng.random((40, 60)) < 0.4  # words as blots, on the same lines
        sheet = np.full((480, 360), 250, np.uint8)
        for line, row in enumerate(ink):
            for word, on in enumerate(row):
                if on:
                    sheet[12 * line + 3 : 12 * line + 9, 6 * word : 6 * word + 6] = 40
        return view(np.repeat(sheet[..., np.newaxis], 3, axis=2))

    assert look(page(1), page(1)) is not None
    assert look(page(1), page(2)) is None


def test_a_photo_as_thin_as_a_line_is_refused() -> None:
    file = io.BytesIO()
    Image.new("RGB", (2000, 4)).save(file, "PNG")
    with pytest.raises(ImageError, match="too thin"):
        seen(file.getvalue())


def test_members_of_a_group_are_linked_to_its_best_and_chains_are_cut() -> None:
    chain = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert stars(range(6), chain, lambda *_: False) == [(0, [1]), (2, [3]), (4, [5])]
    assert stars([3, 0, 1, 2, 4, 5], chain, lambda *_: False) == [(3, [2, 4]), (0, [1])]


def test_what_the_index_missed_is_asked_for() -> None:
    asked = set[tuple[int, int]]()

    def joined(best: int, one: int) -> bool:
        asked.add((best, one))
        return one < 4

    assert stars(range(6), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)], joined) == [
        (0, [1, 2, 3]),
        (4, [5]),
    ]
    assert asked == {(0, 2), (0, 3), (0, 4)}


def test_time_tells_shots_of_one_occasion_from_others() -> None:
    unknown = float("nan")
    assert is_shot(0.40, unknown)
    assert not is_shot(0.60, unknown)
    assert is_shot(0.60, 5)
    assert not is_shot(0.60, 600)
    assert is_shot(0.40, 600)
    assert not is_shot(0.40, 86_400)
