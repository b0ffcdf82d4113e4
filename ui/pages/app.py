"""The pages: Streamlit runs this file anew for each visit and each click.

All that matters is in the address, which can be kept and shared: `/?photo=12`, `/albums?album=3`.

It lies among the pages because Streamlit takes each file of a folder `pages` beside it for a page.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from indexer import Library
from retrieval.errors import Fc7Error
from ui.browser import served_library
from ui.pages import albums, duplicates, labels, library, map, network, search
from ui.parts import PAGES, STATIC, component, quoted, say

keep_history = component("history", "<b></b>")
SHOWN = {
    "search": search.show,
    "labels": labels.show,
    "albums": albums.show,
    "duplicates": duplicates.show,
    "map": map.show,
    "library": library.show,
    "network": network.show,
}


def main() -> None:
    """Show what the address asks for."""
    st.set_page_config(say("title"), str(STATIC / "icon.svg"), layout="wide")
    st.html(STATIC / "page.css")
    pages = {
        name: st.Page(_shown(show), title=say(name), url_path=name, default=name == "search")
        for name, show in SHOWN.items()
    }
    st.session_state[PAGES] = pages
    if said := st.session_state.pop("done", None):
        st.toast(said)
    page = st.navigation(list(pages.values()), position="top")
    keep_history(key="history", data={"page": page.url_path})
    page.run()


def _shown(show: Callable[[Library], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            show(served_library())
        except Fc7Error as error:
            st.error(quoted(str(error)))

    return run


if __name__ == "__main__":
    main()
