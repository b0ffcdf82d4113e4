"""How quick the pages are: a real Chromium looks at the real `fc7 ui` of a large drawn library.

A time ends when the pictures that are in view are drawn and the page's program has come to its end.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indexer import Grouping, open_library
from indexer.bench.drawn import BLOCK, DressedLibrary, check_room, read_seeds
from retrieval.errors import BenchError
from retrieval.shipped import shipped
from ui.chromium import chromium, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

LEAST = 1_000  # photos
_BYTES_A_PHOTO = 25_000  # on disk: descriptor, code and rows as fc7 bench search, a thumbnail
_PATIENCE = 60.0  # seconds
_VIEWED = """pictures => {
  const viewed = pictures.filter(one => {
    const box = one.getBoundingClientRect();
    return box.bottom > 0 && box.top < innerHeight && box.width > 0;
  });
  const drawn = one => one.tagName === "CANVAS" || (one.complete && one.naturalWidth > 0);
  return viewed.every(drawn) ? viewed.length : 0;
}"""

# Pages that are only opened: what is measured, the address, and what its pictures are.
OPENED = (
    ("the labels page", "/labels", "img"),
    ("the albums page", "/albums", "img"),
    ("the map page", "/map", ".map canvas"),  # there once it has been drawn on
)


@dataclass(frozen=True, slots=True)
class Look:
    """One thing that a person does, and how long it took each time."""

    what: str
    seconds: tuple[float, ...]  # none: the page drew no picture

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None


@dataclass(frozen=True, slots=True)
class BrowserFigures:
    """What `fc7 bench browser` shows."""

    photos: int
    albums: int
    network: str
    looks: tuple[Look, ...]

    def summary(self) -> dict[str, object]:
        """The same, ready for JSON."""
        looks = [
            {"what": one.what, "median_s": one.median, "seconds": list(one.seconds)}
            for one in self.looks
        ]
        return {
            "photos": self.photos,
            "albums": self.albums,
            "network": self.network,
            "looks": looks,
        }


def bench_browser(
    photos: int, *, rounds: int, progress: Callable[[str, int, int], None]
) -> BrowserFigures:
    """Make a library of so many drawn photos and time what a person does with it.

    progress: called with what is done, how much of it, of how much.

    Raises BenchError if there are fewer than 1,000 photos, no room for them, or Playwright or
    Chromium is not installed.
    """
    from retrieval.extractor import Extractor

    if photos < LEAST:
        raise BenchError(f"{photos:,} photos are too few to measure: {LEAST:,} or more")
    gallery = shipped("gallery")
    if gallery is None:
        raise BenchError("the sample gallery is not here: install fc7 anew")
    with tempfile.TemporaryDirectory(prefix="fc7-bench-") as place, chromium() as browser:
        check_room(Path(place), photos * _BYTES_A_PHOTO, photos)
        library = Path(place) / "library"
        library.mkdir()
        extractor = Extractor()
        seeds = read_seeds(gallery, extractor, lambda done, of: progress("photos", done, of))
        drawn = DressedLibrary(library, extractor, seeds)
        while drawn.rows < photos:
            drawn.add(min(BLOCK, photos - drawn.rows))
            progress("drawn photos", drawn.rows, photos)
        drawn.catalog.close()
        with open_library(library) as opened:
            opened.fit_shortlist()
            opened.albums.group(Grouping(), progress=lambda done, of: progress("grouped", done, of))
            albums = len(opened.albums.all())
        uploads = sorted(gallery.glob("*/*.jpg"))[: rounds + 1]
        with serving(library) as address:
            looks = _look(browser, address, uploads, rounds, progress)
    return BrowserFigures(photos, albums, extractor.network, tuple(looks))


def _look(
    browser: Browser,
    address: str,
    uploads: Sequence[Path],
    rounds: int,
    progress: Callable[[str, int, int], None],
) -> list[Look]:
    """Do all of it `rounds` times."""
    times: dict[str, list[float]] = {}

    def note(what: str, seconds: float | None) -> None:
        times.setdefault(what, []).extend([] if seconds is None else [seconds])

    with _fresh(browser) as context:
        note("the first page after the start of fc7 ui", _open(context, address))
        note("the first upload, which loads the network", _upload(context, address, uploads[0]))
    for done, upload in enumerate(uploads[1:], start=1):
        with _fresh(browser) as context:
            note("the first page, nothing in the browser's cache", _open(context, address))
            note("the first page", _open(context, address))
            note("an answer after a photo is uploaded", _upload(context, address, upload))
            by_photo, next_page = _ask(context, address, done)
            note("an answer by a photo of the library", by_photo)
            note("the next page of answers", next_page)
            for what, page, pictures in OPENED:
                if times.get(what) != []:  # where nothing came, nothing is waited for again
                    note(what, _open(context, address + page, pictures))
        progress("rounds", done, rounds)
    return [Look(what, tuple(seconds)) for what, seconds in times.items()]


@contextmanager
def _fresh(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a cache or a past."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en")
    context.set_default_timeout(1000 * _PATIENCE)
    try:
        yield context
    finally:
        context.close()


def _open(context: BrowserContext, address: str, pictures: str = "img") -> float | None:
    page = context.new_page()
    begun = time.perf_counter()
    page.goto(address, wait_until="commit")
    seen = until_drawn(page, "", pictures)
    page.close()
    return seen and seen - begun


def _upload(context: BrowserContext, address: str, photo: Path) -> float | None:
    page = context.new_page()
    page.goto(address)
    until_drawn(page, "")
    begun = time.perf_counter()
    page.locator("input[type=file]").set_input_files(photo)
    seen = until_drawn(page, "upload=")
    page.close()
    return seen and seen - begun


def _ask(context: BrowserContext, address: str, which: int) -> tuple[float | None, float | None]:
    """Click on a photo of the start page, then turn the page of its answers."""
    page = context.new_page()
    page.goto(address)
    until_drawn(page, "")
    begun = time.perf_counter()
    page.locator("ol a.photo").nth(which).click()
    answered = until_drawn(page, "photo=")
    turned = time.perf_counter()
    page.get_by_test_id("stPaginationNext").click()
    seen = until_drawn(page, "page=2")
    page.close()
    return answered and answered - begun, seen and seen - turned


def until_drawn(page: Page, in_address: str, pictures: str = "img") -> float | None:
    """Return when the pictures in view were there; None if there are none after a while.

    in_address: what the address must have come to hold. pictures: a selector of them.
    """
    app, found = page.locator("[data-testid=stApp]"), page.locator(pictures)
    end = time.perf_counter() + _PATIENCE
    while time.perf_counter() < end:
        if (
            in_address in page.url
            and app.count()
            and app.get_attribute("data-test-script-state") == "notRunning"
            and found.evaluate_all(_VIEWED)
            and in_address in page.url
        ):
            return time.perf_counter()
        page.wait_for_timeout(10)
    return None
