"""Search: a photo, and the photos that look like it.

`photo=12` asks with a photo of the library, `upload=...` with one that was dropped or pasted here;
`like=3,4` and `unlike=5` are more examples and counter-examples, `region` is the part that asks,
`since`, `until`, `folder`, `camera`, `label` and `album` narrow the answers; `k` is how many there
are on a page, `page` which page. Without a photo it is the start page, with the library's photos.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from indexer import Answer, Hit, Library, Photo
from retrieval.errors import Fc7Error, ImageError, LibraryError
from retrieval.images import Region
from retrieval.labels import Prediction
from ui.browser import UPLOAD_MEGABYTES, UPLOADS, parse_photo_id
from ui.pages.filters import FILTERS, ask_filters
from ui.parts import (
    LIKELY,
    PHOTOS_A_PAGE,
    ask_which_page,
    changed,
    component,
    day,
    go,
    number,
    plain_name,
    quoted,
    save_as_album,
    say,
    show_empty,
    show_photos,
    thumbnail_address,
    tile,
)

ANSWERS = (10, 20, 50, 100, 200)
MOST_ANSWERS = 500  # on a page
MOST_PAGES = 500
# What a cosine similarity (1 - distance squared / 2) is called.
SCALE = ((0.95, "same"), (0.8, "very"), (0.65, "alike"), (0.45, "little"), (-1.0, "hardly"))

draw_subject = component(
    "subject",
    "<figure><div><img><i hidden></i></div><figcaption><b></b><span></span><em></em>"
    "<small></small><button type='button' hidden></button></figcaption></figure>",
)
draw_labels = component("labels", "<h3></h3><ul></ul>")
take_paste = component("paste", "<b></b>")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked with, and how it is drawn."""

    asked: bytes | int
    image: str  # an address
    name: str
    date: str = ""
    note: str = ""


def show(library: Library) -> None:
    """Choose between the states of the page."""
    address = st.query_params.to_dict()
    if library.count() == 0:
        show_empty(library)
    elif "upload" in address:
        upload = UPLOADS.find(address["upload"])
        if upload is None:
            show_start(library, say("search.forgotten"))
            return
        picture = f"/upload/{upload.token}.jpg"
        show_answers(library, Subject(upload.content, picture, plain_name(upload.name)))
    elif "photo" in address:
        try:
            photo = library.photo(parse_photo_id(address["photo"]) or 0)
        except LibraryError:
            show_start(library, say("search.gone"))
            return
        note = "" if photo.path.exists() else say("search.moved")
        name = plain_name(photo.path.name)
        show_answers(library, Subject(photo.id, thumbnail_address(photo), name, day(photo), note))
    else:
        show_start(library)


# --- the states of the page ----------------------------------------------------------------------


def show_start(library: Library, trouble: str | None = None) -> None:
    """Offer an upload and the library's photos, newest first.

    trouble: a sentence on why there are no answers.
    """
    count = library.count()
    st.title(say("search.title"), anchor=False)
    if trouble:
        st.warning(trouble)
    with st.container(key="start"):
        ask_for_upload(say("search.drop"))
    st.header(say("search.start", n=count), anchor=False)
    place = st.container()
    page = ask_which_page(pages=-(-count // PHOTOS_A_PAGE))
    with place:
        photos = library.photos(offset=(page - 1) * PHOTOS_A_PAGE, limit=PHOTOS_A_PAGE)
        labels = library.labels_of([photo.id for photo in photos])
        tiles = [_tile(library, photo, labels[photo.id]) for photo in photos]
        show_answered(library, tiles, say("search.newest"))


def show_answers(library: Library, subject: Subject) -> None:
    """Show the photo that is asked with beside the photos nearest to it."""
    like, unlike = _examples("like"), _examples("unlike")
    region = _region()
    with st.container(key="answers"):
        side, main = st.columns([1, 4], gap="large")
    with side:
        st.button(say("search.back"), type="tertiary", on_click=go)
        show_subject(subject, region)
        show_examples(library, like, unlike)
        labels_place = st.container()
        k = ask_how_many()
        ask_for_upload(say("search.another"))
    with main:
        st.header(say("search.many" if like or unlike else "search.answers"), anchor=False)
        filters = ask_filters(library)
        place = st.container()
        page = number("page", default=1, most=MOST_PAGES)
        try:
            with place, st.spinner(say("search.looking")):
                answer = library.answer(
                    subject.asked,
                    k * page + 1,  # one more, to know whether there is another page
                    like=like,
                    unlike=unlike,
                    region=None if like else region,
                    filters=filters,
                )
        except Fc7Error as error:
            st.error(quoted(str(error)))
            return
        with place:
            show_hits(library, answer, answer.hits[k * (page - 1) : k * page])
        ask_which_page(page + (len(answer.hits) > k * page))
    with labels_place:
        shares = [
            {"label": guess.label, "percent": round(100 * guess.probability)}
            for guess in answer.labels
            if guess.probability >= LIKELY
        ]
        draw_labels(key="labels", data={"title": say("search.looks like"), "labels": shares})


def show_subject(subject: Subject, region: Region | None) -> None:
    """Draw the photo that asks; a part of it can be drawn, which asks then."""

    def ask() -> None:
        drawn = st.session_state["subject"].region
        changed(region="" if drawn == "whole" else drawn, like="", page="")

    data = {
        "image": subject.image,
        "alt": say("search.asked", name=subject.name),
        "name": subject.name,
        "date": subject.date,
        "note": subject.note,
        "region": region,
        "hint": say("search.part"),
        "whole": say("search.whole"),
    }
    draw_subject(key="subject", data=data, on_region_change=ask)  # at once; answers may take longer


def show_examples(library: Library, like: Sequence[int], unlike: Sequence[int]) -> None:
    """The other examples, each with a button that leaves it out again."""
    for name, ids in (("like", like), ("unlike", unlike)):
        for id_ in ids:
            try:
                photo = library.photo(id_)
            except LibraryError:
                continue
            with st.container(horizontal=True, vertical_alignment="center", key=f"{name}-{id_}"):
                shown = plain_name(photo.path.name)
                st.html(
                    f'<img class="example" src="{thumbnail_address(photo)}" alt="">'
                    f"<span>{say(f'search.{name}d')}</span>"
                )
                rest = ",".join(str(other) for other in ids if other != id_)
                st.button(
                    "✕",
                    key=f"drop-{name}-{id_}",
                    type="tertiary",
                    help=say("search.drop example", name=quoted(shown)),
                    on_click=changed,
                    kwargs={name: rest, "page": ""},
                )


def show_hits(library: Library, answer: Answer, hits: Sequence[Hit]) -> None:
    """Draw answers, each with how alike it is and which classes it shares with the query."""
    exact = "distances" in st.query_params
    with st.container(key="order", horizontal=True, vertical_alignment="center"):
        st.caption(say("search.order") if hits else say("search.none"))
        st.session_state["distances"] = exact
        st.toggle(
            say("search.distances"),
            key="distances",
            on_change=lambda: changed(distances="1" if st.session_state["distances"] else ""),
        )
    labels = library.labels_of([hit.photo.id for hit in hits])
    asked = {guess.label for guess in answer.labels if guess.probability >= LIKELY}
    tiles = []
    for hit in hits:
        own = labels[hit.photo.id]
        both = [one.label for one in own if one.probability >= LIKELY and one.label in asked]
        tiles.append(
            _tile(
                library,
                hit.photo,
                own,
                likeness=likeness(hit.distance),
                distance=say("distance", distance=hit.distance) if exact else "",
                why=say("alike.why", labels=", ".join(both)) if both else "",
            )
        )
    show_answered(library, tiles, say("search.list"), like=True)


# --- parts ---------------------------------------------------------------------------------------


def ask_for_upload(label: str) -> None:
    """Let the person drop, choose or paste a photo; asks with it as soon as it is there."""
    # Each upload gets a new key: what was uploaded lives in the address, the widget stays empty.
    turn = st.session_state.setdefault("turn", 0)
    key = f"upload-{turn}"

    def ask() -> None:
        photo = st.session_state[key]
        if photo is not None:
            _take(photo.name, photo.getvalue())

    def ask_pasted() -> None:
        pasted = st.session_state["paste"].pasted
        try:
            content = base64.b64decode(pasted["content"], validate=True)
        except (TypeError, KeyError, binascii.Error):
            return
        if len(content) <= UPLOAD_MEGABYTES << 20:
            _take(str(pasted["name"]), content)

    st.file_uploader(label, key=key, on_change=ask, max_upload_size=UPLOAD_MEGABYTES)
    take_paste(key="paste", on_pasted_change=ask_pasted)
    if trouble := st.session_state.pop("trouble", None):
        st.warning(quoted(trouble))


def _take(name: str, content: bytes) -> None:
    st.session_state["turn"] += 1
    try:
        upload = UPLOADS.add(name, content)
    except ImageError as error:
        st.session_state["trouble"] = say("search.unusable", name=name, reason=error.reason)
    else:
        go(upload=upload.token, **_kept())


def ask_how_many() -> int:
    """Let the person say how many answers a page has; returns what the address says."""
    k = number("k", default=20, most=MOST_ANSWERS)
    # The address decides, so that going back in the browser moves the mark too.
    st.session_state["k"] = k
    st.segmented_control(
        say("search.answer count"),
        sorted({*ANSWERS, k}),
        required=True,
        key="k",
        on_change=lambda: changed(k=str(st.session_state["k"]), page=""),
    )
    return k


def show_answered(
    library: Library, tiles: Sequence[dict[str, Any]], label: str, *, like: bool = False
) -> None:
    """Draw tiles; a click on one asks with it. like: each may be an example more."""

    def ask(photo: int) -> None:
        go(photo=str(photo), **_kept())

    def add(name: str, photo: int) -> None:
        ids = [other for other in _examples(name) if other != photo]
        changed(**{name: ",".join(map(str, [*ids, photo])), "region": "", "page": ""})

    def act(selected: Sequence[int]) -> None:
        if st.button(say("search.save")):
            save_as_album(library, selected)

    show_photos(tiles, label, on_open=ask, on_example=add if like else None, act=act)


# --- the address ---------------------------------------------------------------------------------


def _examples(name: str) -> list[int]:
    """Numbers of photos, as 3,14."""
    found = [parse_photo_id(text) for text in st.query_params.get(name, "").split(",")]
    return [id_ for id_ in found if id_ is not None]


def _region() -> Region | None:
    """The part that asks, as shares of the photo's sides: x, y, width, height."""
    try:
        x, y, w, h = map(float, st.query_params.get("region", "").split(","))
    except ValueError:
        return None
    sound = 0 <= x < x + w <= 1.001 and 0 <= y < y + h <= 1.001
    return (x, y, min(w, 1 - x), min(h, 1 - y)) if sound else None


def _kept() -> dict[str, str]:
    """Give the part of the address that stays when another photo is asked with."""
    address = st.query_params.to_dict()
    return {name: address[name] for name in ("k", "distances", *FILTERS) if name in address}


# --- a photo as it is drawn ----------------------------------------------------------------------


def _tile(
    library: Library, photo: Photo, labels: Sequence[Prediction], **more: str
) -> dict[str, Any]:
    href = "?" + urlencode({"photo": photo.id, **_kept()})
    return tile(library, photo, labels, href=href, **more)


def likeness(distance: float) -> str:
    """Say in words how alike two photos are at this Euclidean distance of unit rows."""
    similarity = 1 - distance**2 / 2
    return say("alike." + next(name for least, name in SCALE if similarity >= least))
