"""The map as one HTML file: script, places and thumbnails inside, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from indexer import Library, Point
from retrieval.errors import ImageError
from retrieval.images import read_photo, thumbnail
from ui.landscape import scene_of, words_of

STATIC = Path(__file__).with_name("static")
MOST_INSIDE = 3000  # photos that have their thumbnail in the file; the others are points
_WHOLE = 400  # photos up to which thumbnails are the library's own, 320 pixels
_SIDE = 128  # pixels of the others
_CELLS = 64  # a side: from each cell of such a grid as many thumbnails as from any other

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'; script-src 'sha256-{hash}'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --st-font: system-ui, sans-serif; --st-text-color: #1c1d21;
  --st-background-color: #fff; --st-secondary-background-color: #f3f4f6;
  --st-border-color: #dfe1e6; --st-primary-color: #3049d8; }}
@media (prefers-color-scheme: dark) {{ :root {{ --st-text-color: #e8e9ed;
  --st-background-color: #101114; --st-secondary-background-color: #1c1e23;
  --st-border-color: #33363e; --st-primary-color: #93a4ff; }} }}
body {{ margin: 0; padding: 14px; box-sizing: border-box; height: 100vh; height: 100dvh;
  display: flex; flex-direction: column; gap: 10px; font: 15px/1.45 var(--st-font);
  color: var(--st-text-color); background: var(--st-background-color); }}
h1 {{ font-size: 1.1rem; margin: 0; }}
h1 small {{ font-weight: normal; font-size: .85rem; opacity: .75; margin-left: .5em; }}
{css}
body .map {{ flex: 1; height: auto; min-height: 0; }}
</style>
<h1>{title} <small>{about}</small></h1>
<div class="map"></div>
<script type="application/json" id="scene">{scene}</script>
<script type="module">{script}</script>
</html>
"""

_START = """
const sent = JSON.parse(document.getElementById("scene").textContent);
const picture = (i) => (sent.thumbnails[i] ? `data:image/jpeg;base64,${sent.thumbnails[i]}` : null);
const root = document.querySelector(".map");
root.map = drawMap(root, sent.scene, {
  words: sent.words,
  colour: sent.colour,
  thumbnail: picture,
});
"""


def write_map_page(
    file: Path,
    library: Library,
    colour: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, int]:
    """Write the map of a library; return how many photos have a thumbnail in it, and how many not.

    colour: what it is coloured by at first, one of `ui.landscape.COLOURS`.
    progress: called with (thumbnails made, of how many).
    """
    points = library.map.points()
    thumbnails: dict[int, str] = {}
    chosen = spread(points, MOST_INSIDE)
    for done, at in enumerate(chosen, start=1):
        jpeg = _small(library.thumbnail(points[at].photo), whole=len(points) <= _WHOLE)
        if jpeg is not None:
            thumbnails[at] = base64.b64encode(jpeg).decode("ascii")
        if progress:
            progress(done, len(chosen))
    sent = {
        "scene": scene_of(library, points),
        "thumbnails": thumbnails,
        "colour": colour,
        "words": words_of("en"),
    }
    # Nothing in a name may end the script: `<` stands in JSON only inside texts.
    scene = json.dumps(sent, ensure_ascii=True).replace("<", "\\u003c")
    script = (STATIC / "map.js").read_text(encoding="utf-8") + _START
    rest = len(points) - len(thumbnails)
    few = f"; {rest:,} of them as points only" if rest else ""
    page = _PAGE.format(
        title=escape("A map of photos"),
        about=f"{len(points):,} photos, those that look alike side by side{few}",
        css=(STATIC / "map.css").read_text(encoding="utf-8"),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        scene=scene,
        script=script,
    )
    file.write_text(page, encoding="utf-8", newline="\n")
    return len(thumbnails), rest


def spread(points: Sequence[Point], most: int) -> list[int]:
    """Which points get a thumbnail if not all can: as many from a crowd as from a lonely corner."""
    if len(points) <= most:
        return list(range(len(points)))
    places = np.array([(point.x, point.y) for point in points])
    low, high = places.min(axis=0), places.max(axis=0)
    cells = ((places - low) / np.maximum(high - low, 1e-9) * (_CELLS - 1)).astype(np.int64)
    cell = cells @ [_CELLS, 1]
    order = np.argsort(cell, kind="stable")
    firsts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    turn = np.empty(len(points), np.int64)  # the how manieth of its cell a point is
    turn[order] = np.arange(len(points)) - np.repeat(firsts, np.diff([*firsts, len(points)]))
    return sorted(np.argsort(turn, kind="stable")[:most].tolist())


def _small(jpeg: bytes | None, *, whole: bool) -> bytes | None:
    if jpeg is None or whole:
        return jpeg
    try:
        return thumbnail(read_photo(jpeg)[0], _SIDE)
    except ImageError:
        return None  # a damaged thumbnail: its photo is a point
