"""People who use the pages at the same time: a window each in one Chromium, driven side by side."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright
from playwright.async_api import Error as PageTrouble
from serving import FLAGS, HOUSE, PATIENCE

from indexer import Filters, Library

GALLERY = HOUSE / "data" / "gallery"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_A_PAGE = 10  # answers
_FILTERS = Filters(since="2016", until="2019-06")


@dataclass(frozen=True, slots=True)
class Visit:
    """One thing that a visitor did, and how long it took; wrong: what was there instead."""

    what: str
    seconds: float
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a visitor asks, and the names of the answers that each page must show, in order."""

    photo: int
    answers: list[str]
    next_photo: list[str]  # the answers to the first of them
    next_page: list[str]
    filtered: list[str]
    upload: Path
    uploaded: list[str]


def plans_of(library: Library, count: int, seed: int) -> list[Plan]:
    """Things to ask, and what a program that asks the library alone gets."""
    rng = random.Random(seed)
    photos = library.count()
    files = sorted(GALLERY.glob("*/*.jpg"))
    plans = []
    for _ in range(count):
        photo, upload = rng.randrange(1, photos + 1), rng.choice(files)
        first = library.answer(photo, _A_PAGE).hits
        second = library.answer(first[0].photo.id, 2 * _A_PAGE).hits
        filtered = library.answer(photo, _A_PAGE, filters=_FILTERS).hits
        uploaded = library.answer(upload, _A_PAGE, filters=_FILTERS).hits  # they stay
        names = [
            [hit.photo.path.name for hit in hits] for hits in (first, second, filtered, uploaded)
        ]
        plans.append(
            Plan(
                photo, names[0], names[1][:_A_PAGE], names[1][_A_PAGE:], names[2], upload, names[3]
            )
        )
    return plans


def visit_together(address: str, visitors: Sequence[Sequence[Plan]]) -> list[Visit]:
    """Each visitor does what is planned for it, all at the same time."""
    return asyncio.run(_visit_together(address, visitors))


async def _visit_together(address: str, visitors: Sequence[Sequence[Plan]]) -> list[Visit]:
    found = next(path for name in _NAMES if (path := shutil.which(name)))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=FLAGS)
        try:
            visits = await asyncio.gather(*(_visit(browser, address, own) for own in visitors))
        finally:
            await browser.close()
    return [visit for own in visits for visit in own]


async def _visit(browser: Browser, address: str, plans: Sequence[Plan]) -> list[Visit]:
    context = await browser.new_context(viewport={"width": 900, "height": 700}, locale="en")
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    visits = []
    for plan in plans:
        visits += await _follow(page, address, plan)
    await context.close()
    return visits + [Visit("the page's own program", 0, trouble) for trouble in troubles]


async def _follow(page: Page, address: str, plan: Plan) -> list[Visit]:
    """Ask with a photo, open an answer, turn the page, narrow the answers, upload a photo."""
    asked = f"{address}/?photo={plan.photo}&k={_A_PAGE}"
    narrowed = f"&since={_FILTERS.since}&until={_FILTERS.until}"
    return [
        await _timed(page, "search", page.goto(asked), plan.answers),
        await _timed(
            page, "open an answer", page.locator("ol a.photo").first.click(), plan.next_photo
        ),
        await _timed(
            page, "next page", page.get_by_test_id("stPaginationNext").click(), plan.next_page
        ),
        await _timed(page, "filter", page.goto(asked + narrowed), plan.filtered),
        await _timed(
            page,
            "upload",
            page.locator("input[type=file]").set_input_files(plan.upload),
            plan.uploaded,
        ),
    ]


async def _timed(page: Page, what: str, doing: Awaitable[object], names: list[str]) -> Visit:
    tiles = page.locator(".stMain ol .name")
    begun = time.perf_counter()
    try:
        await doing
        while (shown := await tiles.all_text_contents()) != names:
            if time.perf_counter() - begun > PATIENCE / 1000:
                return Visit(what, time.perf_counter() - begun, f"{shown} and not {names}")
            await page.wait_for_timeout(20)
    except PageTrouble as error:
        return Visit(what, time.perf_counter() - begun, str(error))
    return Visit(what, time.perf_counter() - begun)
