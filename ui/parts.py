"""What several pages of the browser have in common: the address, photos as they are drawn."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode

import streamlit as st

from indexer import Album, Facets, Library
from indexer.catalog import Photo
from retrieval.errors import Fc7Error
from retrieval.labels import Prediction
from ui import words
from ui.tasks import Task

LIKELY = 0.05  # a class with less is not worth a word
PHOTOS_A_PAGE = 60
PAGES = "pages"  # in the session: what app.py navigates between, by name
STATIC = Path(__file__).with_name("static")


def component(name: str, html: str) -> Any:
    """A component of ours: static/NAME.js draws what its data says, static/NAME.css dresses it."""
    css = (STATIC / f"{name}.css").read_text(encoding="utf-8")
    js = (STATIC / f"{name}.js").read_text(encoding="utf-8")
    return st.components.v2.component(f"fc7.{name}", html=html, css=css, js=js)


draw_photos = component("photos", "<ol></ol>")
draw_covers = component("covers", "<ol></ol>")


def say(text: str, **values: object) -> str:
    """Say a text of the table in the language of the visitor's browser."""
    return words.say(words.language_of(st.context.locale), text, **values)


# --- the address


def go(**address: str) -> None:
    """Change the address, less what is empty; the page follows."""
    st.query_params.from_dict({name: value for name, value in address.items() if value})


def changed(**address: str) -> None:
    """Change a part of the address; an empty value takes its part out."""
    go(**{**st.query_params.to_dict(), **address})


def number(name: str, default: int, most: int) -> int:
    """Read a number from 1 to `most` from the address."""
    text = st.query_params.get(name, "")
    found = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    return min(found, most) or default


def ask_which_page(pages: int) -> int:
    """Let the person turn pages, from 1; returns what the address says."""
    page = number("page", default=1, most=max(1, pages))
    if pages > 1:
        # The address decides, so that going back in the browser moves the mark too.
        st.session_state["page"] = page
        st.pagination(
            pages, key="page", on_change=lambda: changed(page=str(st.session_state["page"]))
        )
    return page


def address_of(page: str, **address: str) -> str:
    """The address of a page, for a link that may be opened in another tab."""
    given = urlencode({name: value for name, value in address.items() if value})
    return f"/{page}?{given}" if page != "search" else f"/?{given}"


def visit(page: str, **address: str) -> NoReturn:
    """Go to another page, or to another state of this one. Not for callbacks: they use `go`."""
    given = {name: value for name, value in address.items() if value}
    st.switch_page(st.session_state[PAGES][page], query_params=given)


# --- what is there


@st.cache_data(max_entries=4, show_spinner=False)
def facets_of(_library: Library, generation: str) -> Facets:
    """What photos can be narrowed by; read anew when they have changed."""
    return _library.facets()


@st.cache_data(max_entries=4, show_spinner=False)
def albums_of(_library: Library, change: str) -> list[Album]:
    """The albums, the largest first; read anew when anything has changed."""
    return _library.albums.all()


@st.fragment(run_every=3)
def show_empty(library: Library) -> None:
    """Say how photos come in, and look every 3 seconds whether they did."""
    if library.count() > 0:
        st.rerun()
    with st.container(key="empty"):
        st.title(say("empty.title"), anchor=False)
        st.write(say("empty.how"))
        st.code(f"fc7 index ~/Pictures --library {shlex.quote(str(library.path))}", language="sh")
        if st.button(say("empty.button"), type="primary"):
            visit("library")


# --- what takes long


@st.fragment(run_every=1)
def show_task(task: Task[Any], words_of: Callable[[str, int, int], tuple[float, str]]) -> None:
    """A bar of how far a task is; the whole page is drawn anew when it has ended.

    words_of: (what is done now, how much of it, of how much) -> (share of the bar, words).
    """
    if task.ended():
        st.rerun()
    share, text = words_of(task.stage, task.done, task.total)
    st.progress(min(share, 1.0), text)


# --- photos


def tile(
    library: Library, photo: Photo, labels: Sequence[Prediction], **more: Any
) -> dict[str, Any]:
    """What `photos.js` draws of a photo. more: what else it shall draw."""
    return {
        "id": photo.id,
        "image": thumbnail_address(photo),
        "original": f"/original/{photo.id}",
        "path": plain_name(str(photo.path)),
        "alt": guess(labels),
        "name": plain_name(photo.path.name),
        "date": day(photo),
        # Panoramas and banners are cut to a shape that leaves room for others.
        "ratio": round(min(max(photo.width / photo.height, 0.6), 2.4), 3),
        "missing": not photo.path.exists(),
        **more,
    }


def thumbnail_address(photo: Photo) -> str:
    return f"/thumb/{photo.id}.jpg?v={photo.content_hash[:12]}"


def plain_name(name: str) -> str:
    """Make a file name that can be sent: on Linux it need not be valid Unicode."""
    return name.encode("utf-8", "replace").decode("utf-8")


def quoted(text: str) -> str:
    """Quote a text with names in it, so that nothing in a name acts as Markdown."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", plain_name(text))


def day(photo: Photo) -> str:
    """When a photo was taken, as 17 May 2023 or 2023-05-17; empty where it isn't known."""
    if photo.taken_at is None:
        return ""
    if words.language_of(st.context.locale) == "zh":
        return photo.taken_at[:10]
    taken = datetime.fromisoformat(photo.taken_at)
    return f"{taken.day} {taken:%b %Y}"


def guess(labels: Sequence[Prediction]) -> str:
    """Say what a photo shows, as far as that is known, to those who do not see it."""
    likely = bool(labels) and labels[0].probability >= LIKELY
    return say("perhaps", label=labels[0].label) if likely else say("photo")


def picture_words() -> dict[str, str]:
    """The words on tiles."""
    names = ("missing", "open", "copy path", "copied", "select", "search.more", "search.less")
    return {name.removeprefix("search.").replace(" ", "_"): say(name) for name in names}


def show_photos(
    tiles: Sequence[dict[str, Any]],
    label: str,
    *,
    on_open: Callable[[int], None] | None = None,
    on_example: Callable[[str, int], None] | None = None,
    act: Callable[[Sequence[int]], None] | None = None,
) -> None:
    """Draw tiles in rows.

    label: what a screen reader calls the list.
    on_open: called with the photo that was clicked on; without it the search page asks with it.
    on_example: called with "like" or "unlike" and the photo; without it they are not offered.
    act: called with the selected photos, if there are some, to offer what can be done with them.
    """
    key = f"photos-{st.session_state.setdefault('cleared', 0)}"
    place = st.container()

    def tell(what: str, say_it: Callable[[int], None] | None) -> Callable[[], None]:
        return lambda: say_it(st.session_state[key][what]) if say_it else None

    tools = ["like"] * bool(on_example) + ["path"] + ["select"] * bool(act)
    example = on_example or (lambda name, photo: None)
    state = draw_photos(
        key=key,
        data={
            "photos": list(tiles),
            "label": label,
            "tools": tools,
            # Streamlit would write an address of neither page into the history on the way.
            "follow": on_open is None,
            "words": picture_words(),
            "selected": [],
            "page": st.query_params.get("page", ""),  # another one begins at its top
        },
        on_opened_change=tell("opened", on_open),
        on_liked_change=tell("liked", lambda photo: example("like", photo)),
        on_unliked_change=tell("unliked", lambda photo: example("unlike", photo)),
        on_selected_change=lambda: None,
    )
    shown = {one["id"] for one in tiles}
    selected = [photo for photo in state.selected or () if photo in shown]
    if selected and act:
        with place, st.container(key="selection", horizontal=True, vertical_alignment="center"):
            st.write(say("selected", n=len(selected)))
            act(selected)
            st.button(say("clear"), type="tertiary", on_click=clear_selection)


def clear_selection() -> None:
    """Select no photo any more; the list is drawn anew."""
    st.session_state["cleared"] = st.session_state.get("cleared", 0) + 1


def show_covers(covers: Sequence[dict[str, Any]], label: str) -> str | None:
    """Draw covers in a grid; return the id of the one that was clicked on.

    covers: each with id, href, image (an address; "" for none), title, note and alt.
    label: what a screen reader calls the list.
    """
    return draw_covers(  # type: ignore[no-any-return]
        key="covers",
        data={
            "covers": list(covers),
            "label": label,
            "page": st.query_params.get("page", ""),
        },
        on_opened_change=lambda: None,
    ).opened


def save_as_album(library: Library, photos: Sequence[int]) -> None:
    """Ask for a name, and make an album of these photos."""

    @st.dialog(say("search.save"))
    def ask() -> None:
        with st.form("save", border=False):
            name = st.text_input(say("search.save.name"), max_chars=200)
            if st.form_submit_button(say("search.save"), type="primary") and name.strip():
                with telling():
                    made = library.albums.create(name, photos)
                    done(say("search.saved", name=quoted(made.name)))

    ask()


def done(text: str) -> NoReturn:
    """What was asked for has happened: the page is drawn anew, and says so."""
    st.session_state["done"] = text
    clear_selection()
    st.rerun()


@contextmanager
def telling() -> Iterator[None]:
    """Say what a person can't have, in place of doing it."""
    try:
        yield
    except Fc7Error as error:
        st.error(quoted(str(error)))
