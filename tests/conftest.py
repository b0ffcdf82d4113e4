"""Photos and libraries that the tests share: real files, SQLite, FAISS and torch, no network."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    expect,
    sync_playwright,
)
from serving import FLAGS, PATIENCE, serving

from indexer import Library, open_library
from retrieval.extractor import Extractor

# The same examples each time, and no clock: a busy machine is no failure.
hypothesis.settings.register_profile("fc7", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("fc7")

expect.set_options(timeout=PATIENCE)

# In the background of a script they ignore Ctrl-C, and what tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What takes long goes first, so that no worker is left alone with it in the end.
LONG = ("training", "watching", "library_page", "bench_index", "crash", "cli", "network_page")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [f"test_{name}" for name in LONG]
    items.sort(key=lambda item: item.path.stem not in names)  # keeps the order otherwise


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


@pytest.fixture(scope="module")
def server(library: Library) -> Iterator[str]:
    """The address of the real `fc7 ui` with a library that the module makes for all its tests."""
    with serving(library.path) as address:
        yield address


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


@pytest.fixture(scope="session")
def browser() -> Iterator[BrowserContext]:
    """One Chromium for all tests, so that it fetches Streamlit's scripts once."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        context = chromium.new_context(viewport={"width": 1400, "height": 900})
        context.set_default_timeout(PATIENCE)
        yield context
        chromium.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A fresh page that must stay without errors and dialogs, and ask nobody but this machine."""
    troubles: list[str] = []

    def refuse(dialog: Dialog) -> None:
        troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    opened = browser.new_page()
    opened.on("dialog", refuse)
    opened.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    opened.on("console", lambda line: troubles.append(line.text) if is_trouble(line) else None)
    opened.on("request", lambda asked: None if is_local(asked.url) else troubles.append(asked.url))
    yield opened
    opened.close()
    assert troubles == []


def is_trouble(line: ConsoleMessage) -> bool:
    """Not that Streamlit asks for its server below a page's address before it asks at the root."""
    place = urlsplit(line.location.get("url", "")).path
    return line.type == "error" and "_stcore" not in place.split("/")[2:3]


def is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob") or parts.hostname == "127.0.0.1"
