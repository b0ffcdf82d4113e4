"""The pages of the real `fc7 ui`, looked at and used by a real Chromium."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import expect
from serving import PATIENCE, serving

from indexer import Library, open_library
from torture.changing import damage_of
from torture.editing import come_and_go

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PAGES = ("", "?photo=1", "labels", "albums", "albums?album=1", "map", "library", "duplicates")


def new_context(browser: Browser) -> BrowserContext:
    """A browser without a cache or a past."""
    context = browser.new_context(viewport={"width": 1000, "height": 700}, locale="en")
    context.set_default_timeout(PATIENCE)
    return context


def until_settled(page: Page) -> tuple[str, ...]:
    """Wait until the page's program has ended and nothing changes any more; what is shown then.

    Headings, complaints, the names of tiles and covers: what doesn't tell the time.
    """
    seen: tuple[str, ...] = ()
    while True:
        page.wait_for_selector('[data-testid=stApp][data-test-script-state="notRunning"]')
        main = page.locator(".stMain")
        now = tuple(
            text
            for shown in ("h1, h2", "[role=alert]", "ol .name, ol .title")
            for text in main.locator(shown).all_text_contents()
        )
        if now and now == seen:
            return now
        seen = now
        page.wait_for_timeout(400)


def page_readers_of(browser: Browser) -> Callable[[str], Mapping[str, Callable[[], object]]]:
    """Gives, for a server's address, what looks at each of its pages."""

    def readers(address: str) -> dict[str, Callable[[], object]]:
        return {f"/{path}": lambda path=path: look(f"{address}/{path}") for path in PAGES}

    def look(address: str) -> object:
        with new_context(browser) as context:
            page = context.new_page()
            page.goto(address)
            return until_settled(page)

    return readers


def edit_in_two_pages(
    browser: Browser, home: Path, pool: Sequence[Path], turns: int
) -> tuple[int, list[str]]:
    """How many edits were made in two windows of one album, and what went wrong."""
    folder, path, over = home / "photos", home / "library", home / "over"
    folder.mkdir(parents=True)
    for photo in pool[:12]:
        (folder / photo.name).write_bytes(photo.read_bytes())
    errors: list[str] = []
    with open_library(path) as library:
        library.index([folder])
        with (
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes,
            serving(path) as address,
            new_context(browser) as context,
        ):
            beside = processes.submit(come_and_go, path, home / "more", list(pool), over)
            one, other = context.new_page(), context.new_page()
            for turn in range(turns):
                try:
                    _edit_in_turn(library, address, one, other, turn)
                except Exception:  # noqa: BLE001 (whatever it is, it is told)
                    errors.append(traceback.format_exc())
            for page in (one, other):
                page.goto("about:blank")
            over.touch()
            errors += beside.result()
    return 6 * turns, errors + damage_of(path)


def _edit_in_turn(library: Library, address: str, one: Page, other: Page, turn: int) -> None:
    """Six edits of one album; each window's are made without a look at the other's."""
    own = sorted(
        (photo for photo in library.photos(limit=10_000) if photo.path.parent.name == "photos"),
        key=lambda photo: photo.path,
    )
    names = [photo.path.name for photo in own]
    album = library.albums.create(f"of two {turn}", [photo.id for photo in own[:4]])
    heir = library.albums.create(f"heir {turn}", [photo.id for photo in own[4:8]])
    for page in (one, other):
        page.goto(f"{address}/albums?album={album.id}")
        expect(page.locator("ol .name")).to_have_count(4)

    _take_out(one, names[0])
    _take_out(other, names[1])
    inside = {photo.path.name for photo in library.albums.photos(album.id)}
    assert inside == {*names[2:4]}, inside

    for page, name in ((one, f"first {turn}"), (other, f"last {turn}")):
        page.get_by_role("button", name="Rename").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("textbox").fill(name)
        dialog.get_by_role("button", name="Rename").click()
        expect(page.get_by_role("heading", name=name)).to_be_visible()
    assert library.albums.get(album.id).name == f"last {turn}"

    one.get_by_role("button", name="Merge").click()
    field = one.get_by_role("dialog").get_by_role("combobox")
    field.click()
    field.fill(heir.name)
    one.get_by_role("option", name=heir.name).click()
    one.get_by_role("dialog").get_by_role("button", name="Merge").click()
    one.wait_for_url(f"{address}/albums?album={heir.id}")
    expect(one.locator("ol .name")).to_have_count(6)
    other.get_by_role("button", name="Hide").click()
    expect(other.get_by_role("alert")).to_contain_text("That album is not there any more")
    assert {photo.path.name for photo in library.albums.photos(heir.id)} == {*names[2:8]}


def _take_out(page: Page, name: str) -> None:
    page.locator(".stMain ol li").filter(has_text=name).hover()
    page.get_by_label(f"Select: {name}").check()
    page.get_by_role("button", name="Take out of the album").click()
    expect(page.get_by_test_id("stToast").filter(has_text="taken out").last).to_be_visible()
    expect(page.locator("ol .name").filter(has_text=name)).to_have_count(0)
