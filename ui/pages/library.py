"""Library: its folders, the run that reads them, what was skipped, what it weighs, how it is.

`reason=...` lists the files that were skipped for one reason, `page` which page of them. The run
itself is in ui/pages/running.py; it goes on whatever becomes of this page.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

import streamlit as st

from indexer import Library, Status
from indexer.coding import LEAST
from retrieval.codes import BITS
from ui import runs
from ui.pages.running import ago, is_at_work, show_run
from ui.parts import (
    STATIC,
    ask_which_page,
    changed,
    plain_name,
    quoted,
    say,
    telling,
    visit,
)
from ui.terminal import kind_of

FILES_A_PAGE = 50
LITTLE_ROOM = 1 << 30  # bytes


def show(library: Library) -> None:
    """Draw the page."""
    st.html(STATIC / "library.css")
    status = library.status()
    st.title(say("library.title"), anchor=False)
    about = [say("photos", n=status.photos)]
    if status.last_run:
        about.append(say("library.since", ago=ago(status.last_run)))
    st.caption(" · ".join(about))
    show_run(library)
    wide, narrow = st.columns([2, 1], gap="large")
    with wide:
        show_folders(library, status)
        if status.folders:
            show_skipped(status)
    with narrow:
        if status.folders:
            show_health(status)
        show_model(status)
        show_codes(library, status)
        show_storage(status)


# --- folders


def show_folders(library: Library, status: Status) -> None:
    """List the folders, and take new ones."""
    st.header(say("library.folders"), anchor=False)
    if not status.folders:
        st.write(say("library.folders.none"))
    busy = is_at_work(library)
    for folder, photos in zip(status.folders, status.folder_photos, strict=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            there = folder.is_dir()
            note = say("photos", n=photos) if there else say("library.folder.gone", n=photos)
            st.html(_folder(folder, note, there=there))
            name = quoted(plain_name(folder.name or str(folder)))
            if st.button(
                say("library.remove"),
                key=f"remove-{folder}",
                help=say("library.remove.this", name=name),
                disabled=busy,
            ):
                ask_to_remove(library, folder, photos)
    show_adding(library, status, busy=busy)


def _folder(folder: Path, note: str, *, there: bool) -> str:
    """A folder as HTML: its name, where it lies, how many photos."""
    name, path = (escape(plain_name(text)) for text in (folder.name or "/", str(folder)))
    look = "folder" if there else "folder gone"
    return f'<div class="{look}"><b>{name}</b><code>{path}</code><span>{escape(note)}</span></div>'


def show_adding(library: Library, status: Status, *, busy: bool) -> None:
    """Take the path of a folder, and begin to index it."""
    st.subheader(say("library.add"), anchor=False)
    likely = runs.likely_folders(library.path, status.folders)
    key = f"folder-{st.session_state.setdefault('added', 0)}"  # another one is an empty field
    with st.form("add", border=False):
        text = st.text_input(say("library.add.path"), key=key, placeholder="~/Pictures")
        network = None
        if status.stamp is None:
            network = st.selectbox(
                say("library.add.network"),
                ("alexnet", "vgg16"),
                format_func=lambda one: say(
                    "library.add.quick" if one == "alexnet" else "library.add.thorough"
                ),
            )
        asked = st.form_submit_button(say("library.add.go"), type="primary", disabled=busy)
    if likely and not busy:
        with st.container(key="likely", horizontal=True, vertical_alignment="center"):
            st.caption(say("library.add.likely"))
            for folder in likely:
                st.button(quoted(plain_name(str(folder))), on_click=_fill, args=(key, folder))
    if asked:
        known = [folder for folder in status.folders if folder.is_dir()]
        found, trouble = runs.check_folder(text, library.path, known)
        if found is None:
            st.warning(say(trouble))
            return
        with telling(), st.spinner(say("library.run.begins")):
            runs.index(library.path, [found], network)
            st.session_state["added"] += 1
            st.rerun()


def _fill(key: str, folder: Path) -> None:
    st.session_state[key] = str(folder)


def ask_to_remove(library: Library, folder: Path, photos: int) -> None:
    """Ask once more, then let the folder's photos leave the library."""

    @st.dialog(say("library.remove.title"))
    def ask() -> None:
        st.html(_folder(folder, "", there=True))
        st.write(say("library.remove.what", n=photos))
        with st.container(horizontal=True):
            if st.button(say("library.remove"), key="remove-it", type="primary"):
                with telling(), st.spinner(say("library.run.begins")):
                    runs.forget(library.path, folder)
                    st.rerun()
            if st.button(say("cancel")):
                st.rerun()

    ask()


# --- what was skipped


def show_skipped(status: Status) -> None:
    """Files that gave no picture, by reason, a page at a time."""
    st.header(say("library.skipped"), anchor=False)
    if not status.skipped:
        st.write(say("library.skipped.none"))
        return
    st.caption(say("library.skipped.how"))
    counts = Counter(kind_of(skip) for skip in status.skipped)
    reasons = [reason for reason, _ in counts.most_common()]
    reason = st.query_params.get("reason", "")
    reason = reason if reason in counts else reasons[0]
    st.session_state["reason"] = reason  # the address decides
    st.pills(
        say("library.skipped.why"),
        reasons,
        format_func=lambda one: f"{quoted(one)} ({counts[one]:,})",
        key="reason",
        required=True,
        label_visibility="collapsed",
        on_change=lambda: changed(reason=st.session_state["reason"] or "", page=""),
    )
    files = [skip for skip in status.skipped if kind_of(skip) == reason]
    place = st.container()
    page = ask_which_page(pages=-(-len(files) // FILES_A_PAGE))
    shown = files[(page - 1) * FILES_A_PAGE : page * FILES_A_PAGE]
    rows = [
        f"<li><code>{escape(plain_name(str(one.path)))}</code>"
        + (f" <span>{escape(one.reason)}</span>" if one.reason != reason else "")
        + "</li>"
        for one in shown
    ]
    with place:
        start = (page - 1) * FILES_A_PAGE + 1
        st.html(f'<ol class="skipped" start="{start}">{"".join(rows)}</ol>')


# --- how it is


def show_health(status: Status) -> None:
    """Say what is well and what is not, as far as that can be told at once."""
    st.header(say("library.health"), anchor=False)
    rows = "".join(
        f'<li class="{"good" if good else "bad"}"><b>{"✓" if good else "!"}</b>'
        f"<i>{say('health.good' if good else 'health.bad')}: </i>{escape(text)}</li>"
        for good, text in checks(status)
    )
    st.html(f'<ul class="health">{rows}</ul>')


def checks(status: Status) -> list[tuple[bool, str]]:
    """(is it well, a sentence) of what can be looked at without reading the library."""
    gone = sum(not folder.is_dir() for folder in status.folders)
    lost = len(status.lost_segments)
    found = [
        (not gone, say("health.folders.gone", n=gone) if gone else say("health.folders")),
        (not lost, say("health.segments.lost", n=lost) if lost else say("health.segments")),
    ]
    if status.weights is not None:
        at_hand = status.weights in ("bundled", "imagenet") or Path(status.weights).exists()
        path = plain_name(status.weights)
        words = say("health.weights") if at_hand else say("health.weights.gone", path=path)
        found.append((at_hand, words))
    if status.photos <= status.exact_up_to or status.codes is None:
        found.append((True, say("health.exact")))
    elif status.codes.recall is None:
        found.append((True, say("health.codes.unmeasured")))
    else:
        found.append((not status.advice, say("health.codes", share=status.codes.recall)))
    free = shutil.disk_usage(status.path).free
    roomy = free >= LITTLE_ROOM
    words = say("health.room") if roomy else say("health.room.little", free=size(free))
    return [*found, (roomy, words)]


def show_model(status: Status) -> None:
    """Say which network looks at the photos."""
    st.header(say("library.model"), anchor=False)
    if status.network is None or status.weights is None:
        st.write(say("library.model.none"))
        return
    named = {"network": status.network, "weights": status.weights}
    st.write(quoted(say("library.model.is", **named)))
    st.caption(say("library.model.keeps"))
    if st.button(say("library.model.show")):
        visit("network")


def show_codes(library: Library, status: Status) -> None:
    """Say what the codes are, and offer to learn better ones."""
    st.header(say("library.codes"), anchor=False)
    codes = status.codes
    if codes is None:
        st.write(say("library.codes.none"))
        return
    whose = "library.codes.own" if codes.own else "library.codes.came"
    st.write(say(whose, bits=codes.bits, n=codes.learned_from))
    st.caption(say("library.codes.when", n=status.exact_up_to))
    if status.photos < LEAST:
        st.write(say("library.codes.few", n=LEAST))
        return
    if status.advice:
        st.info(say("library.codes.advice"))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        bits = st.selectbox(
            say("library.codes.bits"), BITS, index=BITS.index(codes.bits), width=110
        )
        pressed = st.button(
            say("library.codes.train"),
            type="primary" if status.advice else "secondary",
            disabled=is_at_work(library),
        )
    if pressed:
        with telling(), st.spinner(say("library.run.begins")):
            runs.train_codes(library.path, bits)
            st.rerun()


def show_storage(status: Status) -> None:
    """Say what the library weighs."""
    st.header(say("library.storage"), anchor=False)
    rows = [(say(f"library.storage.{kind}"), bytes_) for kind, bytes_ in status.storage.items()]
    rows.append((say("library.storage.all"), status.bytes))
    rows.append((say("library.storage.free"), shutil.disk_usage(status.path).free))
    st.html(table([(name, size(bytes_)) for name, bytes_ in rows]))
    st.caption(quoted(say("library.storage.where", path=plain_name(str(status.path)))))


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values as HTML."""
    lines = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<table class="facts">{"".join(lines)}</table>'


def size(count: float) -> str:
    """Bytes as people write them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
