"""retrieval.figures: sound SVG whose points stand where their numbers say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.figures import Line, Panel, draw_panels

SVG = "{http://www.w3.org/2000/svg}"
SHARES = st.lists(st.floats(0, 1), min_size=3, max_size=3)


def places(group: ElementTree.Element) -> list[tuple[float, float]]:
    """Where the marks of a panel or of the legend stand."""
    marks = [mark.get("transform", "") for mark in group.findall(f"{SVG}g")]
    found = [re.fullmatch(r"translate\(([-\d.]+) ([-\d.]+)\)", mark) for mark in marks]
    return [(float(match[1]), float(match[2])) for match in found if match]


@given(SHARES, SHARES)
def test_points_stand_where_their_numbers_say(first: list[float], second: list[float]) -> None:
    bits = (64.0, 128.0, 256.0)
    lines = (Line("one", bits, tuple(first)), Line("two", bits, tuple(second)))
    root = ElementTree.fromstring(draw_panels([Panel("t", "bits", "mAP", lines, ("exact", 0.5))]))
    panel = root.find(f"{SVG}g")
    assert panel is not None
    points = places(panel)
    assert len(points) == 6
    xs = [x for x, _ in points]
    assert xs[:3] == xs[3:]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)  # powers of two are one step
    labels = [(float(t.get("y", "")) - 4, float(t.text or "")) for t in panel.findall(f"{SVG}text")
              if re.fullmatch(r"\d\.\d\d", t.text or "")]  # fmt: skip
    (low_y, low), (high_y, high) = labels[0], labels[-1]
    for (_, y), value in zip(points, [*first, *second], strict=True):
        share = (value - low) / (high - low)
        assert y == pytest.approx(low_y + share * (high_y - low_y), abs=0.2)
        assert high_y - 0.2 <= y <= low_y + 0.2  # inside the axes


def test_one_length_stands_alone_in_the_middle() -> None:
    panel = Panel("t", "bits", "mAP", (Line("one", (64,), (0.5,)),))
    root = ElementTree.fromstring(draw_panels([panel]))
    drawn = root.find(f"{SVG}g")
    assert drawn is not None
    assert len(places(drawn)) == 1


def test_names_are_text_and_nothing_else() -> None:
    line = Line("<script>&", (1, 2), (0, 1))
    text = draw_panels([Panel("a < b", "x", "y", (line,))] * 4)
    root = ElementTree.fromstring(text)
    assert "<script>" not in text
    assert [t.text for t in root.findall(f"{SVG}text")] == ["<script>&"]  # one legend for all
    assert (root.get("width"), root.get("height")) == ("1140", "694")  # two rows
