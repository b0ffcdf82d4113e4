"""The map: the library as a landscape, in which photos that look alike lie side by side.

`colour=year` says what it is coloured by: album, label, folder or year.
"""

from __future__ import annotations

import streamlit as st

from indexer import Library
from indexer.map import MapReport
from ui import words
from ui.landscape import COLOURS, words_of
from ui.parts import (
    albums_of,
    changed,
    component,
    save_as_album,
    say,
    show_empty,
    show_task,
    telling,
    visit,
)
from ui.tasks import Tasks

_SECONDS = 5_000  # photos up to which drawing takes seconds
_OPENED = "map-opened"  # in the session: the photo that was clicked
_A_MINUTE = 14_000  # photos drawn a minute, about
DRAWN: Tasks[MapReport] = Tasks()

draw_map = component("map", '<div class="map"></div>')


def show(library: Library) -> None:
    """Show the map, or offer to draw it."""
    if photo := st.session_state.pop(_OPENED, None):
        visit("search", photo=str(photo))
    count = library.count()
    if count == 0:
        show_empty(library)
        return
    st.title(say("map.title"), anchor=False)
    if task := DRAWN.at_work():
        show_task(task, _how_far)
    elif DRAWN.newest:
        with telling():
            DRAWN.newest.result()  # says why it came to nothing, if it did
    if library.map.version():
        _show_landscape(library, count, offers=task is None)
    elif not task:
        minutes = -(-count // _A_MINUTE)
        time = say("map.minutes", n=minutes) if count > _SECONDS else say("map.seconds")
        _offer(library, say("map.none yet", time=time), say("map.draw"))


def _show_landscape(library: Library, count: int, *, offers: bool) -> None:
    """Draw the map; offers: also what would bring it up to date."""
    missing = library.map.missing()
    if offers and library.map.outgrown():
        _offer(library, say("map.outgrown"), say("map.anew"), anew=True)
    if offers and missing:
        _offer(library, say("map.missing", n=missing), say("map.place"))
    if missing == count:
        return
    st.caption(say("map.about", n=count - missing))
    albums = albums_of(library, library.change())
    colour = st.query_params.get("colour", "")
    state = draw_map(
        key="landscape",
        data={
            "address": f"/landscape/{library.change()}.json",
            "colour": colour if colour in COLOURS else ("album" if albums else "label"),
            "words": words_of(words.language_of(st.context.locale)),
        },
        on_colour_change=lambda: changed(colour=st.session_state["landscape"].colour),
        on_selected_change=lambda: None,
        on_opened_change=lambda: st.session_state.update(
            {_OPENED: st.session_state["landscape"].opened}
        ),
    )
    if state.selected:
        # Where page.css lets a selection float: the map does not move below the hand.
        with st.container(horizontal=True, vertical_alignment="center", key="selection"):
            st.write(say("selected", n=len(state.selected)))
            if st.button(say("search.save")):
                save_as_album(library, state.selected)


def _offer(library: Library, text: str, label: str, *, anew: bool = False) -> None:
    """A button that brings the map up to date."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.write(text)
        if st.button(label, key=f"draw-{anew}", type="primary"):
            DRAWN.begin(object(), lambda tell: library.map.update(anew=anew, progress=tell))
            st.rerun()


def _how_far(stage: str, done: int, total: int) -> tuple[float, str]:
    # Reading the descriptors is a tenth of the work, about.
    share = done / total if total else 0.0
    return 0.1 + 0.9 * share if stage == "steps" else 0.1 * share, say("map.drawing")
