"""The labels page: counts that a slow loop confirms, completion, and photos that lead to search."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Page, expect
from serving import serving

from indexer import Library, open_library

GROUPS = ("cats", "daisies", "shoes")


@pytest.fixture(scope="module")
def library(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """25 photos, and a copy of one of them: two photos of one content."""
    folder = tmp_path_factory.mktemp("photos")
    for group in GROUPS:
        shutil.copytree(gallery / group, folder / group)
    shutil.copy2(folder / "daisies" / "daisy-06.jpg", folder / "copy.jpg")
    with open_library(tmp_path_factory.mktemp("library")) as opened:
        opened.index([folder])
        yield opened


def seen_in(library: Library) -> dict[str, list[tuple[float, str]]]:
    """For each class that is likely enough: (probability, path) of its photos, likeliest first."""
    seen: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for photo in library.photos(limit=1000):
        for one in library.labels(photo.id):
            if one.probability >= 0.05:
                seen[one.label].append((-one.probability, str(photo.path)))
    return {label: sorted(photos) for label, photos in seen.items()}


def label_in(url: str) -> str:
    parts = urlsplit(url)
    return parse_qs(parts.query).get("label", [""])[0] if parts.path == "/labels" else ""


def test_each_class_is_shown_with_its_count_and_its_likeliest_photo(
    page: Page, server: str, library: Library
) -> None:
    seen = seen_in(library)
    order = sorted(seen, key=lambda label: (-len(seen[label]), label))
    page.goto(f"{server}/labels")
    expect(page.locator("ol .title")).to_have_text(order[:60])
    expect(page.locator("ol .note")).to_have_text(
        [f"{len(seen[label])} photo{'s' * (len(seen[label]) > 1)}" for label in order[:60]]
    )
    best = library.photo_at(Path(seen[order[0]][0][1])).content_hash
    shown = page.locator("ol img").first.get_attribute("src") or ""
    assert shown.endswith(f".jpg?v={best[:12]}")


def test_a_class_leads_to_its_photos_and_each_of_them_to_search(
    page: Page, server: str, library: Library
) -> None:
    label, photos = max(seen_in(library).items(), key=lambda pair: (len(pair[1]), pair[0]))
    page.goto(f"{server}/labels")
    page.locator(".stMain ol li").filter(has_text=label).first.click()
    page.wait_for_url(lambda url: label_in(url) == label)
    expect(page.get_by_role("heading", name=label)).to_be_visible()
    expect(page.locator("ol .name")).to_have_text([Path(path).name for _, path in photos])
    expect(page.locator("ol .likeness")).to_have_text(
        [f"{round(100 * -less)} % sure" for less, _ in photos]
    )
    page.locator("ol a.photo").nth(1).click()
    asked = library.photo_at(Path(photos[1][1]))
    page.wait_for_url(f"{server}/?photo={asked.id}")
    expect(page.locator("figure b")).to_have_text(asked.path.name)
    page.go_back()
    expect(page.locator("ol .likeness").first).to_contain_text("sure")
    page.get_by_role("button", name="All labels").click()
    expect(page.get_by_role("heading", name="What your photos show")).to_be_visible()


def test_all_thousand_classes_are_found_by_a_part_of_their_name(
    page: Page, server: str, library: Library
) -> None:
    seen = seen_in(library)
    assert len(library.facets().classes) == 1000
    assert "golden retriever" not in seen
    page.goto(f"{server}/labels")
    field = page.get_by_role("combobox", name="Find photos of")
    field.click()
    field.fill("den retr")
    page.get_by_role("option", name="golden retriever").click()
    page.wait_for_url(lambda url: label_in(url) == "golden retriever")
    expect(page.get_by_role("status")).to_have_text("No photo here shows golden retriever.")
    field.click()
    field.fill("daisy")
    page.get_by_role("option", name=f"daisy ({len(seen['daisy'])})").click()
    expect(page.locator("ol .name")).to_have_text([Path(p).name for _, p in seen["daisy"]])


def test_an_address_of_no_class_costs_a_sentence(page: Page, server: str) -> None:
    for nonsense in ("nosuchthing", "<img src=x onerror=alert(1)>", "a`*b*$c$"):
        page.goto(f"{server}/labels?label={quote(nonsense)}")
        expect(page.get_by_role("status")).to_have_text(
            f"{nonsense} is none of the things that are recognised."
        )
    assert page.locator("img[src=x]").count() == 0


def test_labelled_photos_can_be_had_in_parts(library: Library) -> None:
    everything = library.labelled("daisy", 20)
    parts = [one for at in (0, 3, 6) for one in library.labelled("daisy", 3, offset=at)]
    assert parts == everything[:9]
    assert [one.rank for one in parts] == list(range(1, 10))


def test_facets_count_what_a_loop_over_all_photos_counts(library: Library) -> None:
    facets = library.facets()
    seen = seen_in(library)
    assert dict(facets.labels) == {label: len(photos) for label, photos in seen.items()}
    for label, photo in facets.best.items():
        sure = {one.label: one.probability for one in library.labels(photo)}[label]
        assert sure == -seen[label][0][0]
    folders = Counter(
        folder
        for photo in library.photos(limit=1000)
        for folder in photo.path.parents
        if folder in dict(facets.folders)
    )
    assert dict(facets.folders) == folders


def test_an_empty_library_leads_to_the_page_that_fills_it(page: Page, tmp_path: Path) -> None:
    with open_library(tmp_path / "new") as new, serving(new.path) as address:
        for name in ("labels", "albums"):
            page.goto(f"{address}/{name}")
            expect(page.get_by_text("No photos here yet")).to_be_visible()
            page.get_by_role("button", name="Add a folder").click()
            page.wait_for_url(f"{address}/library")
        page.goto("about:blank")  # a page whose server stops would complain
