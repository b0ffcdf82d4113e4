"""A part of the search page: what answers must fulfil, as the address says and people choose."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import streamlit as st

from indexer import Filters, Library
from retrieval.errors import LibraryError
from ui.parts import albums_of, changed, facets_of, plain_name, quoted, say

FILTERS = tuple(field.name for field in fields(Filters) if field.name != "box")


def ask_filters(library: Library) -> Filters:
    """Let the person narrow the answers; returns what the address says."""
    address = st.query_params.to_dict()
    on = [name for name in FILTERS if name in address]
    title = say("search.filters.on", n=len(on)) if on else say("search.filters")
    with st.popover(title, key="filters"):
        _draw_filters(library, address)
        st.button(
            say("search.no filters"),
            disabled=not on,
            on_click=lambda: changed(**dict.fromkeys(FILTERS, ""), page=""),
        )
    filters = Filters()
    try:
        for name in on:
            value: Any = Path(address[name]) if name == "folder" else address[name]
            if name == "album":
                value = library.albums.get(address[name]).id
            filters = replace(filters, **{name: value})
    except LibraryError as error:
        st.warning(quoted(str(error)))
    return filters


def _draw_filters(library: Library, address: dict[str, str]) -> None:
    facets = facets_of(library, library.generation())

    def choose(name: str, values: dict[str, str]) -> None:
        """values: what the address says -> what the person reads."""
        if address.get(name, "") not in values:
            values[address[name]] = address[name]
        key = f"filter-{name}"
        st.session_state[key] = address.get(name, "")
        st.selectbox(
            say(f"search.{name}"),
            list(values),
            format_func=lambda value: values[value],
            key=key,
            on_change=lambda: changed(**{name: st.session_state[key], "page": ""}),
        )

    nothing = {"": say("search.any")}
    if facets.first and facets.last:
        first, last = date.fromisoformat(facets.first), date.fromisoformat(facets.last)
        for name in ("since", "until"):
            key = f"filter-{name}"
            st.session_state[key] = _date(address.get(name, ""), first, last)
            st.date_input(
                say(f"search.{name}"),
                min_value=first,
                max_value=last,
                key=key,
                format="YYYY-MM-DD",
                on_change=lambda name=name, key=key: changed(
                    **{name: str(st.session_state[key] or ""), "page": ""}
                ),
            )
    short = _short([folder for folder, _ in facets.folders])
    choose("folder", nothing | {str(f): f"{short[f]} ({n:,})" for f, n in facets.folders})
    choose("camera", nothing | {c: f"{c} ({n:,})" for c, n in facets.cameras})
    choose("label", nothing | {label: f"{label} ({n:,})" for label, n in facets.labels.items()})
    albums = albums_of(library, library.change())
    choose("album", nothing | {str(a.id): f"{a.name} ({a.photos:,})" for a in albums})


def _date(text: str, first: date, last: date) -> date | None:
    try:
        return min(max(date.fromisoformat(text), first), last)
    except ValueError:
        return None


def _short(folders: Sequence[Path]) -> dict[Path, str]:
    """Folders from where all of them have something of their own."""
    common = Path(os.path.commonpath(folders)) if folders else Path()
    return {f: plain_name(str(Path(common.name) / f.relative_to(common))) for f in folders}
