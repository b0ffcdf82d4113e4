"""One answer as one HTML file: thumbnails inside, no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from indexer.finder import Answer, Hit
from indexer.library import Library
from retrieval.images import read_photo, thumbnail

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }}
body {{ max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }}
header {{ display: flex; gap: 1.5rem; align-items: center; margin-bottom: 2rem; }}
header img {{ max-height: 240px; max-width: 45vw; border-radius: 8px; }}
h1 {{ font-size: 1.25rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }}
p {{ margin: .15rem 0; opacity: .75; }}
ol {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 1.25rem;
      list-style: none; padding: 0; }}
li img {{ width: 100%; height: 170px; object-fit: cover; border-radius: 8px; display: block; }}
li div {{ margin-top: .35rem; overflow-wrap: anywhere; }}
small {{ opacity: .7; }}
</style>
<header>{query}<div><h1>{title}</h1>{labels}<p>{summary}</p></div></header>
<ol>
{answers}
</ol>
</html>
"""


def write_report(file: Path, photo: Path, answer: Answer, library: Library) -> None:
    """Write the answer to `photo` as one self-contained page."""
    pixels, _ = read_photo(photo)
    likely = ", ".join(f"{escape(one.label)} {one.probability:.0%}" for one in answer.labels[:3])
    page = _PAGE.format(
        title=f"Photos like {escape(_text(photo.name))}",
        query=_image(thumbnail(pixels), photo.name),
        labels=f"<p>{likely}</p>" if likely else "",
        summary=f"{len(answer.hits)} of {library.count():,} photos, nearest first",
        answers="\n".join(_answer(hit, library) for hit in answer.hits),
    )
    file.write_text(page, encoding="utf-8")


def _answer(hit: Hit, library: Library) -> str:
    jpeg = library.thumbnail(hit.photo.id)
    picture = _image(jpeg, hit.photo.path.name) if jpeg else ""
    details = " · ".join(
        [f"distance {hit.distance:.3f}", *([hit.photo.taken_at[:10]] if hit.photo.taken_at else [])]
    )
    name = escape(_text(hit.photo.path.name))
    where = escape(_text(hit.photo.path))
    return f'<li title="{where}">{picture}<div>{name}<br><small>{details}</small></div></li>'


def _image(jpeg: bytes, name: str) -> str:
    data = base64.b64encode(jpeg).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(_text(name))}">'


def _text(name: object) -> str:
    """A name as valid Unicode: a path on disk need not be."""
    return str(name).encode("utf-8", "replace").decode("utf-8")
