"""Figures as SVG: lines over a logarithmic axis in panels, or bars. Numbers in, text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrieval.scores import SHORTLISTS
from retrieval.svg import END, bar, begin, stroke, text

if TYPE_CHECKING:
    from retrieval.evaluation import RetrievalFigures

_PANEL_WIDTH, _PANEL_HEIGHT = 380, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 40, 52  # from a panel's edges to its axes
_LEGEND_HEIGHT = 34
PANELS_A_ROW = 3
_BAR_HEIGHT = 30
_MOST_MARKS = 20  # on a line
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a05195")  # told apart by most eyes, and in grey:
_MARKS = (  # around (0, 0)
    '<circle r="4"/>',
    '<rect x="-3.6" y="-3.6" width="7.2" height="7.2"/>',
    '<path d="M0-4.8L4.6 3.4H-4.6Z"/>',
    '<path d="M0-5L5 0L0 5L-5 0Z"/>',
)


@dataclass(frozen=True, slots=True)
class Line:
    """Points joined in their order."""

    name: str  # the same name has the same colour in every panel
    x: tuple[float, ...]  # above 0 where the panel's x is logarithmic
    y: tuple[float, ...]  # above 0 where the panel's y is logarithmic
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. Of a logarithmic x every one of the lines' is marked on it."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    level: tuple[str, float] | None = None  # a name and a y: a dashed line right across
    y_logarithmic: bool = False
    x_logarithmic: bool = True


def draw_codes(figures: RetrievalFigures) -> str:
    """Draw what codes do, beside exact FC7: mAP against bits, recall against the shortlist.

    figures: with codes of at least one length. Returns a whole SVG file.
    """
    rows = figures.codes
    methods = list(dict.fromkeys(row.method for row in rows))
    lines = []
    for method in methods:
        mine = [row for row in rows if row.method == method]
        precisions = tuple(row.scores.mean_average_precision for row in mine)
        lines.append(Line(method, tuple(row.bits for row in mine), precisions))
    exact = ("exact FC7", figures.exact.mean_average_precision)
    panels = [Panel("Hamming distance alone", "bits", "mAP", tuple(lines), exact)]
    panels += [
        Panel(
            f"{bits} bits: the ten nearest by FC7",
            "shortlist by Hamming distance, photos",
            "recall@10",
            tuple(Line(r.method, SHORTLISTS, r.scores.recalls) for r in rows if r.bits == bits),
        )
        for bits in dict.fromkeys(row.bits for row in rows)
    ]
    return draw_panels(panels)


def draw_search(rows: Sequence[tuple[float, float, float, float]]) -> str:
    """Draw how search grows: (photos, ms exactly, ms by codes, recall@10 of codes) of each size."""
    photos, exact, codes, recall = zip(*rows, strict=True)
    times = (Line("exact", photos, exact), Line("codes, then exact", photos, codes))
    return draw_panels(
        [
            Panel("A query", "photos", "milliseconds (p50)", times, y_logarithmic=True),
            Panel(
                "The ten nearest",
                "photos",
                "recall@10",
                (Line("codes, then exact", photos, recall),),
            ),
        ]
    )


def draw_bars(title: str, bars: Mapping[str, float]) -> str:
    """Draw one or more named numbers, above 0, as bars from the left. Returns a whole SVG file."""
    width, height = 2 * _PANEL_WIDTH, _TOP + len(bars) * _BAR_HEIGHT + _RIGHT
    left = max(map(len, bars)) * 7 + 24  # room for the names, roughly
    unit = (width - left - 90) / max(bars.values())
    parts = begin(width, height)
    parts.append(text(width / 2, 22, title, 'text-anchor="middle" font-size="14"'))
    for place, (name, value) in enumerate(bars.items()):
        y = _TOP + place * _BAR_HEIGHT
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(text(left - 10, y + 19, name, 'text-anchor="end"'))
        parts.append(bar(left, y + 4, value * unit, 22, colour))
        parts.append(text(left + value * unit + 8, y + 19, f"{value:,.1f}"))
    return "\n".join([*parts, END])


def draw_panels(panels: Sequence[Panel], a_row: int = PANELS_A_ROW) -> str:
    """Draw one or more panels in rows, with one legend; those of one y_label have one scale.

    Returns a whole SVG file.
    """
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    columns = min(len(panels), a_row)
    rows = math.ceil(len(panels) / columns)
    width, height = columns * _PANEL_WIDTH, rows * _PANEL_HEIGHT + _LEGEND_HEIGHT
    parts = begin(width, height)
    for index, panel in enumerate(panels):
        x, y = index % columns * _PANEL_WIDTH, index // columns * _PANEL_HEIGHT
        heights = [y for p in panels if p.y_label == panel.y_label for y in _heights(p)]
        ticks = _powers(heights) if panel.y_logarithmic else _ticks(heights)
        parts.append(f'<g transform="translate({x} {y})">{_panel(panel, names, ticks)}</g>')
    parts += [_legend(names, width, height - _LEGEND_HEIGHT / 2), END]
    return "\n".join(parts)


def _heights(panel: Panel) -> list[float]:
    return [y for line in panel.lines for y in line.y] + ([panel.level[1]] if panel.level else [])


def _panel(panel: Panel, names: Sequence[str], ticks: Sequence[float]) -> str:
    xs = sorted({x for line in panel.lines for x in line.x})
    x_scale = math.log if panel.x_logarithmic else float

    def across(x: float) -> float:
        """A single x stands in the middle."""
        low, high = x_scale(xs[0]), x_scale(xs[-1])
        share = (x_scale(x) - low) / (high - low) if high > low else 0.5
        inside = _PANEL_WIDTH - _LEFT - _RIGHT
        return _LEFT + inside * (0.04 + 0.92 * share)

    def down(y: float) -> float:
        scale = math.log if panel.y_logarithmic else float
        low, high = scale(ticks[0]), scale(ticks[-1])
        share = (scale(y) - low) / (high - low)
        return _PANEL_HEIGHT - _BOTTOM - share * (_PANEL_HEIGHT - _TOP - _BOTTOM)

    right, bottom = _PANEL_WIDTH - _RIGHT, _PANEL_HEIGHT - _BOTTOM
    middle = (_LEFT + right) / 2
    parts = [text(middle, 22, panel.title, 'text-anchor="middle" font-size="14"')]
    for tick in ticks:
        y = down(tick)
        parts.append(stroke([(_LEFT, y), (right, y)], "#ddd"))
        label = f"{tick:g}" if panel.y_logarithmic else f"{tick:.2f}"
        parts.append(text(_LEFT - 8, y + 4, label, 'text-anchor="end"'))
    for x in xs if panel.x_logarithmic else _whole(xs):
        parts.append(stroke([(across(x), bottom), (across(x), bottom + 5)], "#222"))
        parts.append(text(across(x), bottom + 19, _short(x), 'text-anchor="middle"'))
    parts.append(stroke([(_LEFT, _TOP), (_LEFT, bottom), (right, bottom)], "#222"))
    parts.append(text(middle, bottom + 40, panel.x_label, 'text-anchor="middle"'))
    turned = f'text-anchor="middle" transform="rotate(-90 14 {(_TOP + bottom) / 2:.1f})"'
    parts.append(text(14, (_TOP + bottom) / 2, panel.y_label, turned))
    if panel.level:
        name, level = panel.level
        parts.append(stroke([(_LEFT, down(level)), (right, down(level))], "#222", dashed=True))
        parts.append(text(right, down(level) - 6, name, 'text-anchor="end"'))
    for line in panel.lines:
        place = names.index(line.name)
        points = [(across(x), down(y)) for x, y in zip(line.x, line.y, strict=True)]
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(stroke(points, colour, width=2, dashed=line.dashed))
        if len(points) <= _MOST_MARKS and not line.dashed:
            parts += [_mark(place, *point) for point in points]
    return "\n".join(parts)


def _ticks(heights: Sequence[float]) -> list[float]:
    """Round numbers that enclose the heights, about five."""
    low, high = min(heights), max(heights)
    steps = (step * 10.0**power for power in range(-2, 308) for step in (1, 2, 5))
    step = next(s for s in steps if s > 0.015 and (high - low) / s < 5.001)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [float(tick) for tick in np.arange(first, last + 1) * step]


def _whole(xs: Sequence[float]) -> list[int]:
    """Round whole numbers among the xs, at most seven."""
    steps = (step * 10**power for power in range(9) for step in (1, 2, 5))
    step = next(s for s in steps if (xs[-1] - xs[0]) / s <= 6)
    return list(range(math.ceil(xs[0] / step) * step, math.floor(xs[-1]) + 1, step))


def _powers(heights: Sequence[float]) -> list[float]:
    """Powers of ten that enclose the heights."""
    first, last = math.floor(math.log10(min(heights))), math.ceil(math.log10(max(heights)))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _short(x: float) -> str:
    """12 -> 12, 30000 -> 30k, 1000000 -> 1M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if x >= 10 * unit or x == unit:
            return f"{x / unit:g}{letter}"
    return f"{x:g}"


def _legend(names: Sequence[str], width: float, y: float) -> str:
    spaces = [len(name) * 7 + 52 for name in names]  # room for a name, roughly
    x = (width - sum(spaces)) / 2
    parts = []
    for place, (name, space) in enumerate(zip(names, spaces, strict=True)):
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(stroke([(x, y), (x + 26, y)], colour, width=2))
        parts.append(_mark(place, x + 13, y))
        parts.append(text(x + 33, y + 4, name))
        x += space
    return "\n".join(parts)


def _mark(place: int, x: float, y: float) -> str:
    colour, shape = _COLOURS[place % len(_COLOURS)], _MARKS[place % len(_MARKS)]
    return f'<g fill="{colour}" transform="translate({x:.1f} {y:.1f})">{shape}</g>'
