"""Duplicates: groups side by side, what is worth keeping, and a list to take away.

`kind` says which groups, `page` which page of them. A person marks photos as spare and downloads
the list; nothing is moved or deleted from here.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import streamlit as st

from indexer import Copy, Group, Library, Photo
from indexer.duplicates import KINDS, Kind
from retrieval.errors import Fc7Error
from ui.pages.running import is_at_work
from ui.parts import (
    ask_which_page,
    changed,
    component,
    day,
    guess,
    plain_name,
    quoted,
    say,
    show_task,
    thumbnail_address,
    visit,
)
from ui.tasks import AT_ONCE, Tasks
from ui.terminal import shown

GROUPS_A_PAGE = 20
FOUND: Tasks[list[Group]] = Tasks()
_ALL_OF_IT = 0.95
# Where in the whole a part of the search begins, and its share of the time, with 100,000 photos.
_STAGES = {
    "descriptors": (0.0, 0.02),
    "photos": (0.02, 0.33),
    "neighbours": (0.35, 0.15),
    "sketches": (0.5, 0.08),
    "pairs": (0.58, 0.42),
}

draw_groups = component("duplicates", "<article></article>")


def show(library: Library) -> None:
    """Find the groups, once for each state of the library, and show those of one kind."""
    st.title(say("duplicates"), anchor=False)
    if library.count() == 0:
        st.info(say("empty.title"))
        return
    groups = find_groups(library)
    if groups is None:
        return
    st.caption(say("duplicates.how"))
    kind = ask_kind(groups)
    own = [group for group in groups if group.kind == kind]
    if not own:
        st.info(say(f"duplicates.no {kind}"))
        return
    # By kind and photo: whether a person calls it spare.
    marks: dict[tuple[str, int], bool] = st.session_state.setdefault("marks", {})
    top = st.container(horizontal=True, vertical_alignment="center", key="duplicates-top")
    place = st.container()
    page = ask_which_page(-(-len(own) // GROUPS_A_PAGE))
    with place:
        start = (page - 1) * GROUPS_A_PAGE
        show_groups(library, own[start : start + GROUPS_A_PAGE], marks)
    with top:
        show_export(own, marks)


def find_groups(library: Library) -> list[Group] | None:
    """The groups, looked for anew where photos came or went; None while that is on its way."""
    generation = library.generation()
    newest = FOUND.newest
    if is_at_work(library) and (newest is None or newest.key != generation):
        wait_for_run(library)  # which would make of each search one that is out of date
        return None
    task = FOUND.begin(generation, lambda tell: library.duplicates.find(progress=tell))
    if not task.ended(within=AT_ONCE):
        show_task(task, _how_far)
        return None
    if task.key != generation:
        return find_groups(library)
    try:
        return task.result()
    except Fc7Error as error:
        st.error(quoted(str(error)))
        st.button(say("library.run.again"), on_click=FOUND.forget)
        return None


@st.fragment(run_every=2)
def wait_for_run(library: Library) -> None:
    """Say that photos are being read, and go on once they are."""
    if not is_at_work(library):
        st.rerun()
    st.info(say("duplicates.reading"))
    if st.button(say("duplicates.to run")):
        visit("library")


def _how_far(stage: str, done: int, total: int) -> tuple[float, str]:
    before, share = _STAGES.get(stage, (0.0, 0.0))
    part = done / total if total else 0.0
    return before + share * part, say(f"duplicates.{stage or 'begin'}", done=done, total=total)


def ask_kind(groups: Sequence[Group]) -> Kind:
    """Let the person choose a kind; returns what the address says, else the first there is."""
    counts = Counter(group.kind for group in groups)
    default = next((kind for kind in KINDS if counts[kind]), KINDS[0])
    asked = st.query_params.get("kind", "")
    kind = next((one for one in KINDS if one == asked), default)
    st.session_state["kind"] = kind  # the address decides, when going back too
    st.segmented_control(
        say("duplicates.kind"),
        KINDS,
        format_func=lambda one: f"{say(f'duplicates.{one}')} ({counts[one]:,})",
        required=True,
        key="kind",
        label_visibility="collapsed",
        on_change=lambda: changed(kind=st.session_state["kind"], page=""),
    )
    return kind


def show_groups(
    library: Library, groups: Sequence[Group], marks: dict[tuple[str, int], bool]
) -> None:
    """Draw groups; a mark that a person sets is remembered."""
    kind = groups[0].kind

    def mark() -> None:
        marked = st.session_state["groups"].marked
        if isinstance(marked, dict) and isinstance(marked.get("id"), int):
            marks[kind, marked["id"]] = bool(marked.get("spare"))

    ids = [photo.id for group in groups for photo in _photos(group)]
    labels = library.labels_of(ids)
    drawn = []
    for group in groups:
        notes = {other.photo.id: _note(other) for other in group.others}
        best = dict(_facts(group.keep))
        drawn.append(
            {
                "title": say("photos", n=1 + len(group.others)),
                "reason": say(f"duplicates.why {group.reason}"),
                "photos": [
                    {
                        "id": photo.id,
                        "image": thumbnail_address(photo),
                        "original": f"/original/{photo.id}",
                        "alt": guess(labels[photo.id]),
                        "name": plain_name(photo.path.name),
                        "facts": [
                            {"text": text, "differs": text != best[name]}
                            for name, text in _facts(photo)
                            if text
                        ],
                        "proposed": photo == group.keep,
                        "note": notes.get(photo.id, ""),
                        "spare": is_spare(group, photo, marks),
                    }
                    for photo in _photos(group)
                ],
            }
        )
    texts = {
        "open": say("open"),
        "proposed": say("duplicates.proposed"),
        "spare": say("duplicates.spare"),
        "none_kept": say("duplicates.none kept"),
    }
    draw_groups(key="groups", data={"groups": drawn, "words": texts}, on_marked_change=mark)


def show_export(groups: Sequence[Group], marks: Mapping[tuple[str, int], bool]) -> None:
    """Say how many photos are marked, and offer the list as a file."""
    spare = [photo for group in groups for photo in _photos(group) if is_spare(group, photo, marks)]
    size = sum(photo.size for photo in spare) / 1e6
    st.write(say("duplicates.marked", n=len(spare), size=size))
    with st.popover(say("duplicates.export")):
        st.caption(say("duplicates.export how"))
        kind = groups[0].kind
        forms = {"txt": as_text, "csv": as_csv, "json": as_json}
        for form, write in forms.items():
            st.download_button(
                say(f"duplicates.as {form}"),
                partial(write, groups, marks),
                file_name=f"duplicates-{kind}.{form}",
                mime={"txt": "text/plain", "csv": "text/csv", "json": "application/json"}[form],
                key=f"export-{form}",
                on_click="ignore",
            )


def is_spare(group: Group, photo: Photo, marks: Mapping[tuple[str, int], bool]) -> bool:
    """Whether a photo is marked: by the person, else by the proposal, which spares no shots."""
    copies = {other.photo.id: other for other in group.others}
    proposed = group.kind != "shot" and photo.id in copies and not copies[photo.id].more
    return marks.get((group.kind, photo.id), proposed)


# --- the list as a file --------------------------------------------------------------------------


def as_text(groups: Sequence[Group], marks: Mapping[tuple[str, int], bool]) -> bytes:
    """The paths of the photos that are marked, one a line."""
    spare = [photo for group in groups for photo in _photos(group) if is_spare(group, photo, marks)]
    return "".join(f"{shown(photo.path)}\n" for photo in spare).encode("utf-8", "replace")


def as_csv(groups: Sequence[Group], marks: Mapping[tuple[str, int], bool]) -> bytes:
    """A row a photo. Names are the bytes that they are on the disk."""
    out = io.StringIO(newline="")
    rows = _rows(groups, marks)
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8", "surrogateescape")


def as_json(groups: Sequence[Group], marks: Mapping[tuple[str, int], bool]) -> bytes:
    """A list of the same rows."""
    return json.dumps(_rows(groups, marks), indent=1).encode()


def _rows(
    groups: Sequence[Group], marks: Mapping[tuple[str, int], bool]
) -> list[dict[str, object]]:
    return [
        {
            "group": number,
            "kind": group.kind,
            "mark": "spare" if is_spare(group, photo, marks) else "keep",
            "proposal": "keep" if photo == group.keep else "",
            "path": os.fspath(photo.path),
            "width": photo.width,
            "height": photo.height,
            "format": photo.format,
            "bytes": photo.size,
            "taken_at": photo.taken_at or "",
            "sha256": photo.content_hash,
        }
        for number, group in enumerate(groups, start=1)
        for photo in _photos(group)
    ]


# --- a photo as it is described ------------------------------------------------------------------


def _photos(group: Group) -> list[Photo]:
    return [group.keep, *(other.photo for other in group.others)]


def _facts(photo: Photo) -> list[tuple[str, str]]:
    return [
        ("pixels", f"{photo.width:,} × {photo.height:,}"),
        ("size", _size(photo.size)),
        ("format", photo.format),
        ("date", day(photo) or say("duplicates.no date")),
        ("folder", plain_name(str(photo.path.parent))),
    ]


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def _note(other: Copy) -> str:
    notes = [say(f"duplicates.{other.turn}")] if other.turn else []
    if other.more:
        notes.append(say("duplicates.more"))
    elif other.covered < _ALL_OF_IT:
        notes.append(say("duplicates.part", percent=round(100 * other.covered)))
    return " · ".join(notes)
