"""The page as a person meets it: a real Chromium, the real `fc7 ui`, a library of real photos."""

from __future__ import annotations

import http.client
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from time import sleep
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect
from serving import PATIENCE, serving, start_ui

from indexer import Library, open_library
from retrieval.errors import ImageError
from ui.browser import parse_photo_id
from ui.uploads import Uploads

HOSTILE = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def library(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A dozen photos, two of them turned by EXIF, one with a name that is a trap for a browser."""
    folder = tmp_path_factory.mktemp("photos")
    chosen = [
        *("tulips/tulip-01.jpg", "tulips/tulip-02.jpg", "shoes/shoe-01.jpg", "shoes/shoe-02.jpg"),
        *("bananas/banana-01.jpg", "bananas/banana-02.jpg", "cats/cat-01.png"),
        *("mountains/mountain-01.webp", "mountains/mountain-02.jpg"),
        *("rotated/canyon-6.jpg", "rotated/canyon-8.jpg"),
    ]
    for photo in chosen:
        shutil.copy2(gallery / photo, folder)
    shutil.copy2(gallery / "towers" / "tower-01.jpg", folder / HOSTILE)
    with open_library(tmp_path_factory.mktemp("library")) as opened:
        opened.index([folder])
        yield opened


def tiles(page: Page) -> Locator:
    return page.locator("ol a.photo")


def expect_answers(page: Page, library: Library, asked: Path | int, k: int = 20) -> None:
    """The tiles on the page are what the library answers: names and distances, in order."""
    hits = library.search(asked, k)
    expect(page.locator("ol .name")).to_have_text([hit.photo.path.name for hit in hits])
    if "distances" in page.url:
        expect(page.locator("ol .distance")).to_have_text(
            [f"distance {hit.distance:.2f}" for hit in hits]
        )
    else:
        expect(page.locator("ol .likeness")).to_have_text([in_words(hit.distance) for hit in hits])


def in_words(distance: float) -> str:
    """Cosine similarities of .95, .8, .65 and .45, as distances of unit rows."""
    limits = {
        0.3162: "nearly the same",
        0.6325: "very alike",
        0.8367: "alike",
        1.0488: "a little alike",
    }
    return next((word for limit, word in limits.items() if distance <= limit), "hardly alike")


def upload(page: Page, photo: Path) -> None:
    chooser = page.locator("input[type=file]")
    expect(chooser).to_have_count(1)  # while the page changes there may be an old one too
    chooser.set_input_files(photo)


def id_of(library: Library, name: str) -> int:
    return next(photo.id for photo in library.photos() if photo.path.name == name)


def test_an_uploaded_photo_is_answered_and_a_click_on_an_answer_asks_with_it(
    page: Page, server: str, library: Library, gallery: Path
) -> None:
    foreign = gallery / "tulips" / "tulip-05.jpg"
    page.goto(server)
    expect(tiles(page)).to_have_count(library.count())

    upload(page, foreign)
    expect_answers(page, library, foreign)
    expect(page.locator("figure b")).to_have_text("tulip-05.jpg")
    assert "upload" in parse_qs(urlsplit(page.url).query)

    nearest = library.search(foreign)[0].photo
    tiles(page).first.click()
    page.wait_for_url(f"{server}/?photo={nearest.id}")
    expect_answers(page, library, nearest.id)
    expect(page.locator("figure b")).to_have_text(nearest.path.name)

    page.reload()
    expect_answers(page, library, nearest.id)

    page.go_back()
    expect(page.locator("figure b")).to_have_text("tulip-05.jpg")
    expect_answers(page, library, foreign)


def test_the_address_says_how_many_answers_and_keeps_it_from_photo_to_photo(
    page: Page, server: str, library: Library
) -> None:
    asked = id_of(library, "shoe-01.jpg")
    page.goto(f"{server}/?photo={asked}&k=3&distances=1")
    expect_answers(page, library, asked, k=3)

    tiles(page).nth(1).click()
    second = library.search(asked, 3)[1].photo.id
    page.wait_for_url(f"{server}/?photo={second}&k=3&distances=1")
    expect_answers(page, library, second, k=3)

    page.get_by_role("radio", name="10", exact=True).click()
    page.wait_for_url(f"{server}/?photo={second}&k=10&distances=1")
    expect_answers(page, library, second, k=10)

    page.go_back()
    expect_answers(page, library, second, k=3)


def test_a_keyboard_is_enough_to_ask_with_an_answer(
    page: Page, server: str, library: Library
) -> None:
    asked = id_of(library, "banana-01.jpg")
    page.goto(f"{server}/?photo={asked}")
    expect_answers(page, library, asked)
    first, second = (hit.photo.id for hit in library.search(asked, 2))
    tiles(page).first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server}/?photo={second}")
    expect_answers(page, library, second)
    assert first != second


def test_the_start_page_leads_to_answers_and_back(
    page: Page, server: str, library: Library
) -> None:
    page.goto(server)
    shown = library.photos()
    expect(page.locator("ol .name")).to_have_text([photo.path.name for photo in shown])
    tiles(page).nth(2).click()
    page.wait_for_url(f"{server}/?photo={shown[2].id}")
    expect_answers(page, library, shown[2].id)
    page.get_by_role("button", name="All photos").click()
    page.wait_for_url(f"{server}/")
    expect(tiles(page)).to_have_count(len(shown))


def test_a_hostile_file_name_is_only_text(
    page: Page, server: str, library: Library, tmp_path: Path
) -> None:
    asked = id_of(library, HOSTILE)
    page.goto(f"{server}/?photo={asked}")
    expect_answers(page, library, asked)
    expect(page.locator("figure b")).to_have_text(HOSTILE)

    other = id_of(library, "cat-01.png")
    page.goto(f"{server}/?photo={other}")
    expect_answers(page, library, other)
    expect(tiles(page).filter(has_text=HOSTILE)).to_have_count(1)

    for name in (HOSTILE, "![x](https:example.com) *a* $b$ :red[c] é.jpg"):
        hostile_upload = tmp_path / name
        hostile_upload.write_bytes(b"no photo")
        upload(page, hostile_upload)
        expect(page.get_by_role("alert")).to_have_text(f"{name} can't be used: not an image.")
    assert page.locator("img[src=x], img[alt=x]").count() == 0


def test_turned_photos_are_shown_upright(page: Page, server: str, library: Library) -> None:
    page.goto(server)
    for name in ("canyon-6.jpg", "canyon-8.jpg", "cat-01.png", "mountain-01.webp"):
        picture = tiles(page).filter(has_text=name).locator("img")
        picture.scroll_into_view_if_needed()
        picture.evaluate("picture => picture.decode()")
        width, height = picture.evaluate("picture => [picture.naturalWidth, picture.naturalHeight]")
        photo = library.photo(id_of(library, name))
        assert width / height == pytest.approx(photo.width / photo.height, rel=0.02)
        assert max(width, height) == 320


def test_each_picture_has_words_for_those_who_do_not_see_it(
    page: Page, server: str, library: Library
) -> None:
    asked = id_of(library, "cat-01.png")
    page.goto(f"{server}/?photo={asked}")
    expect_answers(page, library, asked)
    expect(page.locator("figure img")).to_have_attribute("alt", "The photo asked with: cat-01.png")
    for index, hit in enumerate(library.search(asked)):
        first = library.labels(hit.photo.id)[0]
        alt = f"Perhaps {first.label}" if first.probability >= 0.05 else "Photo"
        expect(tiles(page).nth(index).locator("img")).to_have_attribute("alt", alt)


def test_an_unreadable_upload_costs_one_sentence(page: Page, server: str, gallery: Path) -> None:
    page.goto(server)
    upload(page, gallery / "SOURCES.md")
    expect(page.get_by_role("alert")).to_have_text("SOURCES.md can't be used: not an image.")
    upload(page, gallery / "shoes" / "shoe-03.jpg")
    expect(page.locator("figure b")).to_have_text("shoe-03.jpg")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_photo_whose_file_is_gone_is_shown_with_a_note(
    page: Page, server: str, library: Library
) -> None:
    photo = library.photo(id_of(library, "banana-02.jpg"))
    away = photo.path.with_suffix(".away")
    photo.path.rename(away)
    try:
        page.goto(server)
        expect(tiles(page).filter(has_text="banana-02.jpg")).to_contain_text("File not found")
        tiles(page).filter(has_text="banana-02.jpg").click()
        expect(page.locator("figure")).to_contain_text("Its file is not where it was.")
        expect_answers(page, library, photo.id)
    finally:
        away.rename(photo.path)


def test_an_address_of_no_photo_says_so(page: Page, server: str) -> None:
    for number in ("999999", "9" * 30):
        page.goto(f"{server}/?photo={number}")
        expect(page.get_by_role("alert")).to_contain_text("not in the library")
        expect(page.locator("input[type=file]")).to_have_count(1)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("1", 1), ("12", 12), (str(2**63 - 1), 2**63 - 1), (str(2**63), None), ("9" * 99, None)),
        *(("0", None), ("-1", None), ("", None), ("1.5", None), ("abc", None), ("\u0661", None)),
    ],
)
def test_only_a_number_can_name_a_photo(text: str, number: int | None) -> None:
    assert parse_photo_id(text) == number


def test_an_empty_library_says_what_to_do_and_shows_photos_as_they_come(
    page: Page, gallery: Path, tmp_path: Path
) -> None:
    with open_library(tmp_path / "new") as new, serving(new.path) as address:
        page.goto(address)
        expect(page.get_by_text("No photos here yet")).to_be_visible()
        expect(page.get_by_text(f"fc7 index ~/Pictures --library {new.path}")).to_be_visible()
        new.index([gallery / "cats"])
        expect(tiles(page)).to_have_count(new.count())
        page.goto("about:blank")  # a page whose server stops would complain


@pytest.mark.parametrize(
    "path",
    [
        *("/thumb/abc", "/thumb/abc.jpg", "/thumb/0.jpg", "/thumb/-1.jpg", "/thumb/999999.jpg"),
        *(f"/thumb/{9 * 10**20}.jpg", "/thumb/%D9%A1.jpg", "/thumb/1.png", "/thumb/", "/thumb/1"),
        *("/thumb/..%2f..%2fcatalog.sqlite", "/thumb/1.jpg/../../etc/passwd", "/upload/x.jpg"),
    ],
)
def test_nothing_but_thumbnails_is_served(server: str, path: str) -> None:
    assert fetch(server, path)[0] in (400, 404)


def test_a_thumbnail_is_kept_by_the_browser_and_by_no_other_site(
    server: str, library: Library
) -> None:
    photo = library.photos()[0]
    status, headers, body = fetch(server, f"/thumb/{photo.id}.jpg")
    assert (status, body) == (200, library.thumbnail(photo.id))
    assert headers["cache-control"] == "private, max-age=31536000, immutable"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/thumb/1.jpg", "/_stcore/health"])
def test_a_foreign_host_name_is_refused(server: str, path: str) -> None:
    assert fetch(server, path, host="photos.example.com")[0] == 400


def fetch(server: str, path: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    """Ask as no browser would: the path goes out as it is."""
    place = urlsplit(server)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()


def test_the_server_listens_on_this_machine_only(server: str) -> None:
    # 127.0.0.2 is this machine too, but only a server of all addresses answers there.
    with (
        pytest.raises(OSError),
        socket.create_connection(("127.0.0.2", urlsplit(server).port), timeout=5),
    ):
        pass


def test_a_port_that_cannot_be_had_is_told_in_one_line(server: str, library: Library) -> None:
    for port in (urlsplit(server).port or 0, 99_999):
        out, _ = (process := start_ui(library.path, port)).communicate(timeout=PATIENCE / 1000)
        assert process.returncode == 1
        assert out == f"fc7 ui: port {port} is taken or not allowed: name another with --port\n"


def test_connections_that_ask_nothing_do_not_keep_the_server_from_stopping(
    library: Library,
) -> None:
    stopped = Event()
    held: list[socket.socket] = []

    def connect(port: int) -> None:
        """As browsers do, for what may be asked next; also in the moment of Ctrl-C."""
        while not stopped.is_set():
            with suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", port), timeout=1))
            sleep(0.001)

    try:
        with serving(library.path) as address:
            Thread(target=connect, args=[urlsplit(address).port]).start()
            while len(held) < 20:
                sleep(0.01)
    finally:
        stopped.set()
        for connection in held:
            connection.close()


def test_only_the_latest_uploads_are_kept(gallery: Path) -> None:
    photos = sorted((gallery / "shoes").iterdir())[:3]
    uploads = Uploads(room=sum(photo.stat().st_size for photo in photos[1:]))
    first, second, third = (uploads.add(photo.name, photo.read_bytes()) for photo in photos)
    assert uploads.find(first.token) is None
    assert uploads.find(second.token) == second
    assert uploads.find(third.token) == third
    small = Uploads(room=1)
    assert small.find(small.add(photos[0].name, photos[0].read_bytes()).token) == first
    with pytest.raises(ImageError):
        uploads.add("words.jpg", b"words")
