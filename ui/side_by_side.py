"""Duplicates as one HTML file: side by side, thumbnails inside, no script, nothing loaded."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from indexer.catalog import Photo
from indexer.duplicates import Group
from indexer.library import Library
from retrieval.errors import LibraryError
from ui.duplicates import REASONS, TITLES, note_on

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'">
<title>Duplicates</title>
<style>
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
h2 { font-size: 1rem; font-weight: 600; margin: 2rem 0 .6rem; }
h2 small { font-weight: normal; opacity: .7; }
ol { display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; padding: 0; margin: 0; }
li { width: 260px; padding: .6rem; border: 1px solid #8885; border-radius: 8px; }
li.keep { border: 2px solid #2e9d5b; }
img { width: 100%; height: 180px; object-fit: contain; display: block; }
b, p { margin: .35rem 0 0; font-size: .85rem; overflow-wrap: anywhere; }
b { display: block; }
p { opacity: .75; }
</style>
"""


def write_side_by_side(file: Path, groups: Sequence[Group], library: Library) -> None:
    """Write the groups as one page. Raises LibraryError if the file can't be written."""
    try:
        with file.open("w", encoding="utf-8") as out:
            out.write(f"{_HEAD}<h1>{len(groups):,} groups of duplicates</h1>\n")
            for group in groups:  # one by one: there may be many
                out.write(_section(group, library))
            out.write("</html>\n")
    except OSError as error:
        raise LibraryError(f"{file} can't be written: {error.strerror}") from error


def _section(group: Group, library: Library) -> str:
    items = [_item(group.keep, "keep", f"keep: {REASONS[group.reason]}", library)]
    items += [_item(other.photo, "", note_on(other), library) for other in group.others]
    title = f"{TITLES[group.kind].capitalize()} <small>{1 + len(group.others):,} photos</small>"
    return f"<section><h2>{title}</h2>\n<ol>{''.join(items)}</ol></section>\n"


def _item(photo: Photo, mark: str, note: str, library: Library) -> str:
    jpeg = library.thumbnail(photo.id)
    data = base64.b64encode(jpeg or b"").decode("ascii")
    picture = f'<img src="data:image/jpeg;base64,{data}" alt="" loading="lazy">' if jpeg else ""
    facts = [f"{photo.width:,} x {photo.height:,}", photo.format, f"{photo.size / 1e6:,.2f} MB"]
    facts += [photo.taken_at[:10]] if photo.taken_at else []
    path = escape(str(photo.path).encode("utf-8", "replace").decode("utf-8"))
    return (
        f'<li class="{mark}">{picture}<b>{escape(note)}</b><p>{escape(" · ".join(facts))}</p>'
        f"<p>{path}</p></li>\n"
    )
