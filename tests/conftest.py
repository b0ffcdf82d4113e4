"""Photos and libraries that the tests share: real files, SQLite, FAISS and torch, no network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

from indexer import Library, open_library
from retrieval.extractor import Extractor

# The same examples each time, and no clock: a busy machine is no failure.
hypothesis.settings.register_profile("fc7", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("fc7")

GALLERY = Path(__file__).parent.parent / "data" / "gallery"


@pytest.fixture(scope="session")
def gallery() -> Path:
    """The sample photos: one folder a group. Not to be changed: copy them."""
    return GALLERY


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 8 small real photos of four groups, to be renamed, edited and broken."""
    folder = tmp_path / "photos"
    for group in ("sunflowers", "shoes", "bananas", "mountains"):
        (folder / group).mkdir(parents=True)
        for photo in sorted((GALLERY / group).iterdir())[:2]:
            shutil.copy2(photo, folder / group / photo.name)
    return folder


@pytest.fixture(scope="session")
def extractor() -> Extractor:
    """AlexNet with the bundled weights, loaded once."""
    return Extractor(device="cpu")


@pytest.fixture
def library(tmp_path: Path, extractor: Extractor) -> Iterator[Library]:
    with open_library(tmp_path / "library", extractor=extractor) as opened:
        yield opened


def draw_photo(path: Path, seed: int, size: tuple[int, int] = (320, 240)) -> Path:
    """Draw a photo-like picture: coarse colour noise, enlarged. The seed decides what it shows."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """`draw_photo(path, seed, size)`."""
    return draw_photo
