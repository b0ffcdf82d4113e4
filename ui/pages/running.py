"""A part of the library page: the run that is at work, and how the last one ended.

It is read from the library's folder each second, so that every window shows the same, also of a
run that a terminal began.
"""

from __future__ import annotations

import json
import time
from datetime import datetime

import streamlit as st

from indexer import Library
from indexer.work import Work, ask_to_stop, is_stopping
from ui import runs
from ui.parts import quoted, say, telling

_SURE = 5.0  # seconds after which a rate is worth telling


@st.fragment(run_every=1)
def show_run(library: Library) -> None:
    """Draw it; the whole page is drawn anew when a run begins or ends."""
    work = library.work()
    state = work and (work.token, work.end)
    if st.session_state.setdefault("run-seen", state) != state:
        st.session_state["run-seen"] = state
        st.rerun()
    if work is not None and work.end is None:
        with st.container(key="run"):
            show_progress(library, work)
    elif work is not None:
        with st.container(key="ran"):
            show_end(library, work)


def is_at_work(library: Library) -> bool:
    work = library.work()
    return work is not None and work.end is None


def show_progress(library: Library, work: Work) -> None:
    """A bar, how fast it moves, and a way to stop it."""
    stopping = is_stopping(library.path, work.token)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(work.done / work.total if work.total else 0.0, text=progress_of(work))
        if work.what != "forget":
            st.button(
                say("library.run.stop"),
                key="stop",
                disabled=stopping,
                on_click=lambda: _stop(library, work),
            )
    if stopping:
        st.caption(say("library.run.stopping"))
    if trouble := st.session_state.pop("trouble", None):
        st.error(trouble)


def _stop(library: Library, work: Work) -> None:
    with telling():
        ask_to_stop(library.path, work.token)


def progress_of(work: Work) -> str:
    """How far a run is, in words."""
    if not work.stage:
        return say(f"library.run.{work.what}")
    if work.stage == "photos" and work.done >= work.total:
        return say("library.run.finishing")
    parts = [say(f"library.run.{work.what}.{work.stage}", done=work.done, total=work.total)]
    rate, left = work.rate(), work.seconds_left()
    if rate is not None and left is not None and work.told - work.stage_started >= _SURE:
        if work.stage == "photos":
            parts.append(
                say("library.run.rate", rate=f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}")
            )
        parts.append(say("library.run.left", left=span(left)))
    return " · ".join(parts)


def show_end(library: Library, work: Work) -> None:
    """How the last run ended, and what can be done now."""
    button, primary = "library.run.look", False
    if work.end == "done":
        st.caption(result_of(work))
    elif work.end == "failed":
        st.error(quoted(work.error or ""))
        button, primary = "library.run.again", True
    elif work.end == "stopped" and work.what in ("codes", "check"):
        st.info(say(f"library.run.stopped.{work.what}"))
    else:
        say_it = st.info if work.end == "stopped" else st.warning
        say_it(say(f"library.run.{work.end}"))
        button, primary = "library.run.on", True
    if st.button(say(button), key="look", type="primary" if primary else "secondary"):
        with telling(), st.spinner(say("library.run.begins")):
            runs.index(library.path)
            st.rerun()


def result_of(work: Work) -> str:
    """What a run that went well has done."""
    counts: dict[str, int] = json.loads(work.result or "{}")
    if work.what == "forget":
        return say("library.run.done.forget", n=counts.get("removed", 0))
    if work.what == "check":
        return say("library.run.damaged" if counts.get("problems") else "library.run.done.check")
    if work.what == "codes" or not counts:
        return say("library.run.done.codes")
    told = [say(f"count.{name}", n=n) for name, n in counts.items() if n]
    return say("library.run.done.index", counts=", ".join(told) or say("count.unchanged", n=0))


def span(seconds: float) -> str:
    """A length of time, roughly."""
    if seconds < 90:
        return say("time.seconds", n=max(1, round(seconds)))
    minutes = round(seconds / 60)
    if minutes < 90:
        return say("time.minutes", n=minutes)
    return say("time.hours", h=minutes // 60, m=minutes % 60)


def ago(when: str) -> str:
    """How long ago an ISO 8601 time was."""
    seconds = time.time() - datetime.fromisoformat(when).timestamp()
    if seconds < 60:
        return say("ago.now")
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= unit:
            return say(f"ago.{name}", n=int(seconds // unit))
    return say("ago.now")
