"""Network: what looks at the photos, what it sees in one, and how it was trained.

`photo=12` shows what it sees in a photo of the library, `upload=...` in one that was dropped here;
`run=NAME` shows the curves of a training run, by its name in the list.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from indexer import Library
from retrieval.errors import Fc7Error, ImageError, LibraryError
from retrieval.labels import Prediction
from ui.browser import UPLOAD_MEGABYTES, UPLOADS, parse_photo_id
from ui.pages.network_facts import describe, kernels_drawn, weights_here
from ui.pages.network_runs import show_runs
from ui.parts import (
    STATIC,
    changed,
    plain_name,
    quoted,
    say,
    show_photos,
    thumbnail_address,
    tile,
)

OFFERED = 12  # photos to choose from


def show(library: Library) -> None:
    """Draw the page; what can't be drawn says why, and the rest is there all the same."""
    st.html(STATIC / "network.css")
    model = library.model()
    network, weights = model or ("alexnet", "bundled")
    st.title(say("network.title"), anchor=False)
    with st.container(key="about"):
        st.write(say("network.about"))
        used = "network.used" if model else "network.would be used"
        st.caption(say(used, network=quoted(network), weights=quoted(weights)))
    show_seen(library)
    show_kernels(network, weights)
    show_weights(network, weights)
    show_runs(weights)


# --- what it sees in a photo


def show_seen(library: Library) -> None:
    """The five likeliest classes of a photo, and ways to choose another."""
    st.header(say("network.seen"), anchor=False)
    place = st.container()
    ask_for_photo(library)
    with place:
        try:
            found = _chosen(library)
        except Fc7Error as error:
            st.error(quoted(str(error)))
            return
        if found is None:
            st.write(say("network.choose"))
        else:
            draw_bars(*found)


def _chosen(library: Library) -> tuple[str, str, list[Prediction]] | None:
    """The photo that the address names, or else the newest: its picture, name and classes."""
    address = st.query_params
    if "upload" in address:
        upload = UPLOADS.find(address["upload"])
        if upload is not None:
            with st.spinner(say("search.looking")):
                seen = _recognised(library, upload.content)
            return f"/upload/{upload.token}.jpg", upload.name, seen
        st.warning(say("search.forgotten"))
    elif "photo" in address:
        try:
            photo = library.photo(parse_photo_id(address["photo"]) or 0)
            return thumbnail_address(photo), photo.path.name, _stored(library, photo.id)
        except LibraryError:
            st.warning(say("search.gone"))
    for photo in library.photos(limit=1):
        return thumbnail_address(photo), photo.path.name, _stored(library, photo.id)
    return None


def _stored(library: Library, photo: int) -> list[Prediction]:
    """What was stored when the photo was indexed, or else what is seen in its file now."""
    return library.labels(photo) or list(library.answer(library.photo(photo).path, 1).labels)


def _recognised(library: Library, content: bytes) -> list[Prediction]:
    return list(library.answer(content, 1).labels) if library.count() else describe(content)


def ask_for_photo(library: Library) -> None:
    """Let the person drop or choose a photo, or take one of the library."""
    # Each upload gets a new key: what was uploaded lives in the address, the widget stays empty.
    turn = st.session_state.setdefault("network-turn", 0)
    key = f"network-upload-{turn}"

    def ask() -> None:
        photo = st.session_state[key]
        if photo is None:
            return
        st.session_state["network-turn"] += 1
        try:
            upload = UPLOADS.add(photo.name, photo.getvalue())
        except ImageError as error:
            said = say("search.unusable", name=photo.name, reason=error.reason)
            st.session_state["trouble"] = said
        else:
            changed(upload=upload.token, photo="")

    with st.container(key="another"):
        st.file_uploader(
            say("network.drop"), key=key, on_change=ask, max_upload_size=UPLOAD_MEGABYTES
        )
        if trouble := st.session_state.pop("trouble", None):
            st.warning(quoted(trouble))
    photos = library.photos(limit=OFFERED)
    if photos:
        with st.expander(say("network.pick")):
            labels = library.labels_of([photo.id for photo in photos])
            show_photos(
                [tile(library, one, labels[one.id], href=f"?photo={one.id}") for one in photos],
                say("network.pick"),
                on_open=lambda photo: changed(photo=str(photo), upload=""),
            )


def draw_bars(picture: str, name: str, seen: list[Prediction]) -> None:
    """Draw a photo beside bars, as long as its classes are likely."""
    rows = "".join(
        f'<li><span style="width:{100 * one.probability:.2f}%"></span>'
        f"<b>{escape(plain_name(one.label))}</b><em>{one.probability:.1%}</em></li>"
        for one in seen
    )
    alt = escape(say("network.asked", name=plain_name(name)))
    st.html(
        f'<figure class="seen"><img src="{picture}" alt="{alt}">'
        f"<figcaption><p>{escape(plain_name(name))}</p><ol>{rows}</ol></figcaption></figure>"
    )
    st.caption(say("network.bars"))


# --- its kernels, and which weights there are


def show_kernels(network: str, weights: str) -> None:
    """Draw the first layer of the network in use."""
    st.header(say("network.kernels"), anchor=False)
    try:
        with st.spinner(say("network.reading")):
            image, count, size = kernels_drawn(network, weights)
    except Fc7Error as error:
        st.error(quoted(str(error)))
        return
    with st.container(key="kernels"):
        st.write(say("network.kernels.about", n=count, size=size))
        alt = escape(say("network.kernels.alt", n=count, network=network))
        st.html(f'<img class="figure" src="{image}" alt="{alt}">')


def show_weights(network: str, weights: str) -> None:
    """List the weights, each a line that opens; the library's is marked."""
    st.header(say("network.weights"), anchor=False)
    with st.spinner(say("network.reading")):
        table, own, trouble = weights_here(network, weights)
    if trouble:
        st.error(quoted(trouble))
    rows = []
    for info in table:
        mark = f"<mark>{escape(say('network.mine'))}</mark>" if info == own else ""
        top = " / ".join("–" if one is None else f"{one:.1f} %" for one in (info.top1, info.top5))
        facts = {
            "source": info.source,
            "licence": info.licence,
            "sha256": info.sha256 + "…" * (len(info.sha256) < 64),
            "file": str(info.path) if info.path else say("network.weights.away"),
        }
        more = "".join(
            f"<dt>{escape(say(f'network.weights.{name}'))}</dt><dd>{escape(plain_name(fact))}</dd>"
            for name, fact in facts.items()
        )
        rows.append(
            f"<details><summary><b>{escape(info.network)}</b>"
            f"<span>{escape(plain_name(info.name))} {mark}</span>"
            f"<span>{top}</span><span>{info.bytes / 1e6:,.0f} MB</span></summary>"
            f"<dl>{more}</dl></details>"
        )
    with st.container(key="weights"):
        st.caption(say("network.weights.about"))
        st.html(f'<div class="weights">{"".join(rows)}</div>')
