"""The few elements that the figures are made of, as SVG text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

END = "</svg>\n"


def begin(width: float, height: float) -> list[str]:
    """Open a white page of so many units; END closes it."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="sans-serif" font-size="12" fill="#222">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]


def stroke(
    points: Sequence[tuple[float, float]], colour: str, *, width: float = 1, dashed: bool = False
) -> str:
    """Join points by straight lines."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    look = f'stroke="{colour}" stroke-width="{width:g}"'
    if dashed:
        look += ' stroke-dasharray="6 4"'
    return f'<polyline points="{path}" fill="none" {look}/>'


def text(x: float, y: float, words: str, attributes: str = "") -> str:
    """Words that begin at a place; attributes as `text-anchor="middle"`."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(printable(words))}</text>'


def bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A filled rectangle."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}" fill="{colour}"/>'


def picture(x: float, y: float, width: float, height: float, file: bytes, kind: str) -> str:
    """An image file inside the SVG; what doesn't fit the frame is cut off evenly.

    kind: jpeg or png.
    """
    data = base64.b64encode(file).decode("ascii")
    return (
        f'<image x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
        f'preserveAspectRatio="xMidYMid slice" href="data:image/{kind};base64,{data}"/>'
    )


def printable(words: str) -> str:
    """Without what XML forbids, and as valid Unicode: a name on disk need not be."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)
