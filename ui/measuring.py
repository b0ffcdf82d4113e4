"""The commands that measure: how well fc7 finds, and how fast it is on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from retrieval.errors import BenchError, EvaluationError
from ui.arguments import add_json, add_library, add_model, command, count, lengths, svg
from ui.classifying import add_class_measures
from ui.duplicates import add_copy_measures
from ui.mapping import add_map_measure
from ui.terminal import (
    Progress,
    Stages,
    print_album_figures,
    print_bench_search_head,
    print_bench_search_row,
    print_claims,
    print_evaluation,
    print_indexing,
    print_looks,
    print_start,
)


def add_measuring_commands(commands: Any) -> None:
    """`fc7 evaluate WHAT` and `fc7 bench WHAT`."""
    one = commands.add_parser("evaluate", help="measure on labelled photos")
    _add_evaluations(one.add_subparsers(required=True, metavar="WHAT"))
    one = commands.add_parser("bench", help="measure speed on this machine")
    _add_benches(one.add_subparsers(required=True, metavar="WHAT"))


def _add_evaluations(kinds: Any) -> None:
    one = command(kinds, "retrieval", evaluate_retrieval, "how well search finds what belongs")
    one.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    one.add_argument("--labels", default="folder", metavar="LABELS",
                     help="folder: the names of folders; ukbench, holidays, corel: numbered "
                          "as published; FILE.csv with path,label; a folder of *_query.txt: "
                          "Oxford5k, Paris6k")  # fmt: skip
    one.add_argument("--bits", type=lengths, default=(), metavar="64,128,...",
                     help="measure codes of these lengths too (32 to 512)")  # fmt: skip
    one.add_argument("--learn-from", type=Path, metavar="FOLDER",
                     help="photos to learn codes from (default: those evaluated, which "
                          "flatters the codes)")  # fmt: skip
    one.add_argument("--plot", type=svg, metavar="FILE.svg", help="draw what codes do")
    add_model(one)
    add_json(one, "as one JSON object")

    one = command(
        kinds, "albums", evaluate_albums, "how well grouping finds the groups people made"
    )
    one.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    one.add_argument("--labels", default="folder", metavar="LABELS",
                     help="as fc7 evaluate retrieval takes them")  # fmt: skip
    one.add_argument("--granularity", type=float, default=0.5, metavar="G",
                     help="of grouping by density (default: 0.5)")  # fmt: skip
    add_model(one)
    add_json(one, "as one JSON object")

    add_map_measure(kinds)
    add_class_measures(kinds)
    add_copy_measures(kinds)


def _add_benches(kinds: Any) -> None:
    one = command(
        kinds, "index", bench_index, "indexing, beside the plain torchvision loop and the limit"
    )
    one.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    one.add_argument("--most", type=count, default=1000, metavar="N",
                     help="photos, evenly chosen and copied aside (default: 1000)")  # fmt: skip
    one.add_argument("--rounds", type=count, default=3, metavar="N", help="default: 3")
    one.add_argument("--batch", type=count, default=32, metavar="N",
                     help="of the plain loop (default: 32)")  # fmt: skip
    one.add_argument("--plot", type=svg, metavar="FILE.svg", help="draw the rates")
    add_model(one)
    add_json(one, "as one JSON object")

    one = command(kinds, "search", bench_search, "how search grows with the number of photos")
    one.add_argument("--photos", type=int, default=100_000,
                     help="of the largest library (default: 100,000; 9 KB of temporary files "
                          "each)")  # fmt: skip
    one.add_argument("--data", type=Path, metavar="FOLDER",
                     help="photos whose descriptors are mixed into so many (default: the sample "
                          "gallery)")  # fmt: skip
    one.add_argument("--plot", type=svg, metavar="FILE.svg", help="draw how it grows")
    add_model(one)
    add_json(one, "as one JSON object")

    one = command(kinds, "start", bench_start, "what a fresh process takes to help and to answer")
    add_library(one)
    one.add_argument("--photo", type=Path, metavar="PHOTO",
                     help="to ask with (default: one of the library)")  # fmt: skip
    one.add_argument("--rounds", type=count, default=5, metavar="N", help="default: 5")
    add_json(one, "as one JSON object")

    one = command(kinds, "browser", bench_browser, "how quick the pages are, in a real Chromium")
    one.add_argument("--photos", type=count, default=100_000, metavar="N",
                     help="of the drawn library (default: 100,000; 25 KB of temporary files each)"
                     )  # fmt: skip
    one.add_argument("--rounds", type=count, default=5, metavar="N", help="default: 5")
    add_json(one, "as one JSON object")

    one = command(
        kinds, "claims", bench_claims, "AlexNet's section 3, tried small: ReLU, LRN, pooling"
    )
    one.add_argument("--data", type=Path, required=True, metavar="FOLDER",
                     help="CIFAR-10, as train and test folders of class folders")  # fmt: skip
    one.add_argument("--photos", type=count, default=50_000, metavar="N",
                     help="that train (default: 50,000)")  # fmt: skip
    one.add_argument("--epochs", type=count, default=10, metavar="N",
                     help="where errors are compared (default: 10)")  # fmt: skip
    one.add_argument("--seeds", type=count, default=3, metavar="N", help="default: 3")
    add_json(one, "as one JSON object")


def evaluate_retrieval(options: argparse.Namespace) -> int:
    from retrieval.evaluation import evaluate_retrieval as evaluate
    from retrieval.extractor import Extractor
    from retrieval.figures import draw_codes
    from retrieval.ground_truth import LAYOUTS

    if options.plot and not options.bits:
        raise EvaluationError("a figure shows codes: say how long with --bits, as --bits 64,128")
    with Progress("bytes") as progress:
        extractor = Extractor(options.network, options.weights, options.device, progress=progress)
    with Stages() as tell:
        figures = evaluate(
            options.data,
            options.labels if options.labels in LAYOUTS else Path(options.labels),
            extractor,
            tell,
            bits=options.bits,
            learn_from=options.learn_from,
        )
    if options.json:
        print(json.dumps(figures.summary()))
    else:
        print_evaluation(figures, options.data)
    if options.plot:
        _write(options.plot, draw_codes(figures))
    return 0


def evaluate_albums(options: argparse.Namespace) -> int:
    from retrieval.album_evaluation import evaluate_albums as evaluate
    from retrieval.extractor import Extractor
    from retrieval.ground_truth import LAYOUTS

    if not 0 <= options.granularity <= 1:
        raise EvaluationError(f"a granularity of {options.granularity:g}: give 0 to 1")
    with Progress("bytes") as progress:
        extractor = Extractor(options.network, options.weights, options.device, progress=progress)
    labels = options.labels if options.labels in LAYOUTS else Path(options.labels)
    with Stages() as tell:
        figures = evaluate(options.data, labels, extractor, tell, granularity=options.granularity)
    if options.json:
        print(json.dumps(figures.summary()))
    else:
        print_album_figures(figures, options.data)
    return 0


def bench_index(options: argparse.Namespace) -> int:
    from indexer.bench.indexing import draw_indexing, measure_indexing

    with Stages() as tell:
        figures = measure_indexing(
            options.photos,
            network=options.network,
            weights=options.weights,
            device=options.device,
            most=options.most,
            rounds=options.rounds,
            batch=options.batch,
            progress=tell,
        )
    print_indexing(figures, options.photos, as_json=options.json)
    if options.plot:
        _write(options.plot, draw_indexing(figures))
    return 0


def bench_search(options: argparse.Namespace) -> int:
    from indexer.bench.search import bench_search as bench
    from retrieval.extractor import Extractor
    from retrieval.figures import draw_search
    from retrieval.shipped import shipped

    folder = options.data or shipped("gallery")
    if folder is None:
        raise BenchError("the sample gallery is not here: name a folder of photos with --data")
    with Progress("bytes") as progress:
        extractor = Extractor(options.network, options.weights, options.device, progress=progress)
    rows = []
    if not options.json:
        print_bench_search_head(options.photos, extractor.network, folder)
    with Stages() as tell:
        for row in bench(options.photos, folder, extractor, tell):
            rows.append(row)
            if not options.json:
                print_bench_search_row(row)
    if options.json:
        print(json.dumps({"rows": [row.summary() for row in rows]}))
    if options.plot:
        points = [(r.photos, r.exact_ms, r.codes_ms, r.recall_at_10) for r in rows]
        _write(options.plot, draw_search(points))
    return 0


def bench_start(options: argparse.Namespace) -> int:
    from indexer.bench.start import measure_start

    with Stages() as tell:
        figures = measure_start(
            options.library, options.photo, rounds=options.rounds, progress=tell
        )
    print_start(figures, as_json=options.json)
    return 0


def bench_browser(options: argparse.Namespace) -> int:
    from ui.looking import bench_browser as bench

    with Stages() as tell:
        figures = bench(options.photos, rounds=options.rounds, progress=tell)
    print_looks(figures, as_json=options.json)
    return 0


def _write(plot: Path, text: str) -> None:
    try:
        plot.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{plot} can't be written: {error.strerror}") from error


def bench_claims(options: argparse.Namespace) -> int:
    from retrieval.training.claims import measure_claims, read_squares
    from retrieval.training.split import find_photos

    photos = find_photos(options.data)
    claims = measure_claims(
        read_squares(photos, "train", options.photos),
        read_squares(photos, "val", 10_000),
        seeds=options.seeds,
        epochs=options.epochs,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print_claims(claims, as_json=options.json)
    return 0
