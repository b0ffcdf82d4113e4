"""The page: a photo, and the photos that look like it.

Streamlit runs this file anew for each visit and each click. All that matters is in the address:
`?photo=12` asks with a photo of the library, `?upload=...` with one that was dropped here, `k` is
how many answers, and neither is the start page with `page` of the library.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from indexer import Library
from indexer.catalog import Photo
from retrieval.errors import Fc7Error, ImageError, LibraryError
from retrieval.labels import Prediction
from ui.browser import UPLOAD_MEGABYTES, UPLOADS, parse_photo_id, served_library

ANSWERS = (10, 20, 50, 100, 200)
MOST_ANSWERS = 500  # what an address may ask for
PHOTOS_A_PAGE = 60
LIKELY = 0.05  # a class with less is not worth a word
STATIC = Path(__file__).with_name("static")


def _component(name: str, html: str) -> Any:
    css = (STATIC / f"{name}.css").read_text(encoding="utf-8")
    js = (STATIC / f"{name}.js").read_text(encoding="utf-8")
    return st.components.v2.component(f"fc7.{name}", html=html, css=css, js=js)


draw_photos = _component("photos", "<ol></ol>")
draw_subject = _component(
    "subject", "<figure><img><figcaption><b></b><span></span><em></em></figcaption></figure>"
)
draw_labels = _component("labels", "<h3>Looks like</h3><ul></ul>")


def main() -> None:
    """Show what the address asks for."""
    st.set_page_config("Similar photos", str(STATIC / "icon.svg"), layout="wide")
    st.html(STATIC / "page.css")
    try:
        show(served_library(), st.query_params.to_dict())
    except Fc7Error as error:
        st.error(_plain(str(error)))


def show(library: Library, address: dict[str, str]) -> None:
    """Choose between the states of the page."""
    if library.count() == 0:
        show_empty(library)
    elif "upload" in address:
        show_upload(library, address["upload"])
    elif "photo" in address:
        show_photo(library, address["photo"])
    else:
        show_start(library)


# --- the three states of the page ----------------------------------------------------------------


@st.fragment(run_every=3)
def show_empty(library: Library) -> None:
    """Say how photos come in, and look every 3 seconds whether they did."""
    if library.count() > 0:
        st.rerun()
    with st.container(key="empty"):
        st.title("No photos here yet", anchor=False)
        st.write("Index a folder in a terminal, and its photos appear on this page:")
        st.code(f"fc7 index ~/Pictures --library {shlex.quote(str(library.path))}", language="sh")


def show_start(library: Library, trouble: str | None = None) -> None:
    """Offer an upload and the library's photos, newest first.

    trouble: a sentence on why there are no answers.
    """
    count = library.count()
    st.title("Find photos that look alike", anchor=False)
    if trouble:
        st.warning(trouble)
    with st.container(key="start"):
        ask_for_upload("Drop a photo here, or choose one")
    st.header(f"Or start from one of your {count:,} photos", anchor=False)
    place = st.container()
    page = ask_which_page(pages=-(-count // PHOTOS_A_PAGE))
    with place:
        photos = library.photos(offset=(page - 1) * PHOTOS_A_PAGE, limit=PHOTOS_A_PAGE)
        show_photos([_tile(library, photo) for photo in photos], "Photos, newest first")


def show_photo(library: Library, number: str) -> None:
    """Answer with a photo of the library, or say that it is not there."""
    try:
        photo = library.photo(parse_photo_id(number) or 0)
    except LibraryError:
        show_start(library, "That photo is not in the library any more. Pick another one.")
        return
    subject = {
        "image": _thumbnail_address(photo),
        "name": _name(photo.path.name),
        "date": _date(photo),
        "note": "" if photo.path.exists() else "Its file is not where it was.",
    }
    show_answers(library, photo.id, subject)


def show_upload(library: Library, token: str) -> None:
    """Answer with an uploaded photo, or say that it is gone."""
    upload = UPLOADS.find(token)
    if upload is None:
        show_start(library, "That upload is forgotten by now. Drop the photo once more.")
        return
    subject = {
        "image": f"/upload/{upload.token}.jpg",
        "name": _name(upload.name),
        "date": "",
        "note": "",
    }
    show_answers(library, upload.content, subject)


def show_answers(library: Library, asked: bytes | int, subject: dict[str, str]) -> None:
    """Show the photo that is asked with beside the photos nearest to it.

    subject: its `image` (an address), `name`, `date` and `note`.
    """
    with st.container(key="answers"):
        side, main = st.columns([1, 4], gap="large")
    with side:
        st.button("← All photos", type="tertiary", on_click=_go)
        draw_subject(key="subject", data=subject)  # at once; the answers may take a moment
        labels_place = st.container()
        k = ask_how_many()
        ask_for_upload("Ask with another photo")
    with main:
        st.header("Photos that look like this one", anchor=False)
        try:
            with st.spinner("Looking…"):
                answer = library.answer(asked, k)
        except Fc7Error as error:
            st.error(_plain(str(error)))
            return
        st.caption("Most alike first. The smaller the distance, the more alike.")
        tiles = [_tile(library, hit.photo, hit.distance) for hit in answer.hits]
        show_photos(tiles, "Photos that look like this one, most alike first")
    with labels_place:
        draw_labels(key="labels", data={"labels": _shares(answer.labels)})


# --- parts ---------------------------------------------------------------------------------------


def ask_for_upload(label: str) -> None:
    """Let the person drop or choose a photo; asks with it as soon as it is there."""
    # Each upload gets a new key: what was uploaded lives in the address, the widget stays empty.
    turn = st.session_state.setdefault("turn", 0)
    key = f"upload-{turn}"

    def ask() -> None:
        photo = st.session_state[key]
        if photo is None:
            return
        st.session_state["turn"] = turn + 1
        try:
            upload = UPLOADS.add(photo.name, photo.getvalue())
        except ImageError as error:
            st.session_state["trouble"] = f"{photo.name} can't be used: {error.reason}."
        else:
            _go(upload=upload.token, **_kept())

    st.file_uploader(label, key=key, on_change=ask, max_upload_size=UPLOAD_MEGABYTES)
    if trouble := st.session_state.pop("trouble", None):
        st.warning(_plain(trouble))


def ask_how_many() -> int:
    """Let the person say how many answers there should be; returns what the address says."""
    k = _number("k", default=20, most=MOST_ANSWERS)
    # The address decides, so that going back in the browser moves the mark too.
    st.session_state["k"] = k

    def ask() -> None:
        _go(**{**st.query_params.to_dict(), "k": str(st.session_state["k"])})

    st.segmented_control("Answers", sorted({*ANSWERS, k}), required=True, key="k", on_change=ask)
    return k


def ask_which_page(pages: int) -> int:
    """Let the person turn the pages of the library, from 1; returns what the address says."""
    page = _number("page", default=1, most=pages)
    key = f"page-{page}"  # a key a page, so that going back in the browser moves the mark too

    def ask() -> None:
        _go(page=str(st.session_state[key]))

    if pages > 1:
        st.pagination(pages, default=page, key=key, on_change=ask)
    return page


def show_photos(tiles: Sequence[dict[str, Any]], label: str) -> None:
    """Draw tiles in rows; a click on one asks with it.

    label: what a screen reader calls the list.
    """

    def ask() -> None:
        _go(photo=str(st.session_state["photos"].opened), **_kept())

    draw_photos(key="photos", data={"photos": list(tiles), "label": label}, on_opened_change=ask)


# --- the address ---------------------------------------------------------------------------------


def _go(**address: str) -> None:
    """Change the address; the page follows."""
    st.query_params.from_dict(address)


def _kept() -> dict[str, str]:
    """Give the part of the address that stays when another photo is asked with."""
    return {"k": st.query_params["k"]} if "k" in st.query_params else {}


def _number(name: str, default: int, most: int) -> int:
    """Read a number from 1 to `most` from the address."""
    text = st.query_params.get(name, "")
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    return min(number, most) or default


# --- a photo as it is drawn ----------------------------------------------------------------------


def _tile(library: Library, photo: Photo, distance: float | None = None) -> dict[str, Any]:
    return {
        "id": photo.id,
        "href": "?" + urlencode({"photo": photo.id, **_kept()}),
        "image": _thumbnail_address(photo),
        "alt": _guess(library.labels(photo.id)),
        "name": _name(photo.path.name),
        "date": _date(photo),
        "distance": "" if distance is None else f"distance {distance:.2f}",
        # Panoramas and banners are cut to a shape that leaves room for others.
        "ratio": round(min(max(photo.width / photo.height, 0.6), 2.4), 3),
        "missing": not photo.path.exists(),
    }


def _thumbnail_address(photo: Photo) -> str:
    return f"/thumb/{photo.id}.jpg?v={photo.content_hash[:12]}"


def _name(name: str) -> str:
    """Make a file name that can be sent: on Linux it need not be valid Unicode."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _plain(text: str) -> str:
    """Quote a text with names in it, so that nothing in a name acts as Markdown."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", _name(text))


def _date(photo: Photo) -> str:
    if photo.taken_at is None:
        return ""
    taken = datetime.fromisoformat(photo.taken_at)
    return f"{taken.day} {taken:%b %Y}"


def _guess(labels: Sequence[Prediction]) -> str:
    """Say what a photo shows, as far as that is known, to those who do not see it."""
    likely = bool(labels) and labels[0].probability >= LIKELY
    return f"Perhaps {labels[0].label}" if likely else "Photo"


def _shares(labels: Sequence[Prediction]) -> list[dict[str, Any]]:
    return [
        {"label": guess.label, "percent": round(100 * guess.probability)}
        for guess in labels
        if guess.probability >= LIKELY
    ]


if __name__ == "__main__":
    main()
