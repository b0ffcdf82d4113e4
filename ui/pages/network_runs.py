"""The Network page's lower half: training runs with their curves, and how to make one."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path

import streamlit as st

from retrieval.errors import EvaluationError
from retrieval.training_log import LOG, read_log
from retrieval.training_runs import BEST, LAST, find_runs, is_run, read_about
from ui.pages.network_facts import svg_address
from ui.parts import changed, plain_name, quoted, say

RUNS = Path("runs")  # of the folder where `fc7 ui` was started, as fc7 train makes it


def runs_by_name(weights: str) -> dict[str, Path]:
    """The runs below ./runs by name, and the one that the library's weights come from."""
    runs = {plain_name(run.name): run for run in find_runs(RUNS)}
    own = Path(weights)
    own = own if own.is_dir() else own.parent
    known = {run.resolve() for run in runs.values()}
    if own.is_absolute() and own.resolve() not in known and is_run(own):
        name = plain_name(own.name)
        runs[name if name not in runs else plain_name(str(own))] = own
    return runs


def show_runs(weights: str) -> None:
    """Let the person choose a run; draw what it learned, and how to use it."""
    st.header(say("network.runs"), anchor=False)
    runs = runs_by_name(weights)
    asked = st.query_params.get("run", "")
    if asked and asked not in runs:
        st.warning(say("network.runs.unknown", name=quoted(asked[:100])))
    if runs:
        own = next((n for n, run in runs.items() if weights.startswith(str(run.absolute()))), "")
        name = asked if asked in runs else own or max(runs, key=lambda one: _written(runs[one]))
        st.session_state["run"] = name  # the address decides
        with st.container(key="run-choice"):
            st.selectbox(
                say("network.runs.which"),
                list(runs),
                key="run",
                on_change=lambda: changed(run=st.session_state["run"]),
            )
        show_run(name, runs[name])
    else:
        st.write(say("network.runs.none"))
    st.header(say("network.train"), anchor=False)
    st.write(say("network.train.about"))
    st.code("fc7 train PHOTOS --from bundled --freeze conv", language="sh")
    st.write(say("network.train.scratch"))
    st.code("fc7 train PHOTOS --network alexnet-half", language="sh")


def show_run(name: str, run: Path) -> None:
    """What a run was asked, its curves, and the commands that use it."""
    place = shlex.quote(plain_name(str(run)))
    try:
        about = read_about(run)
    except EvaluationError as error:
        st.warning(quoted(str(error)))
    else:
        start = quoted(about.start or say("network.runs.chance"))
        facts = {
            "network": quoted(about.network),
            "preset": quoted(about.preset),
            "classes": f"{about.classes:,}",
        }
        st.caption(say("network.runs.facts", start=start, **facts))
    try:
        drawings, best, epoch, epochs = _curves(name, str(run), _written(run))
    except EvaluationError as error:
        st.info(quoted(str(error)))
    else:
        st.write(say("network.runs.best", n=epochs, epoch=epoch, percent=f"{100 * best:.1f}"))
        alt = escape(say("network.runs.alt", name=name))
        st.html(
            "".join(
                f'<img class="figure {shape}" src="{image}" alt="{alt}">'
                for shape, image in zip(("wide", "narrow"), drawings, strict=True)
            )
        )
        st.caption(say("network.runs.curves"))
    if (run / BEST).is_file():
        st.write(say("network.runs.use"))
        commands = [
            f"fc7 labels PHOTO --weights {place}",
            f"fc7 index PHOTOS --weights {place} --library NEW_LIBRARY",
        ]
        st.code("\n".join(commands), language="sh")
    if (run / LAST).is_file():
        st.write(say("network.runs.resume"))
        st.code(f"fc7 train --resume {place}", language="sh")


@st.cache_data(max_entries=16, show_spinner=False)
def _curves(name: str, run: str, state: int) -> tuple[tuple[str, str], float, int, int]:
    """Curves, in a row and one below another; the best top-1 share, its epoch, and how many."""
    from retrieval.paper_figures import draw_curves

    epochs = read_log(Path(run))
    best = min(epochs, key=lambda one: one.validation.top1_error)
    shown = name if len(name) <= 40 else name[:39] + "…"
    wide, narrow = (svg_address(draw_curves({shown: epochs}, a_row)) for a_row in (3, 1))
    return (wide, narrow), 1 - best.validation.top1_error, best.epoch, len(epochs)


def _written(run: Path) -> int:
    """When an epoch last ended, ns; 0 where none did."""
    try:
        return (run / LOG).stat().st_mtime_ns
    except OSError:
        return 0
