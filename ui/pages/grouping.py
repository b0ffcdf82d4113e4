"""A part of the albums page: grouping anew, looked at before it is kept."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from indexer import Change, Grouping, Library, Proposal
from ui.parts import go, quoted, say, show_task, telling, visit
from ui.tasks import AT_ONCE, Task, Tasks

NAMED = 8  # albums of each kind of change
MOST = 10_000  # albums that can be asked for
PROPOSED: Tasks[Proposal] = Tasks()


def show_grouping(library: Library) -> None:
    """Ask how to group; show what that would change; keep it if the person says so."""
    st.button(say("albums.all"), type="tertiary", on_click=_leave)
    st.title(say("albums.group.title"), anchor=False)
    st.write(say("albums.group.safe"))
    with st.container(key="grouping"):
        how = ask_how(library.albums.grouping(), library.count())
        if st.button(say("albums.group.preview"), type="primary"):
            # Another object each time: what came of an older click may be out of date.
            st.session_state["grouping"] = (how, library.generation(), object())
            st.session_state.pop("proposed", None)
    proposal = None
    if "grouping" in st.session_state:
        with telling():
            proposal = propose(library)
    if proposal is not None:
        if st.session_state["grouping"][1] != library.generation():
            st.warning(say("albums.group.old"))
        elif proposal.how == how:
            show_proposal(library, proposal)


def ask_how(last: Grouping, photos: int) -> Grouping:
    """Let the person say how to group; at first as the last time."""
    kind = st.segmented_control(
        say("albums.group.how"),
        ("found", "number"),
        default="found" if last.number is None else "number",
        format_func=lambda one: say(f"albums.group.{one}"),
        required=True,
        key="group-kind",
    )
    if kind == "number":
        number = st.number_input(
            say("albums.group.count"),
            min_value=1,
            max_value=min(MOST, photos),
            value=min(last.number or 12, photos),
            key="group-number",
        )
        return Grouping(number=int(number))
    granularity = st.slider(
        say("albums.group.size"),
        0.0,
        1.0,
        value=last.granularity,
        step=0.1,
        key="group-size",
    )
    time = st.checkbox(say("albums.group.time"), value=last.time, key="group-time")
    place = st.checkbox(say("albums.group.place"), value=last.place, key="group-place")
    return Grouping(granularity=round(granularity, 2), time=time, place=place)


def propose(library: Library) -> Proposal | None:
    """What came of grouping as the person asked; None while that is on its way."""
    key = st.session_state["grouping"]
    how = key[0]
    task: Task[Proposal] | None = st.session_state.get("proposed")
    if task is None or (task.key != key and task.ended()):  # another window's, or none
        task = st.session_state["proposed"] = PROPOSED.begin(
            key,
            lambda tell: library.albums.propose(how, progress=lambda *done: tell("photos", *done)),
        )
    if not task.ended(within=AT_ONCE) or task.key != key:
        show_task(task, _how_far)
        return None
    return task.result()


def _how_far(_: str, done: int, total: int) -> tuple[float, str]:
    if done >= total:
        return 1.0, say("albums.group.finding")
    return done / total, say("albums.group.reading", done=done, total=total)


def show_proposal(library: Library, proposal: Proposal) -> None:
    """Say what would change, with names, and offer to keep it."""
    changes = proposal.report.changes
    kinds = {
        "new": [one for one in changes if one.before == 0],
        "changed": [one for one in changes if one.before and one.after],
        "gone": [one for one in changes if one.after == 0],
    }
    with st.container(key="proposal"):
        if not changes:
            st.write(say("albums.group.same"))
        columns = st.columns(max(1, sum(map(bool, kinds.values()))))
        for column, (kind, some) in zip(
            columns, ((kind, some) for kind, some in kinds.items() if some), strict=False
        ):
            with column:
                show_changes(kind, some)
        report = proposal.report
        st.caption(say("albums.group.out", left=report.left_out, photos=report.photos))
        with st.container(horizontal=True):
            if changes and st.button(say("albums.group.keep"), type="primary"):
                with telling():
                    library.albums.keep(proposal)
                    _forget()
                    st.session_state["done"] = say("albums.grouped")
                    visit("albums")
            st.button(say("albums.group.drop"), on_click=_leave)


def show_changes(kind: str, changes: Sequence[Change]) -> None:
    """Name the largest albums that change in one way."""
    st.subheader(say(f"albums.group.{kind}", n=len(changes)), anchor=False)
    lines = []
    for one in changes[:NAMED]:
        counts = (
            say("albums.group.from", before=one.before, after=one.after)
            if one.before and one.after
            else say("photos", n=one.before or one.after)
        )
        lines.append(f"- {quoted(one.album)} · {counts}")
    if len(changes) > NAMED:
        lines.append(f"- {say('albums.group.more', n=len(changes) - NAMED)}")
    st.markdown("\n".join(lines))


def _leave() -> None:
    _forget()
    go()


def _forget() -> None:
    for name in ("grouping", "proposed"):
        st.session_state.pop(name, None)
