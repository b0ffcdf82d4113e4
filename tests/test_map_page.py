"""The map as a person meets it, in a real Chromium: in the browser's page, and as a file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from indexer import Library, open_library
from ui.cli import main
from ui.map_page import spread

GROUPS = ("bananas", "shoes", "sunsets", "tulips")
HOSTILE = "<img src=x onerror=alert(1)> *a* é.jpg"
WORSE = "b<!--<script><%2Fscript>.jpg"


@pytest.fixture(scope="module")
def library(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """Four groups, and two names that are traps; no map yet."""
    folder = tmp_path_factory.mktemp("photos")
    for group in GROUPS:
        shutil.copytree(gallery / group, folder / group)
    trap = folder / "<" / "script><script>alert(2)<"
    trap.mkdir(parents=True)
    # Of two that look alike one may lie under the other, however near one comes.
    shutil.copy2(gallery / "towers" / "tower-01.jpg", trap / HOSTILE)
    shutil.copy2(gallery / "daisies" / "daisy-01.jpg", trap / WORSE)
    with open_library(tmp_path_factory.mktemp("library")) as opened:
        opened.index([folder])
        yield opened


def open_map(page: Page, server: str, address: str = "") -> Locator:
    page.goto(f"{server}/map{address}")
    canvas = page.locator("canvas.landscape")
    expect(canvas).to_be_visible()
    expect(canvas).to_have_attribute("data-thumbnails", re.compile("[1-9]"))
    return canvas


def where(page: Page, canvas: Locator, photo: int) -> tuple[float, float]:
    """Where a photo is on the screen."""
    box = canvas.bounding_box()
    assert box is not None
    x, y = page.locator(".map").evaluate("(map, photo) => map.map.where(photo)", photo)
    return box["x"] + x, box["y"] + y


def lonely(library: Library) -> int:
    """A photo with much room around it, so that it is what the mouse meets."""
    points = library.map.points()
    room = {
        p.photo: min((p.x - q.x) ** 2 + (p.y - q.y) ** 2 for q in points if q is not p)
        for p in points
    }
    return max(room, key=lambda photo: room[photo])


def name_of(library: Library, photo: int) -> str:
    return library.photo(photo).path.name


def test_a_library_without_a_map_has_a_button_that_draws_it(
    page: Page, server: str, library: Library
) -> None:
    page.goto(f"{server}/map")
    expect(page.get_by_text("There is no map of these photos yet.")).to_be_visible()
    assert library.map.points() == []
    page.get_by_role("button", name="Draw the map").click()
    expect(page.locator("canvas.landscape")).to_be_visible()
    assert len(library.map.points()) == library.count()
    page.goto("about:blank")


@pytest.fixture
def canvas(page: Page, server: str, library: Library) -> Locator:
    library.map.update()
    return open_map(page, server)


def test_hovering_shows_the_photo_and_what_is_known_of_it(
    page: Page, canvas: Locator, library: Library
) -> None:
    photo = lonely(library)
    page.mouse.move(*where(page, canvas, photo))
    expect(page.locator(".card b")).to_have_text(name_of(library, photo))
    picture = page.locator(".card img")
    expect(picture).to_have_attribute("src", f"/thumb/{photo}.jpg?v="
                                      f"{library.photo(photo).content_hash[:12]}")  # fmt: skip
    assert picture.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") > 100
    label = library.labels(photo)[0]
    if label.probability >= 0.05:
        expect(page.locator(".card .label")).to_have_text(f"Shows: {label.label}")
    page.mouse.move(1, 1)
    expect(page.locator(".card")).to_be_hidden()


def test_zooming_parts_photos_and_a_drag_moves_them(
    page: Page, canvas: Locator, library: Library
) -> None:
    one = lonely(library)
    start = where(page, canvas, one)
    shown = int(canvas.get_attribute("data-thumbnails") or 0)
    others = [point.photo for point in library.map.points() if point.photo != one]

    def spread_out() -> float:
        there = where(page, canvas, one)
        return sum(abs(where(page, canvas, o)[0] - there[0]) for o in others)

    before = spread_out()
    page.mouse.move(*start)
    page.mouse.wheel(0, -240)
    page.wait_for_timeout(300)
    assert spread_out() > 1.3 * before
    assert where(page, canvas, one) == pytest.approx(start, abs=1)  # what is under it stays
    page.get_by_role("button", name="Show all").click()
    assert where(page, canvas, one) == pytest.approx(start, abs=1)
    assert int(canvas.get_attribute("data-thumbnails") or 0) >= shown

    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] - 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + box["height"] - 50, steps=5)
    page.mouse.up()
    moved = where(page, canvas, one)
    assert (moved[0] - start[0], moved[1] - start[1]) == pytest.approx((70, -30), abs=8)
    assert urlsplit(page.url).path == "/map"  # a drag is no click


def test_a_line_around_photos_makes_an_album_of_just_those(
    page: Page, canvas: Locator, library: Library
) -> None:
    points = {p.photo: where(page, canvas, p.photo) for p in library.map.points()}
    shoes = [at for photo, at in points.items() if library.photo(photo).path.parent.name == "shoes"]
    left, right = min(x for x, _ in shoes) - 6, max(x for x, _ in shoes) + 6
    top, bottom = min(y for _, y in shoes) - 6, max(y for _, y in shoes) + 6
    expected = {p for p, (x, y) in points.items() if left < x < right and top < y < bottom}
    assert len(shoes) <= len(expected) < len(points)

    page.get_by_role("button", name="Draw a line around photos").click()
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top + 1)):
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    expect(page.get_by_text(f"{len(expected)} selected")).to_be_visible()
    page.get_by_role("button", name="Save as an album").click()
    page.get_by_role("textbox").fill("Round shoes")
    page.get_by_role("dialog").get_by_role("button", name="Save as an album").click()
    expect(page.get_by_text("Saved as the album “Round shoes”.")).to_be_visible()
    album = library.albums.get("Round shoes")
    assert {photo.id for photo in library.albums.photos(album.id)} == expected

    # The map knows the album at once, and nothing is selected any more.
    page.locator("select.colour").select_option("album")
    expect(page.locator(".legend")).to_contain_text("Round shoes")
    expect(page.get_by_text("selected")).to_have_count(0)


def test_a_click_asks_for_photos_like_it(
    page: Page, server: str, canvas: Locator, library: Library
) -> None:
    photo = lonely(library)
    page.mouse.click(*where(page, canvas, photo))
    page.wait_for_url(f"{server}/?photo={photo}")
    expect(page.locator("figure b")).to_have_text(name_of(library, photo))


def test_the_address_says_what_it_is_coloured_by(page: Page, server: str, library: Library) -> None:
    library.map.update()
    open_map(page, server, "?colour=folder")
    for group in GROUPS:
        count = len([p for p in library.photos(limit=999) if p.path.parent.name == group])
        expect(page.locator(".category").filter(has_text=f"/{group}")).to_contain_text(f"{count}")
    page.locator("select.colour").select_option("year")
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query) == {"colour": ["year"]})
    page.reload()
    expect(page.locator("select.colour")).to_have_value("year")
    expect(page.locator(".legend summary")).to_have_text("Year")


def test_a_keyboard_is_enough(page: Page, server: str, canvas: Locator, library: Library) -> None:
    canvas.focus()
    names = {photo.path.name: photo.id for photo in library.photos(limit=999)}
    for _ in range(6):
        page.keyboard.press("+")
    if page.locator(".card").is_hidden():  # the middle of the map may be a desert
        for key in ("ArrowLeft", "ArrowUp", "ArrowUp", "-", "-", "-", "-"):
            page.keyboard.press(key)
            if page.locator(".card").is_visible():
                break
    name = page.locator(".card b").text_content() or ""
    page.keyboard.press("x")
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("1 selected")).to_have_count(0)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server}/?photo={names[name]}")


def test_new_photos_have_a_button_that_places_them(
    page: Page, server: str, library: Library, gallery: Path, tmp_path: Path
) -> None:
    library.map.update()
    before = {p.photo: (p.x, p.y) for p in library.map.points()}
    shutil.copy2(gallery / "cats" / "cat-01.png", tmp_path)
    library.index([tmp_path])
    open_map(page, server)
    expect(page.get_by_text("One photo came since and has no place yet.")).to_be_visible()
    page.get_by_role("button", name="Place them").click()
    expect(page.get_by_text(f"{len(before) + 1} photos. Those")).to_be_visible()
    expect(page.get_by_text("has no place yet")).to_have_count(0)
    after = {p.photo: (p.x, p.y) for p in library.map.points()}
    assert len(after) == len(before) + 1
    assert after.items() >= before.items()


def test_the_file_is_whole_and_takes_names_as_text(
    page: Page, library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page fixture fails if it asks anybody for anything, or a name's script runs."""
    file = tmp_path / "map.html"
    own = ["--library", str(library.path)]
    assert main(["map", *own, "--html", str(file), "--colour", "folder"]) == 0
    count = library.count()
    assert f"{count} photos have their thumbnails in it: {file}" in capsys.readouterr().out
    page.set_content(file.read_text(encoding="utf-8"))
    canvas = page.locator("canvas.landscape")
    expect(canvas).to_be_visible()
    expect(page.locator("select.colour")).to_have_value("folder")
    expect(page.locator(".legend")).to_contain_text("</script><script>alert(2)<")
    for name in (HOSTILE, WORSE):
        photo = next(p.photo for p in library.map.points() if p.path.name == name)
        page.get_by_role("button", name="Show all").click()
        for _ in range(60):  # come nearer until it is the topmost there
            page.mouse.move(*where(page, canvas, photo))
            if page.locator(".card b").text_content() == name:
                break
            page.mouse.wheel(0, -120)
            page.wait_for_timeout(50)
        expect(page.locator(".card b")).to_have_text(name)
        expect(page.locator(".card img")).to_have_attribute("src", re.compile("^data:image/jpeg"))
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("script").count() == 2


def test_a_file_that_cannot_be_written_is_a_sentence(
    library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--library", str(library.path)]
    assert main(["map", *own, "--html", str(tmp_path / "none" / "map.html")]) == 1
    assert "can't be written: No such file" in capsys.readouterr().err


def test_if_not_all_thumbnails_fit_the_file_says_so(
    library: Library,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ui.map_page.MOST_INSIDE", 5)
    file = tmp_path / "map.html"
    assert main(["map", "--library", str(library.path), "--html", str(file)]) == 0
    rest = library.count() - 5
    assert f"5 photos have their thumbnails in it; the other {rest} are points" in (
        capsys.readouterr().out
    )
    assert f"{rest} of them as points only" in file.read_text(encoding="utf-8")


def test_thumbnails_are_spread_over_the_map(library: Library) -> None:
    """Five of a crowd of a hundred and five that lie alone: all that lie alone, and a few."""
    from dataclasses import replace

    library.map.update()
    one = library.map.points()[0]
    crowd = [replace(one, photo=i, x=0.001 * i, y=0.0) for i in range(100)]
    alone = [replace(one, photo=100 + i, x=50.0, y=100.0 + 20 * i) for i in range(5)]
    chosen = spread([*crowd, *alone], 8)
    assert len(chosen) == 8
    assert {*range(100, 105)} < {*chosen}
