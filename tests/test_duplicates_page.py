"""The page of duplicates as a person meets it, in a real Chromium."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from indexer import Library, open_library
from indexer.work import working
from retrieval.attacks import copy_of
from retrieval.extractor import Extractor

HOSTILE = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def library(
    gallery: Path, tmp_path_factory: pytest.TempPathFactory, extractor: Extractor
) -> Iterator[Library]:
    """A tulip with a small, a cut and an equal copy, whose name is a trap; and other photos."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("tulips/tulip-01.jpg", "shoes/shoe-01.jpg", "cats/cat-01.png"):
        shutil.copy2(gallery / name, folder)
    tulip = (folder / "tulip-01.jpg").read_bytes()
    (folder / "small.jpg").write_bytes(copy_of(tulip, "resized to 1/2", seed=1))
    (folder / "cut.jpg").write_bytes(copy_of(tulip, "crop, 70 % left", seed=1))
    (folder / HOSTILE).write_bytes(tulip)
    with open_library(tmp_path_factory.mktemp("library"), extractor=extractor) as opened:
        opened.index([folder])
        yield opened


def photo(page: Page, name: str) -> Locator:
    return page.locator("article ol > li").filter(has=page.get_by_text(name, exact=True))


def exported(page: Page, label: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=label).click()
    return Path(download.value.path()).read_bytes()


def test_groups_lie_side_by_side_and_the_list_goes_with_the_person(
    page: Page, server: str, library: Library
) -> None:
    before = {one.path: one.path.read_bytes() for one in library.photos()}
    page.goto(f"{server}/duplicates")
    expect(page.locator("article li b")).to_have_text(["tulip-01.jpg", HOSTILE])

    page.get_by_text("Same picture (1)").click()
    page.wait_for_url("**/duplicates?kind=picture")
    expect(page.locator("article li b")).to_have_text(["tulip-01.jpg", "cut.jpg", "small.jpg"])
    expect(photo(page, "tulip-01.jpg").locator(".badge")).to_have_text("Worth keeping")
    expect(photo(page, "cut.jpg").locator(".note")).to_have_text("shows 70 % of it")
    expect(photo(page, "small.jpg").locator("li.differs").first).to_have_text("250 × 166")
    expect(page.locator("article img").first).to_have_js_property("complete", True)
    expect(page.get_by_text("2 photos marked")).to_be_visible()

    photo(page, "cut.jpg").get_by_role("checkbox").uncheck()
    expect(page.get_by_text("1 photo marked")).to_be_visible()
    page.get_by_role("button", name="Export the list").click()
    assert exported(page, "Paths, as text").decode().split("/")[-1] == "small.jpg\n"
    rows = list(csv.DictReader(io.StringIO(exported(page, "Table, as CSV").decode())))
    marks = {Path(row["path"]).name: row["mark"] for row in rows}
    assert marks == {"tulip-01.jpg": "keep", "cut.jpg": "keep", "small.jpg": "spare"}
    assert json.loads(exported(page, "All, as JSON"))[0]["proposal"] == "keep"
    assert {one.path: one.path.read_bytes() for one in library.photos()} == before


def test_marking_all_of_a_group_is_said_aloud(page: Page, server: str) -> None:
    page.goto(f"{server}/duplicates?kind=file")
    expect(page.locator("article h3 em")).to_have_count(0)
    photo(page, "tulip-01.jpg").get_by_role("checkbox").check()
    expect(page.locator("article h3 em")).to_have_text("Nothing of this group is kept")


def test_a_kind_without_groups_and_a_wrong_address_are_answered(page: Page, server: str) -> None:
    page.goto(f"{server}/duplicates?kind=shot")
    expect(page.get_by_text("No shots are this much alike.")).to_be_visible()
    page.goto(f"{server}/duplicates?kind=<b>&page=99")
    expect(page.locator("article li b").first).to_have_text("tulip-01.jpg")


def test_while_photos_are_read_the_page_waits_and_then_goes_on(
    page: Page, server: str, library: Library, gallery: Path
) -> None:
    page.goto(f"{server}/duplicates?kind=file")
    expect(page.locator("article li b")).to_have_text(["tulip-01.jpg", HOSTILE])
    folder = library.photos()[0].path.parent
    shutil.copy2(gallery / "shoes" / "shoe-01.jpg", folder / "again.jpg")
    library.index()
    with working(library.path, "index"):
        page.reload()
        expect(page.get_by_text("Photos are being read just now")).to_be_visible()
        expect(page.locator("article")).to_have_count(0)
        expect(page.get_by_role("button", name="See how far it is")).to_be_visible()
    expect(page.locator("article li b")).to_have_count(4)
    expect(photo(page, "again.jpg")).to_be_visible()
