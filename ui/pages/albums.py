"""Albums: the groups of the library, and what people make of them.

Without more it is a page of covers, `hidden=1` those of hidden albums too, `page` which page.
`album=3` is one album, `by=closeness` its most typical photos first. `group=1` groups anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from indexer import Album, Library
from indexer.albums import Order
from retrieval.errors import LibraryError
from ui.browser import parse_photo_id
from ui.pages.grouping import show_grouping
from ui.parts import (
    PHOTOS_A_PAGE,
    address_of,
    ask_which_page,
    changed,
    day,
    done,
    go,
    plain_name,
    quoted,
    say,
    show_covers,
    show_empty,
    show_photos,
    telling,
    thumbnail_address,
    tile,
    visit,
)

ORDERS: tuple[Order, ...] = ("time", "closeness")


def show(library: Library) -> None:
    """Choose between the states of the page."""
    address = st.query_params
    if library.count() == 0:
        show_empty(library)
    elif "group" in address:
        show_grouping(library)
    elif "album" in address:
        try:
            album = library.albums.get(parse_photo_id(address["album"]) or 0)
        except LibraryError:
            show_all(library, say("albums.gone"))
        else:
            show_one(library, album)
    else:
        show_all(library)


# --- all of them


def show_all(library: Library, trouble: str | None = None) -> None:
    """Draw the albums as covers. trouble: a sentence on why it is not the one asked for."""
    everything = library.albums.all(hidden=True)
    hidden = sum(album.hidden for album in everything)
    with_hidden = "hidden" in st.query_params
    albums = [album for album in everything if with_hidden or not album.hidden]
    with st.container(key="head", horizontal=True, vertical_alignment="center"):
        st.title(say("albums.title"), anchor=False)
        if everything:
            st.button(say("albums.group"), on_click=lambda: go(group="1"))
    if trouble:
        st.warning(trouble)
    if not everything:
        st.write(say("albums.none"))
        st.button(say("albums.group.first"), type="primary", on_click=lambda: go(group="1"))
        return
    with st.container(key="order", horizontal=True, vertical_alignment="center"):
        count = say("albums.count", n=len(albums)) if albums else say("albums.only hidden")
        stale = "" if library.albums.is_current() else " " + say("albums.stale")
        st.caption(count + stale)
        if hidden:
            # The address decides, so that going back in the browser moves the switch too.
            st.session_state["hidden"] = with_hidden
            st.toggle(
                say("albums.hidden", n=hidden),
                key="hidden",
                on_change=lambda: changed(hidden="1" * st.session_state["hidden"], page=""),
            )
    place = st.container()
    page = ask_which_page(pages=-(-len(albums) // PHOTOS_A_PAGE))
    with place:
        shown = albums[(page - 1) * PHOTOS_A_PAGE : page * PHOTOS_A_PAGE]
        covers = [
            {
                "id": str(album.id),
                "href": address_of("albums", album=str(album.id)),
                "image": cover_of(library, album),
                "title": plain_name(album.name),
                "note": say("photos", n=album.photos),
                "alt": "",  # the title beside it says what it shows
                "dim": album.hidden,
            }
            for album in shown
        ]
        if opened := show_covers(covers, say("albums.covers")):
            visit("albums", album=opened)


def cover_of(library: Library, album: Album) -> str:
    """The address of the album's picture; empty if it has none."""
    try:
        return thumbnail_address(library.photo(album.cover or 0))
    except LibraryError:  # it has no photos, or its cover went just now
        return ""


# --- one of them


def show_one(library: Library, album: Album) -> None:
    """Draw an album's photos, and offer what can be done with it and with them."""
    st.button(say("albums.all"), type="tertiary", on_click=go)
    st.title(quoted(album.name), anchor=False)
    show_tools(library, album)
    if album.photos == 0:
        st.info(say("albums.empty"))
        return
    by: Order = "closeness" if st.query_params.get("by") == "closeness" else "time"
    st.session_state["by"] = by  # the address decides
    with st.container(key="order", horizontal=True, vertical_alignment="center"):
        about = [say("photos", n=album.photos)] + [say("albums.is hidden")] * album.hidden
        st.caption(" · ".join(about))
        st.segmented_control(
            say("albums.by"),
            ORDERS,
            format_func=lambda one: say(f"albums.by.{one}"),
            key="by",
            required=True,
            label_visibility="collapsed",
            on_change=lambda: changed(
                by="closeness" * (st.session_state["by"] == "closeness"), page=""
            ),
        )
    place = st.container()
    page = ask_which_page(pages=-(-album.photos // PHOTOS_A_PAGE))
    with place:
        photos = library.albums.photos(
            album.id, by=by, offset=(page - 1) * PHOTOS_A_PAGE, limit=PHOTOS_A_PAGE
        )
        labels = library.labels_of([photo.id for photo in photos])
        tiles = [
            tile(
                library,
                photo,
                labels[photo.id],
                href=address_of("search", photo=str(photo.id)),
                date=day(photo),
            )
            for photo in photos
        ]
        show_photos(
            tiles,
            say("albums.list", name=plain_name(album.name)),
            act=lambda selected: offer(library, album, selected),
        )


def show_tools(library: Library, album: Album) -> None:
    """What can be done with the album as a whole."""
    with st.container(key="tools", horizontal=True):
        if st.button(say("albums.rename")):
            rename(library, album)
        if st.button(say("albums.merge")):
            merge(library, album)
        if st.button(say("albums.unhide" if album.hidden else "albums.hide")):
            with telling():
                library.albums.hide(album.id, hidden=not album.hidden)
                said = "albums.unhid" if album.hidden else "albums.hid"
                done(say(said, name=quoted(album.name)))
        if album.photos:
            st.link_button(
                say("albums.download"),
                f"/album/{album.id}.zip",
                help=say("albums.download.help"),
            )


def offer(library: Library, album: Album, selected: Sequence[int]) -> None:
    """What can be done with the selected photos of the album."""
    if st.button(say("albums.move")):
        move(library, album, selected)
    if st.button(say("albums.remove")):
        with telling():
            library.albums.remove(selected, album.id)
            done(say("albums.removed", n=len(selected)))


# --- a person's word


def rename(library: Library, album: Album) -> None:
    @st.dialog(say("albums.rename"))
    def ask() -> None:
        with st.form("rename", border=False):
            known = album.name if album.named else ""
            name = st.text_input(
                say("albums.rename.name"),
                value=plain_name(known),
                placeholder=plain_name(album.title),
                max_chars=200,
            )
            if st.form_submit_button(say("albums.rename"), type="primary"):
                with telling():
                    renamed = library.albums.rename(album.id, name)
                    done(say("albums.renamed", name=quoted(renamed.name)))

    ask()


def merge(library: Library, album: Album) -> None:
    @st.dialog(say("albums.merge"))
    def ask() -> None:
        with st.form("merge", border=False):
            into = ask_album(say("albums.merge.into"), _others(library, album))
            if st.form_submit_button(say("albums.merge"), type="primary") and into:
                with telling():
                    merged = library.albums.merge(into.id, [album.id])
                    st.session_state["done"] = say("albums.merged", name=quoted(merged.name))
                    visit("albums", album=str(merged.id))

    ask()


def move(library: Library, album: Album, photos: Sequence[int]) -> None:
    @st.dialog(say("albums.move"))
    def ask() -> None:
        with st.form("move", border=False):
            into = ask_album(say("albums.move.to"), _others(library, album))
            name = st.text_input(say("albums.move.name"), max_chars=200)
            if st.form_submit_button(say("albums.move"), type="primary"):
                with telling():
                    if name.strip():
                        into = library.albums.create(name, [])
                    if into is not None:
                        moved = library.albums.move(photos, into.id)
                        said = say("albums.moved", n=len(photos), name=quoted(moved.name))
                        done(said)

    ask()


def ask_album(label: str, albums: Sequence[Album]) -> Album | None:
    """Let the person choose an album by a part of its name; None: none was chosen yet."""
    return st.selectbox(
        label,
        albums,
        index=None,
        format_func=lambda one: f"{plain_name(one.name)} ({one.photos:,})",
        filter_mode="contains",
        placeholder="",
    )


def _others(library: Library, album: Album) -> list[Album]:
    return [other for other in library.albums.all(hidden=True) if other.id != album.id]
