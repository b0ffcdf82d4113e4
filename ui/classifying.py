"""The commands that measure classes: how often a network names the right one."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.errors import EvaluationError
from ui.arguments import add_device, add_json, add_model, command, count
from ui.terminal import Progress, Stages, shown

if TYPE_CHECKING:
    from retrieval.classification import ClassifierFigures
    from retrieval.training.linear import LinearFigures

_CROPS = ("centre", "ten", "dense", "multi", "multi+dense")  # retrieval.classification.CROPS
_CONFUSED = 10  # pairs printed


def add_class_measures(kinds: Any) -> None:
    """`fc7 evaluate classifier` and `fc7 evaluate linear`."""
    one = command(kinds, "classifier", evaluate_classifier, "how often the right class is named")
    one.add_argument("--data", type=Path, required=True, metavar="FOLDER|LIST",
                     help="of class folders, named as the weights name their classes; ImageNet's "
                          "may be WordNet ids (n01440764); or a run's data.csv: what validates"
                     )  # fmt: skip
    one.add_argument("--labels", type=Path, metavar="FILE",
                     help="for a folder without class folders: a CSV file with path,label; lines "
                          "of a name and a class; or ILSVRC2012_validation_ground_truth.txt"
                     )  # fmt: skip
    one.add_argument("--network", help="alexnet (default), vgg16, ...; weights of your own name "
                                       "theirs")  # fmt: skip
    one.add_argument("--weights", nargs="+", default=["bundled"], metavar="NAME|FILE|RUN",
                     help="bundled (default), imagenet, a file, or the folder of a run of fc7 "
                          "train; as NETWORK:NAME for another network; several are averaged too"
                     )  # fmt: skip
    one.add_argument("--crops", nargs="+", choices=_CROPS, default=["centre"], metavar="WAY",
                     help="centre (default), ten (AlexNet), dense, multi, multi+dense (VGG); "
                          "several give a table")  # fmt: skip
    one.add_argument("--scales", nargs="+", type=count, default=(), metavar="PIXELS",
                     help="of the short side (default: 256); several are averaged too; VGG: "
                          "224 256 288, after jittered training 256 384 512")  # fmt: skip
    one.add_argument("--confusion", type=Path, metavar="FILE.csv",
                     help="write the last row's confusion matrix")  # fmt: skip
    add_device(one)
    add_json(one, "as one JSON object")

    one = command(kinds, "linear", evaluate_linear, "a linear classifier on FC7 (Caltech-101)")
    one.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of class folders")
    one.add_argument("--train", type=count, default=30, metavar="N",
                     help="photos a class to learn from (default: 30); at most 50 of the others "
                          "are tested")  # fmt: skip
    one.add_argument("--splits", type=count, default=5, metavar="N",
                     help="how often they are drawn (default: 5)")  # fmt: skip
    add_model(one)
    add_json(one, "as one JSON object")


def evaluate_classifier(options: argparse.Namespace) -> int:
    from retrieval.class_labels import read_classes
    from retrieval.classification import evaluate_classifier as evaluate
    from retrieval.networks import NETWORKS
    from retrieval.training.classifier import Classifier

    classifiers = []
    for given in options.weights:
        network, colon, weights = given.partition(":")
        named = (network, weights) if colon and network in NETWORKS else (options.network, given)
        with Progress("bytes") as progress:
            classifiers.append(Classifier(*named, options.device, progress=progress))
    photos = read_classes(options.data, classifiers[0].classes, options.labels)
    with Stages() as tell:
        figures = evaluate(photos, classifiers, options.crops, options.scales, tell)
    if options.confusion:
        _write_confusion(options.confusion, figures)
    if options.json:
        print(json.dumps(figures.summary()))
    else:
        _print_classifier(figures, options.data)
    return 0


def evaluate_linear(options: argparse.Namespace) -> int:
    from retrieval.extractor import Extractor
    from retrieval.training.linear import evaluate_linear as evaluate

    with Progress("bytes") as progress:
        extractor = Extractor(options.network, options.weights, options.device, progress=progress)
    with Stages() as tell:
        figures = evaluate(
            options.data, extractor, train=options.train, splits=options.splits, progress=tell
        )
    if options.json:
        print(json.dumps(figures.summary()))
    else:
        _print_linear(figures, options.data)
    return 0


def _print_classifier(figures: ClassifierFigures, data: Path) -> None:
    print(f"{shown(data)}: {figures.photos:,} photos, {len(figures.classes):,} classes"
          f"{_left_out(len(figures.skipped))}; per cent")  # fmt: skip
    names = [" + ".join(row.networks) for row in figures.rows]
    scales = [", ".join(map(str, row.scales)) for row in figures.rows]
    wide = max(7, *map(len, names))
    high = max(6, *map(len, scales))
    print(f"{'network':{wide}}  {'crops':11}  {'scales':{high}}   top-1   top-5  error-1  error-5"
          "  mean class")  # fmt: skip
    for name, scale, row in zip(names, scales, figures.rows, strict=True):
        errors = (row.top1_error, row.top5_error)
        right = "".join(f"{100 * (1 - error):8.2f}" for error in errors)
        wrong = "".join(f"{100 * error:9.2f}" for error in errors)
        mean = f"{100 * row.mean_class_accuracy:12.2f}"
        print(f"{shown(name):{wide}}  {row.crops:11}  {scale:{high}}{right}{wrong}{mean}")
    confused = figures.confused(_CONFUSED)
    if confused:
        last = " of the last row" if len(figures.rows) > 1 else ""
        print(f"most often confused{last}:")
        for true, taken, photos in confused:
            print(f"  {photos:5,}  {shown(true)} taken for {shown(taken)}")


def _print_linear(figures: LinearFigures, data: Path) -> None:
    print(f"{figures.network}, {figures.weights} weights, {shown(data)}: {figures.photos:,} photos,"
          f" {figures.classes:,} classes{_left_out(len(figures.skipped))}")  # fmt: skip
    print(f"logistic regression on unit FC7; {figures.train} photos a class to learn from, at most "
          f"{figures.most_tested} of the others tested")  # fmt: skip
    print("split  mean class accuracy  penalty")
    for seed, split in enumerate(figures.splits):
        print(f"{seed:5}  {split.accuracy:19.4f}  {split.strength:7.0e}")
    print(f"mean   {figures.mean:19.4f}  standard deviation {figures.deviation:.4f}")


def _left_out(skipped: int) -> str:
    return f", {skipped:,} files skipped (--json lists them)" if skipped else ""


def _write_confusion(file: Path, figures: ClassifierFigures) -> None:
    try:
        with file.open("w", encoding="utf-8", newline="") as opened:
            rows = csv.writer(opened)
            rows.writerow(["true class", *figures.classes])
            for name, cells in zip(figures.classes, figures.rows[-1].confusion, strict=True):
                rows.writerow([name, *cells.tolist()])
    except OSError as error:
        raise EvaluationError(f"{file} can't be written: {error.strerror}") from error
