"""What can be done on the search page: each thing, as a person does it, in a real Chromium."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from indexer import Filters, Hit, Library, Photo, open_library

GROUPS = ("cats", "mountains", "sunsets", "tulips")


@pytest.fixture(scope="module")
def library(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """28 photos of four folders; the mountains and the sunsets know their day and their camera."""
    folder = tmp_path_factory.mktemp("photos")
    for group in GROUPS:
        shutil.copytree(gallery / group, folder / group)
    with open_library(tmp_path_factory.mktemp("library")) as opened:
        opened.index([folder])
        yield opened


def named(library: Library, name: str) -> Photo:
    return next(photo for photo in library.photos() if photo.path.name == name)


def names(hits: Sequence[Hit]) -> list[str]:
    return [hit.photo.path.name for hit in hits]


def expect_names(page: Page, wanted: Sequence[str]) -> None:
    expect(page.locator("ol .name")).to_have_text(list(wanted))


def address(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def tile(page: Page, name: str) -> Locator:
    return page.locator(".stMain ol li").filter(has_text=name)


def test_a_part_of_the_photo_can_be_drawn_and_asks_then(
    page: Page, server: str, library: Library
) -> None:
    asked = named(library, "tulip-03.jpg")
    page.goto(f"{server}/?photo={asked.id}&distances=1")
    expect_names(page, names(library.search(asked.id, 20)))

    picture = page.locator("figure img")
    picture.evaluate("picture => picture.decode()")
    box = picture.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.25 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.75 * box["height"])
    page.mouse.up()
    page.wait_for_url("**region=**")
    x, y, width, height = map(float, address(page)["region"].split(","))
    assert (x, y, width, height) == pytest.approx((0.5, 0.25, 0.4, 0.5), abs=0.02)
    hits = library.answer(asked.id, 20, region=(x, y, width, height)).hits
    assert [hit.distance for hit in hits] != [hit.distance for hit in library.search(asked.id, 20)]
    expect(page.locator("ol .distance")).to_have_text([f"distance {h.distance:.2f}" for h in hits])
    expect_names(page, names(hits))

    page.get_by_role("button", name="Ask with the whole photo").click()
    expect_names(page, names(library.search(asked.id, 20)))
    assert "region" not in address(page)


def test_more_and_less_like_this_change_the_ranking_and_can_be_taken_back(
    page: Page, server: str, library: Library
) -> None:
    asked = named(library, "sunset-01.jpg").id
    more, less = named(library, "mountain-01.webp"), named(library, "sunset-06.jpg")
    page.goto(f"{server}/?photo={asked}")
    expect_names(page, names(library.search(asked, 20)))

    tile(page, more.path.name).hover()
    page.get_by_role("button", name=f"More like this: {more.path.name}").click()
    page.wait_for_url(f"{server}/?photo={asked}&like={more.id}")
    with_more = names(library.answer(asked, 20, like=[more.id]).hits)
    assert with_more != names(library.search(asked, 20))
    expect_names(page, with_more)

    # By the keyboard: every photo is one stop, and its keys are told to screen readers.
    link = tile(page, less.path.name).locator("a.photo")
    expect(link).to_have_attribute("aria-keyshortcuts", "+ - c o x")
    link.focus()
    page.keyboard.press("-")
    with_both = names(library.answer(asked, 20, like=[more.id], unlike=[less.id]).hits)
    expect_names(page, with_both)
    assert address(page) == {"photo": str(asked), "like": str(more.id), "unlike": str(less.id)}
    page.reload()
    expect_names(page, with_both)

    page.locator(f".st-key-drop-like-{more.id} button:visible").click()
    expect_names(page, names(library.answer(asked, 20, unlike=[less.id]).hits))


def test_filters_leave_the_photos_that_pass_in_their_order(
    page: Page, server: str, library: Library
) -> None:
    """Compared with every photo's distance, looked through by hand."""
    asked = named(library, "sunset-01.jpg").id
    everything = library.search(asked, library.count())
    page.goto(f"{server}/?photo={asked}&k=50")
    expect_names(page, names(everything))

    page.get_by_role("button", name="Filters").click()
    choose(page, "Folder", "mountains")
    mountains = [hit for hit in everything if hit.photo.path.parent.name == "mountains"]
    expect_names(page, names(mountains))
    page.get_by_role("spinbutton", name="year, Taken from").click()
    page.keyboard.type("20050101")
    page.get_by_role("heading", name="Photos that look like this one").click()
    late = [hit for hit in mountains if (hit.photo.taken_at or "") >= "2005-01-01"]
    assert 0 < len(late) < len(mountains)
    expect_names(page, names(late))
    assert address(page)["since"] == "2005-01-01"

    page.get_by_role("button", name="Filters (2)").click()
    page.get_by_role("button", name="Clear filters").click()
    expect_names(page, names(everything))
    choose(page, "Camera", "Canon EOS 7D")
    expect_names(page, [h.photo.path.name for h in everything if h.photo.camera == "Canon EOS 7D"])
    choose(page, "Camera", "Any")
    choose(page, "Shows", "alp")
    alps = {p.id for p in library.photos() if "alp" in {one.label for one in library.labels(p.id)}}
    expect_names(page, [hit.photo.path.name for hit in everything if hit.photo.id in alps])


def choose(page: Page, label: str, option: str) -> None:
    """Type a part of what is wanted, and take the first that Streamlit offers."""
    field = page.get_by_role("combobox", name=label)
    field.click()
    field.fill(option)
    page.get_by_role("option").filter(has_text=option).first.click()


def test_answers_can_be_kept_to_an_album(page: Page, server: str, library: Library) -> None:
    inside = [named(library, f"tulip-0{n}.jpg").id for n in (1, 2, 3)]
    album = library.albums.create("Spring", inside)
    asked = named(library, "cat-01.png").id
    page.goto(f"{server}/?photo={asked}&album={album.id}")
    hits = library.answer(asked, 20, filters=Filters(album=album.id)).hits
    assert {hit.photo.id for hit in hits} == set(inside)
    expect_names(page, names(hits))


def test_an_address_with_nonsense_in_it_costs_a_sentence(
    page: Page, server: str, library: Library
) -> None:
    asked = named(library, "cat-01.png").id
    for nonsense in ("since=soon", "album=77777"):
        page.goto(f"{server}/?photo={asked}&{nonsense}")
        expect(page.get_by_role("alert")).to_have_count(1)
        expect(page.locator(".stMain ol li")).to_have_count(20)
    for nonsense in ("region=1,2", "region=0.9,0.9,0.5,0.5", "like=x,,9999999999999999999", "k=-4"):
        page.goto(f"{server}/?photo={asked}&{nonsense}")
        expect_names(page, names(library.search(asked, 20)))
    page.goto(f"{server}/?photo={asked}&like=999999")
    expect(page.get_by_role("alert")).to_contain_text("it was removed, or never there")


def test_answers_come_in_pages_that_begin_at_their_top(
    page: Page, server: str, library: Library
) -> None:
    asked = named(library, "tulip-01.jpg").id
    ranked = names(library.search(asked, library.count()))
    page.goto(f"{server}/?photo={asked}&k=10")
    expect_names(page, ranked[:10])
    page.get_by_role("button", name="Page 2").click()
    expect_names(page, ranked[10:20])
    assert address(page)["page"] == "2"
    page.wait_for_function("document.querySelector('.stMain').scrollTop === 0")
    page.get_by_role("button", name="Page 3").click()
    expect_names(page, ranked[20:])
    page.go_back()
    expect_names(page, ranked[10:20])


def test_exact_distances_and_what_both_photos_show_are_told(
    page: Page, server: str, library: Library
) -> None:
    asked = named(library, "mountain-02.jpg").id
    answer = library.answer(asked, 20)
    page.goto(f"{server}/?photo={asked}")
    expect_names(page, names(answer.hits))
    expect(page.locator("ol .distance")).to_have_count(0)
    page.get_by_text("Exact distances").click()
    expect(page.locator("ol .distance")).to_have_text(
        [f"distance {hit.distance:.2f}" for hit in answer.hits]
    )
    seen = {one.label for one in answer.labels if one.probability >= 0.05}
    assert seen
    for place, hit in enumerate(answer.hits):
        own = [one.label for one in library.labels(hit.photo.id) if one.probability >= 0.05]
        both = ", ".join(label for label in own if label in seen)
        why = page.locator(".stMain ol li").nth(place).locator(".why")
        expect(why).to_have_text([f"both show: {both}"] if both else [])


def test_a_photo_can_be_pasted_and_dropped(
    page: Page, server: str, library: Library, gallery: Path
) -> None:
    for number, act in enumerate(("paste", "drop"), start=1):
        photo = gallery / "shoes" / f"shoe-0{number}.jpg"
        page.goto(server)
        expect(page.locator(".stMain ol li")).to_have_count(library.count())
        page.evaluate(
            """([act, name, content]) => {
              const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
              const data = new DataTransfer();
              data.items.add(new File([bytes], name, { type: "image/jpeg" }));
              const zone = document.querySelector("[data-testid=stFileUploaderDropzone]");
              const event = act === "paste"
                ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
                : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
              (act === "paste" ? document.body : zone).dispatchEvent(event);
            }""",
            [act, photo.name, base64.b64encode(photo.read_bytes()).decode()],
        )
        expect(page.locator("figure b")).to_have_text(photo.name)
        expect_names(page, names(library.search(photo, 20)))


def test_a_photos_path_is_copied_and_its_original_opened(
    page: Page, server: str, library: Library
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server)
    photo = named(library, "mountain-02.jpg")
    page.goto(server)
    tile(page, photo.path.name).hover()
    page.get_by_role("button", name=f"Copy its path: {photo.path.name}").click()
    page.wait_for_function(
        "async (path) => (await navigator.clipboard.readText()) === path", arg=str(photo.path)
    )
    original = page.get_by_role("link", name=f"Open the original: {photo.path.name}")
    expect(original).to_have_attribute("target", "_blank")
    answer = page.request.get(f"{server}{original.get_attribute('href')}")
    assert answer.body() == photo.path.read_bytes()
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert page.request.get(f"{server}/original/999999").status == 404


def test_a_selection_is_saved_as_an_album(page: Page, server: str, library: Library) -> None:
    page.goto(server)
    for name in ("cat-01.png", "cat-03.jpg"):
        tile(page, name).hover()
        page.get_by_label(f"Select: {name}").check()
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.get_by_role("button", name="Save as an album").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What shall the album be called?").fill("Cats *we* know")
    dialog.get_by_role("button", name="Save as an album").click()
    expect(page.get_by_test_id("stToast")).to_contain_text("Saved as the album “Cats *we* know”.")
    expect(page.get_by_text("2 selected")).to_have_count(0)
    album = library.albums.get("cats *we* know")
    inside = {photo.path.name for photo in library.albums.photos(album.id)}
    assert inside == {"cat-01.png", "cat-03.jpg"}


def test_on_a_narrow_screen_nothing_is_cut_off_and_all_pages_can_be_reached(
    page: Page, server: str, library: Library
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{server}/?photo={named(library, 'cat-01.png').id}")
    expect(page.locator(".stMain ol li")).to_have_count(20)
    assert page.locator(".stMain").evaluate("main => main.scrollWidth") <= 390
    page.get_by_test_id("stExpandSidebarButton").click()
    links = page.get_by_test_id("stSidebarNavLink")
    expect(links).to_have_text(
        ["Search", "Labels", "Albums", "Duplicates", "Map", "Library", "Network"]
    )
    links.get_by_text("Labels").click()
    page.wait_for_url(f"{server}/labels")


def test_who_reads_chinese_is_spoken_to_in_chinese(
    page: Page, server: str, library: Library
) -> None:
    assert page.context.browser is not None
    context = page.context.browser.new_context(locale="zh-CN")
    chinese = context.new_page()
    chinese.goto(server)
    expect(chinese.get_by_role("heading", name="查找相似的照片")).to_be_visible()
    expect(chinese.get_by_text("或者从您的 28 张照片中选一张")).to_be_visible()
    assert library.count() == 28
    context.close()
