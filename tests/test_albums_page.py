"""The albums page: what a person does with albums, in a real Chromium; another process looks on."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from indexer import Album, Grouping, Library, Photo, open_library
from ui.zipping import LEFT_OUT, zip_photos

GROUPS = ("bananas", "mountains", "shoes", "tulips")
HOSTILE = "<b>*we*</b> [x](y) $a$"


@pytest.fixture(scope="module")
def library(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("photos")
    for group in GROUPS:
        shutil.copytree(gallery / group, folder / group)
    with open_library(tmp_path_factory.mktemp("library")) as opened:
        opened.index([folder])
        yield opened


def made(library: Library, name: str, group: str, count: int = 4) -> Album:
    """An album of the first photos of a folder."""
    own = sorted(p.path for p in library.photos(limit=1000) if p.path.parent.name == group)
    return library.albums.create(name, [library.photo_at(path).id for path in own[:count]])


def names(photos: list[Photo]) -> list[str]:
    return [photo.path.name for photo in photos]


def expect_said(page: Page, text: str) -> None:
    expect(page.get_by_test_id("stToast").filter(has_text=text)).to_be_visible()


def test_photos_are_grouped_after_a_look_at_what_would_come(
    page: Page, server: str, library: Library
) -> None:
    coming = library.albums.group(Grouping(), preview=True)
    page.goto(f"{server}/albums")
    page.get_by_role("button", name="Group my photos").click()
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("heading", name=f"{len(coming.changes)} new albums")).to_be_visible()
    expect(page.locator(".st-key-proposal li")).to_have_text(
        [f"{one.album} · {one.after} photos" for one in coming.changes]
    )
    out = f"{coming.left_out} of {coming.photos} photos would be in no album."
    expect(page.get_by_text(out)).to_be_visible()
    assert library.albums.all() == []

    page.get_by_role("button", name="Keep these albums").click()
    page.wait_for_url(f"{server}/albums")
    expect(page.locator("ol .title")).to_have_text([one.album for one in coming.changes])
    albums = library.albums.all()
    expect(page.locator("ol .title")).to_have_text([album.name for album in albums])
    expect(page.locator("ol .note")).to_have_text([f"{album.photos} photos" for album in albums])

    # Other numbers are only looked at.
    page.get_by_role("button", name="Group anew").click()
    page.get_by_text("A number of mine").click()
    page.get_by_label("Albums", exact=True).fill("2")
    page.get_by_label("Albums", exact=True).press("Enter")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator(".st-key-proposal")).to_contain_text("0 of 38 photos would be in no album")
    page.get_by_role("button", name="Leave everything as it is").click()
    expect(page.locator("ol .title")).to_have_text([album.name for album in albums])
    assert library.albums.all() == albums


def test_an_album_shows_its_photos_by_time_or_the_most_typical_first(
    page: Page, server: str, library: Library
) -> None:
    album = made(library, "Peaks", "mountains", 8)
    own = library.albums.photos(album.id)
    by_time = sorted(own, key=lambda p: (p.taken_at or "9", str(p.path)))
    page.goto(f"{server}/albums?album={album.id}")
    expect(page.locator("ol .name")).to_have_text(names(by_time))
    page.get_by_role("radio", name="Most typical first").click()
    assert album.cover is not None
    near = [h.photo for h in library.search(album.cover, 100) if h.photo.id in {p.id for p in own}]
    expect(page.locator("ol .name")).to_have_text([library.photo(album.cover).path.name,
                                                   *names(near)])  # fmt: skip
    assert library.albums.photos(album.id, by="closeness", offset=2, limit=3) == near[1:4]
    page.locator("ol a.photo").first.click()
    page.wait_for_url(f"{server}/?photo={album.cover}")


def test_an_album_is_renamed_hidden_shown_again_and_merged(
    page: Page, server: str, library: Library
) -> None:
    album, other = made(library, "Yellow", "bananas"), made(library, "Feet", "shoes")
    page.goto(f"{server}/albums?album={album.id}")
    page.get_by_role("button", name="Rename").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill(HOSTILE)
    dialog.get_by_role("button", name="Rename").click()
    expect_said(page, f"The album is called “{HOSTILE}” now.")
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    assert library.albums.get(album.id).name == HOSTILE

    page.get_by_role("button", name="Hide").click()
    expect_said(page, "is hidden")
    assert library.albums.get(album.id).hidden
    page.get_by_role("button", name="All albums").click()
    page.get_by_text("Show hidden albums (1)").click()
    expect(page.locator(".stMain ol li").filter(has_text=HOSTILE)).to_be_visible()
    page.get_by_text("Show hidden albums (1)").click()
    expect(page.locator(".stMain ol li").filter(has_text=HOSTILE)).to_have_count(0)
    page.goto(f"{server}/albums?album={album.id}")
    page.get_by_role("button", name="Show again").click()
    expect_said(page, "is listed again")
    assert not library.albums.get(album.id).hidden

    together = {*names(library.albums.photos(album.id)), *names(library.albums.photos(other.id))}
    page.get_by_role("button", name="Merge").click()
    field = page.get_by_role("dialog").get_by_role("combobox")
    field.click()
    field.fill("Fee")
    page.get_by_role("option", name="Feet").click()
    page.get_by_role("dialog").get_by_role("button", name="Merge").click()
    page.wait_for_url(f"{server}/albums?album={other.id}")
    expect(page.locator("ol .name")).to_have_count(8)
    assert set(names(library.albums.photos(other.id))) == together
    assert album.id not in {one.id for one in library.albums.all(hidden=True)}


def test_selected_photos_are_moved_and_taken_out(page: Page, server: str, library: Library) -> None:
    album = made(library, "Spring", "tulips", 5)
    first, second, *rest = names(library.albums.photos(album.id))
    page.goto(f"{server}/albums?album={album.id}")
    select(page, first)
    page.get_by_role("button", name="Move to").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What shall the new album be called?").fill("Best of spring")
    dialog.get_by_role("button", name="Move to").click()
    expect_said(page, "1 photo is in “Best of spring” now.")
    expect(page.locator("ol .name")).to_have_text([second, *rest])
    assert names(library.albums.photos(library.albums.get("best of spring").id)) == [first]

    select(page, second)
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.get_by_role("button", name="Take out of the album").click()
    expect_said(page, "1 photo was taken out of the album.")
    expect(page.locator("ol .name")).to_have_text(rest)
    assert names(library.albums.photos(album.id)) == rest


def select(page: Page, name: str) -> None:
    page.locator(".stMain ol li").filter(has_text=name).hover()
    page.get_by_label(f"Select: {name}").check()


def test_an_album_that_another_window_merged_away_costs_a_sentence(
    page: Page, server: str, library: Library
) -> None:
    album, other = made(library, "Short-lived", "tulips"), made(library, "Heir", "tulips", 6)
    page.goto(f"{server}/albums?album={album.id}")
    expect(page.locator("ol .name")).to_have_count(4)
    library.albums.merge(other.id, [album.id])
    page.get_by_role("button", name="Hide").click()
    expect(page.get_by_role("alert")).to_contain_text("That album is not there any more")
    page.locator(".stMain ol li").filter(has_text="Heir").click()
    expect(page.get_by_role("heading", name="Heir")).to_be_visible()


def test_an_album_comes_as_a_zip_file_of_its_photos_alone(
    page: Page, server: str, library: Library
) -> None:
    album = made(library, "To go", "bananas")
    page.goto(f"{server}/albums?album={album.id}")
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download").click()
    assert coming.value.suggested_filename == "To go.zip"
    own = library.albums.photos(album.id)
    with zipfile.ZipFile(coming.value.path()) as archive:
        assert archive.testzip() is None
        found = {one: archive.read(one) for one in archive.namelist()}
    assert found == {photo.path.name: photo.path.read_bytes() for photo in own}
    for nonsense in ("0", "-1", "99999", "abc", "1%2f..%2f1", "%D9%A1"):
        assert page.request.get(f"{server}/album/{nonsense}.zip").status in (400, 404)
    assert page.request.get(f"{server}/album/{album.id}").status == 404


def test_a_zip_file_takes_any_name_and_leaves_out_what_cannot_be_read(
    tmp_path: Path, gallery: Path, library: Library
) -> None:
    photo = library.photos()[0]
    odd = [
        b"a\nb.jpg",
        b"a?b.jpg",
        b"\xff.jpg",
        b"..jpg",
        b"con.jpg",
        LEFT_OUT.encode(),
        b"x" * 250,
    ]
    for folder in (b"one", b"two"):
        (tmp_path / folder.decode()).mkdir()
        for name in odd:
            path = bytes(tmp_path) + b"/" + folder + b"/" + name
            with open(path, "wb") as file:  # noqa: PTH123 (names that are not Unicode)
                file.write(b"\xff\xd8\xff" + folder + name)  # begins as a JPEG does
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    gone, secret, pipe = (tmp_path / name for name in ("gone.jpg", "secret", "pipe"))
    secret.write_text("root:x:0:0")
    os.mkfifo(pipe)
    photos = [with_path(photo, path) for path in [*files, gone, secret, pipe]]
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_photos(photos)))) as archive:
        assert archive.testzip() is None
        inside = archive.namelist()
        assert len({name.casefold() for name in inside}) == len(inside) == len(files) + 1
        assert not [n for n in inside if set(n) & set('\n/\\?*:<>"|') or n.startswith("..")]
        contents = sorted(archive.read(name) for name in inside if name != LEFT_OUT)
        assert contents == sorted(path.read_bytes() for path in files)
        assert "gone.jpg" in archive.read(LEFT_OUT).decode()
        assert "No such file" in archive.read(LEFT_OUT).decode()
        assert "secret': not an image" in archive.read(LEFT_OUT).decode()
        assert "pipe': not a file" in archive.read(LEFT_OUT).decode()
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_zip_file_is_never_held_as_a_whole(tmp_path: Path, library: Library) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(b"\xff\xd8\xff" + bytes(range(256)) * 40_000)  # 10 MB
    pieces = list(zip_photos([with_path(library.photos()[0], large)]))
    assert max(map(len, pieces)) < 1.1 * 2**20
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.read("large.jpg") == large.read_bytes()


def with_path(photo: Photo, path: Path) -> Photo:
    return replace(photo, path=path)
