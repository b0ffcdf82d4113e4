"""Labels: what the photos show, as far as the network can tell.

`label=golden+retriever` shows the photos of a class, `page` which page of them. Without a label
it is the page of all that were recognised, the commonest first.
"""

from __future__ import annotations

import streamlit as st

from indexer import Facets, Library
from retrieval.errors import LibraryError
from ui.parts import (
    PHOTOS_A_PAGE,
    address_of,
    ask_which_page,
    facets_of,
    go,
    plain_name,
    quoted,
    say,
    show_covers,
    show_empty,
    show_photos,
    thumbnail_address,
    tile,
    visit,
)


def show(library: Library) -> None:
    """Choose between the states of the page."""
    if library.count() == 0:
        show_empty(library)
        return
    facets = facets_of(library, library.generation())
    label = st.query_params.get("label", "")
    if label:
        st.button(say("labels.all"), type="tertiary", on_click=go)
        st.title(quoted(label), anchor=False)
    else:
        st.title(say("labels.title"), anchor=False)
    ask_label(facets, label)
    if label in facets.labels:
        show_label(library, label, facets.labels[label])
    elif label:
        known = label in facets.classes
        st.info(say("labels.none" if known else "labels.unknown", label=quoted(label)))
    elif facets.labels:
        show_labels(library, facets)
    else:
        st.info(say("labels.nothing"))


def ask_label(facets: Facets, label: str) -> None:
    """Let the person choose one of all classes by a part of its name; those seen here first."""
    rest = sorted(set(facets.classes) - facets.labels.keys())

    def named(one: str) -> str:
        return f"{one} ({facets.labels[one]:,})" if one in facets.labels else one

    # The address decides, so that going back in the browser changes the choice too.
    options = [*facets.labels, *rest]
    st.session_state["label"] = label if label in options else None
    with st.container(key="find"):
        st.selectbox(
            say("labels.find"),
            options,
            key="label",
            format_func=named,
            filter_mode="contains",
            placeholder=say("labels.type"),
            on_change=lambda: go(label=st.session_state["label"] or ""),
        )


def show_label(library: Library, label: str, count: int) -> None:
    """Draw the photos of a class, the likeliest first; a click on one asks with it."""
    st.caption(say("labels.photos", n=count))
    place = st.container()
    page = ask_which_page(pages=-(-count // PHOTOS_A_PAGE))
    first = (page - 1) * PHOTOS_A_PAGE
    with place:
        found = library.labelled(label, min(PHOTOS_A_PAGE, count - first), offset=first)
        labels = library.labels_of([one.photo.id for one in found])
        tiles = [
            tile(
                library,
                one.photo,
                labels[one.photo.id],
                href=address_of("search", photo=str(one.photo.id)),
                likeness=say("labels.sure", percent=round(100 * one.probability)),
            )
            for one in found
        ]
        show_photos(tiles, say("labels.list", label=plain_name(label)))


def show_labels(library: Library, facets: Facets) -> None:
    """Draw each class that was seen as its likeliest photo and how many photos show it."""
    st.caption(say("labels.seen", n=len(facets.labels)))
    place = st.container()
    page = ask_which_page(pages=-(-len(facets.labels) // PHOTOS_A_PAGE))
    shown = list(facets.labels.items())[(page - 1) * PHOTOS_A_PAGE : page * PHOTOS_A_PAGE]
    with place:
        covers = [
            {
                "id": label,
                "href": address_of("labels", label=label),
                "image": _image(library, facets.best[label]),
                "title": label,
                "note": say("photos", n=count),
                "alt": "",  # the title beside it says what it shows
            }
            for label, count in shown
        ]
        if opened := show_covers(covers, say("labels.covers")):
            visit("labels", label=opened)


def _image(library: Library, photo: int) -> str:
    try:
        return thumbnail_address(library.photo(photo))
    except LibraryError:  # it went since the labels were counted
        return ""
