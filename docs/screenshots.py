"""Takes the screenshots of docs/images anew: `make screenshots`, or with names, some of them.

The sample gallery is indexed and grouped in a library of its own, which the real `fc7 ui` shows to
a real Chromium. A new page is a line in PAGES.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from indexer import Grouping, Library, open_library
from retrieval.errors import Fc7Error
from ui.chromium import chromium, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOUSE = Path(__file__).parent.parent
WIDE, NARROW = (1280, 800), (390, 844)
LARGEST = 200_000  # bytes a picture
QUALITIES = range(85, 30, -5)  # of the JPEG; the first that is small enough
PATIENCE = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Shot:
    """What is taken: docs/images/browser-NAME.jpg."""

    name: str
    address: str  # {sunflower}: a photo's number; {album}: an album's
    wait_for: str = "h1"  # a selector of what must be there
    size: tuple[int, int] = WIDE
    dark: bool = False


PAGES = (
    Shot("start", "/"),
    Shot("search", "/?photo={sunflower}", "ol a.photo"),
    Shot("search-narrow", "/?photo={sunflower}", "ol a.photo", NARROW),
    Shot("search-dark", "/?photo={sunflower}", "ol a.photo", dark=True),
    Shot("labels", "/labels", "ol img"),
    Shot("albums", "/albums", "ol img"),
    Shot("albums-narrow", "/albums", "ol img", NARROW),
    Shot("album", "/albums?album={album}", "ol img"),
    Shot("duplicates", "/duplicates", "article img"),
    Shot("duplicates-narrow", "/duplicates", "article img", NARROW),
    Shot("map", "/map", "canvas"),
    Shot("map-narrow", "/map", "canvas", NARROW),
    Shot("library", "/library"),
    Shot("library-narrow", "/library", size=NARROW),
    Shot("network", "/network?photo={sunflower}", "svg image, img"),
)


def take(shots: list[Shot], folder: Path) -> bool:
    """Take them; say on stdout which, and which page does not show what it should."""
    with TemporaryDirectory(prefix="fc7-") as place, chromium() as browser:
        library = Path(place) / "library"
        pictures = Path(place) / "Pictures"  # no page shall name the folder this house lies in
        shutil.copytree(HOUSE / "data" / "gallery", pictures)
        with open_library(library) as opened:
            numbers = _prepare(opened, pictures)
        complete = True
        with serving(library) as address:
            for shot in shots:
                width, height = shot.size
                page = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if shot.dark else "light",
                    reduced_motion="reduce",
                    locale="en",
                )
                page.goto(address + shot.address.format(**numbers))
                file = folder / f"browser-{shot.name}.jpg"
                if trouble := _wait(page, shot.wait_for):
                    print(f"{file.name}: not taken, {trouble}")
                    complete = False
                else:
                    file.write_bytes(_picture(page))
                    print(f"{file.name}: {file.stat().st_size / 1000:.0f} KB")
                page.close()
    return complete


def _prepare(library: Library, pictures: Path) -> dict[str, int]:
    """Fill the library; the numbers that addresses may name."""
    library.index([pictures])
    library.albums.group(Grouping())
    library.map.update()
    return {
        "sunflower": library.photo_at(pictures / "sunflowers" / "sunflower-04.jpg").id,
        "album": max(library.albums.all(), key=lambda album: album.photos).id,
    }


def _wait(page: Page, selector: str) -> str:
    """Wait until the page is drawn and rests; return what is wrong, or nothing."""
    from playwright.sync_api import TimeoutError as TooLong

    try:
        page.locator(selector).first.wait_for(timeout=1000 * PATIENCE)
    except TooLong:
        return f"there is no {selector}"
    end, before = time.monotonic() + PATIENCE, b""
    while time.monotonic() < end:
        page.wait_for_timeout(1000)
        drawn = page.evaluate("[...document.images].every(image => image.complete)")
        now = page.screenshot(animations="disabled", caret="hide")
        if drawn and now == before:
            return ""
        before = now
    return "it does not come to rest"


def _picture(page: Page) -> bytes:
    for quality in QUALITIES:
        jpeg = page.screenshot(type="jpeg", quality=quality, animations="disabled", caret="hide")
        if len(jpeg) <= LARGEST:
            break
    return jpeg


def main() -> int:
    """0 if all that were named (none: all there are) could be taken."""
    names = sys.argv[1:]
    unknown = set(names) - {shot.name for shot in PAGES}
    if unknown:
        print(f"no such page: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    wanted = [shot for shot in PAGES if not names or shot.name in names]
    try:
        return 0 if take(wanted, HOUSE / "docs" / "images") else 1
    except Fc7Error as error:
        print(f"screenshots: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
