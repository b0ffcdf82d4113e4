"""The commands that draw the papers' figures, each as one SVG file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from retrieval.errors import EvaluationError, ImageError
from ui.arguments import add_library, add_model, command, svg
from ui.terminal import Progress, shown

_CARD, _TILE = 400, 264  # long sides of photos in a figure: twice their size, for fine screens


def add_figure_commands(commands: Any) -> None:
    """`fc7 figures WHAT`."""
    figures = commands.add_parser("figures", help="draw the papers' figures as SVG")
    kinds = figures.add_subparsers(required=True, metavar="WHAT")

    one = command(kinds, "kernels", kernels, "the kernels of the first layer (AlexNet, figure 3)")
    _add_out(one)
    add_model(one)

    one = command(
        kinds, "top5", top_five, "photos with their five likeliest classes (AlexNet, figure 4)"
    )
    one.add_argument("photos", nargs="+", type=Path, metavar="PHOTO",
                     help="one in a folder named as its class, or that begins with a WordNet id, "
                          "has its true class in red")  # fmt: skip
    _add_out(one)
    add_model(one)

    one = command(
        kinds, "neighbours", neighbours, "photos, each with the six nearest of a library by FC7"
    )
    one.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    _add_out(one)
    add_library(one)

    one = command(kinds, "curves", curves, "loss and errors of training runs, epoch by epoch")
    one.add_argument("runs", nargs="+", type=Path, metavar="RUN",
                     help="folders of runs of fc7 train")  # fmt: skip
    _add_out(one)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=svg, required=True, metavar="FILE.svg")


def kernels(options: argparse.Namespace) -> int:
    from retrieval.paper_figures import draw_kernels
    from retrieval.training.classifier import first_kernels
    from retrieval.weights import network_of

    network = options.network or network_of(options.weights)
    found = first_kernels(network, options.weights)
    count, depth, height, width = found.shape
    title = f"conv1 of {network}: {count} kernels of {height} × {width} × {depth}"
    return _write(options.out, draw_kernels(found, title))


def top_five(options: argparse.Namespace) -> int:
    import numpy as np

    from retrieval.class_labels import class_numbers, class_of
    from retrieval.extractor import Extractor
    from retrieval.images import frame, thumbnail
    from retrieval.labels import top_labels
    from retrieval.paper_figures import LabelledPhoto, draw_top_five

    with Progress("bytes") as progress:
        extractor = Extractor(options.network, options.weights, options.device, progress=progress)
    known = class_numbers(extractor.classes)
    labelled = []
    for photo in options.photos:
        pixels = _read(photo)
        framed = frame(pixels, extractor.framing, extractor.side)
        said = extractor.describe(framed[np.newaxis]).probabilities
        place = class_of(photo.absolute(), known)
        true = None if place is None else extractor.classes[place]
        top = tuple(top_labels(said, extractor.classes)[0])
        labelled.append(LabelledPhoto(thumbnail(pixels, _CARD), true or photo.name, top, true))
    return _write(options.out, draw_top_five(labelled))


def neighbours(options: argparse.Namespace) -> int:
    from indexer import open_library
    from retrieval.images import thumbnail
    from retrieval.paper_figures import NEIGHBOURS, draw_neighbours

    rows = []
    with open_library(options.library, create=False) as library:
        for photo in options.photos:
            hits = library.search(photo, NEIGHBOURS)
            answers = [thumbnail(_read(hit.photo.path), _TILE) for hit in hits]
            rows.append((thumbnail(_read(photo), _TILE), answers))
    return _write(options.out, draw_neighbours(rows))


def curves(options: argparse.Namespace) -> int:
    from retrieval.paper_figures import draw_curves
    from retrieval.training_log import read_log

    names = [run.resolve().name for run in options.runs]
    if len({*names}) < len(names):
        names = [str(run) for run in options.runs]
    logs = [read_log(run) for run in options.runs]
    return _write(options.out, draw_curves(dict(zip(names, logs, strict=True))))


def _read(photo: Path) -> Any:
    """The photo's pixels."""
    from retrieval.images import read_photo

    try:
        return read_photo(photo)[0]
    except ImageError as error:
        raise ImageError(f"{photo} can't be used: {error.reason}") from error


def _write(out: Path, drawing: str) -> int:
    try:
        out.write_text(drawing, encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{out} can't be written: {error.strerror}") from error
    print(shown(out))
    return 0
