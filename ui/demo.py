"""What `make demo` runs: index a folder, answer one query, as a table and as a page."""

from __future__ import annotations

import sys
from pathlib import Path

from indexer import open_library
from retrieval.errors import Fc7Error
from ui.report import write_report
from ui.terminal import Progress, print_hits, print_report, shown

_GALLERY_QUERY = "sunflower-04.jpg"  # one that shows well


def demo(folder: Path) -> None:
    """Index `folder` into a library of the demo's own, and ask with one of its photos."""
    place, page = Path("demo") / (folder.name or "root"), Path("demo") / "answer.html"
    print(f"$ fc7 index {shown(folder)} --library {place}")
    with open_library(place) as library, Progress("photos") as progress:
        report = library.index([folder], progress=progress)
        print_report(report, place, as_json=False)
        photos = library.photos(limit=library.count())
        if not photos:
            print(f"\nno photo was found in {shown(folder)}")
            return
        query = next((p for p in photos if p.path.name == _GALLERY_QUERY), photos[0])
        print(f"\n$ fc7 search {shown(query.path)} --library {place} --html {page}")
        answer = library.answer(query.id, 10)
        print_hits(answer.hits)
        write_report(page, query.path, answer, library)
    print(f"\nthe same with pictures:   {page}")
    print(f"search in the browser:    .venv/bin/fc7 ui --library {place}")
    print("index your own photos:    .venv/bin/fc7 index ~/Pictures")
    print("find photos like one:     .venv/bin/fc7 search PHOTO")


if __name__ == "__main__":
    try:
        demo(Path(sys.argv[1]).expanduser().absolute())
    except Fc7Error as error:
        sys.exit(f"fc7: {shown(str(error))}")
