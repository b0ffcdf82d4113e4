"""`fc7 map` draws the map of a library and writes it as a page; `fc7 evaluate map` measures it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval.errors import LibraryError
from ui.arguments import add_json, add_library, add_model, command
from ui.terminal import Progress, Stages, print_map_figures, shown

_COLOURS = ("album", "label", "folder", "year")


def add_map_command(commands: Any) -> None:
    """`fc7 map`."""
    one = command(
        commands, "map", draw, "place photos on a map, those that look alike side by side"
    )
    add_library(one)
    one.add_argument("--anew", action="store_true",
                     help="draw it anew; else new photos are placed, and no other moves"
                     )  # fmt: skip
    one.add_argument("--html", type=Path, metavar="FILE",
                     help="write the map as one page with its thumbnails inside")  # fmt: skip
    one.add_argument("--colour", choices=_COLOURS, default="album",
                     help="what the page is coloured by at first (default: album)")  # fmt: skip
    add_json(one, "the summary as one JSON object")


def add_map_measure(kinds: Any) -> None:
    """`fc7 evaluate map`."""
    one = command(kinds, "map", evaluate, "how much of what FC7 knows the map still shows")
    one.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    one.add_argument("--labels", default="folder", metavar="LABELS",
                     help="as fc7 evaluate retrieval takes them")  # fmt: skip
    add_model(one)
    add_json(one, "as one JSON object")


def draw(options: argparse.Namespace) -> int:
    from indexer import open_library

    out = sys.stderr if options.json else sys.stdout
    with open_library(options.library, create=False) as library:
        with Stages() as tell:
            report = library.map.update(anew=options.anew, progress=tell)
        if options.json:
            print(json.dumps(asdict(report)))
        elif report.drawn:
            print(f"{report.pictures:,} pictures were placed on a new map")
        else:
            print(f"{report.placed:,} new pictures were placed among "
                  f"{report.pictures - report.placed:,}, which stayed")  # fmt: skip
        if report.outgrown:
            print(f"fc7: the map was drawn when there were {report.drawn_from:,} pictures: "
                  "fc7 map --anew draws it by all", file=sys.stderr)  # fmt: skip
        if options.html is not None:
            from ui.map_page import write_map_page

            with Progress("thumbnails") as progress:
                try:
                    inside, rest = write_map_page(options.html, library, options.colour, progress)
                except OSError as error:
                    raise LibraryError(
                        f"{options.html} can't be written: {error.strerror}"
                    ) from error
            points = f"; the other {rest:,} are points" if rest else ""
            print(f"{inside:,} photos have their thumbnails in it{points}: {shown(options.html)}",
                  file=out)  # fmt: skip
    return 0


def evaluate(options: argparse.Namespace) -> int:
    from retrieval.extractor import Extractor
    from retrieval.ground_truth import LAYOUTS
    from retrieval.map_evaluation import evaluate_map

    with Progress("bytes") as progress:
        extractor = Extractor(options.network, options.weights, options.device, progress=progress)
    labels = options.labels if options.labels in LAYOUTS else Path(options.labels)
    with Stages() as tell:
        figures = evaluate_map(options.data, labels, extractor, tell)
    if options.json:
        print(json.dumps(figures.summary()))
    else:
        print_map_figures(figures, options.data)
    return 0
