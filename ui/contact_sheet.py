"""Exported albums as one HTML page beside them: thumbnails in a folder, no script."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from urllib.parse import quote

from indexer.export import Exported, ExportReport
from indexer.library import Library

PAGE = "index.html"
THUMBNAILS = "thumbnails"

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' file:;
 style-src 'unsafe-inline'">
<title>Albums</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }}
body {{ max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 .6rem; overflow-wrap: anywhere; }}
h2 small {{ font-weight: normal; opacity: .7; }}
ol {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .8rem;
      list-style: none; padding: 0; margin: 0; }}
img {{ width: 100%; height: 120px; object-fit: cover; border-radius: 6px; display: block; }}
a {{ color: inherit; text-decoration: none; font-size: .8rem; overflow-wrap: anywhere; }}
a:focus-visible {{ outline: 2px solid; outline-offset: 2px; }}
</style>
<h1>{summary}</h1>
{albums}
</html>
"""


def write_contact_sheet(folder: Path, report: ExportReport, library: Library) -> None:
    """Write the page and its thumbnails into the exported folder."""
    (folder / THUMBNAILS).mkdir()
    sections = []
    for album, photos in report.albums:
        items = "\n".join(_item(folder, one, library) for one in photos)
        count = f"{len(photos):,} photo{'s' * (len(photos) != 1)}"
        sections.append(
            f"<section><h2>{escape(_text(album.name))} <small>{count}</small></h2>\n"
            f"<ol>\n{items}\n</ol></section>"
        )
    total = sum(len(photos) for _, photos in report.albums)
    summary = f"{len(report.albums):,} albums, {total:,} photos"
    page = _PAGE.format(summary=summary, albums="\n".join(sections))
    (folder / PAGE).write_text(page, encoding="utf-8")


def _item(folder: Path, one: Exported, library: Library) -> str:
    name = escape(_text(one.file.name))
    jpeg = library.thumbnail(one.photo.id)
    picture = ""
    if jpeg:
        place = Path(THUMBNAILS) / f"{one.photo.id}.jpg"
        (folder / place).write_bytes(jpeg)
        picture = f'<img src="{place.as_posix()}" alt="" loading="lazy">'
    return f'<li><a href="{quote(os.fsencode(one.file))}">{picture}{name}</a></li>'


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")
