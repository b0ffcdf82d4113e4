"""The command line. One function a command; each imports what it needs, so that --help is quick."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from retrieval.errors import Fc7Error
from ui.albums import add_album_commands
from ui.arguments import (
    add_catalog,
    add_device,
    add_json,
    add_library,
    add_model,
    add_new_model,
    add_store,
    command,
    numbers,
)
from ui.checking import add_check_command
from ui.drawing import add_figure_commands
from ui.duplicates import add_duplicate_commands
from ui.keeping import add_keeping_commands
from ui.mapping import add_map_command
from ui.measuring import add_measuring_commands
from ui.planning import add_plan_command
from ui.spreading import add_engine, add_load_command, index_on_ray, local_folders
from ui.terminal import (
    Progress,
    Stages,
    percent,
    print_codes_status,
    print_comparison,
    print_effort,
    print_hits,
    print_labelled,
    print_pace,
    print_report,
    print_skips,
    shown,
)
from ui.training import add_training_commands
from ui.watching import add_watch_command

if TYPE_CHECKING:
    from retrieval.labels import Prediction


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 1 with a line on stderr, 2 for wrong usage, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except Fc7Error as error:
        print(f"fc7: {shown(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fc7: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `fc7 search ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def run() -> NoReturn:
    """What `fc7` runs. It leaves at once: Python takes a second to tidy up after torch."""
    code = main()
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# --- commands


def index(options: argparse.Namespace) -> int:
    from indexer import open_library

    if options.engine == "ray":
        return index_on_ray(options)
    folders = local_folders(options)
    with (
        open_library(options.library, catalog=options.catalog, store=options.store) as library,
        Progress("photos") as progress,
    ):
        report = library.index(
            folders,
            network=options.network,
            weights=options.weights,
            device=options.device,
            prune=options.prune,
            progress=progress,
        )
        where = library.path
    if options.explain:
        print_pace(report.pace)
    print_report(report, where, as_json=options.json)
    return 0


def forget(options: argparse.Namespace) -> int:
    from indexer import open_library

    with open_library(options.library, create=False) as library:
        photos = library.forget(options.folder)
    print(f"{photos:,} photos left the library; their files are where they were")
    return 0


def search(options: argparse.Namespace) -> int:
    from indexer import Filters, open_library

    of_photos = (options.unlike, options.region, options.html, options.explain, options.mode)
    if options.label is None and not options.photos:
        options.refuse("a PHOTO or --label WORD is needed")
    if options.label is not None and (options.photos or any(of_photos)):
        options.refuse("--label WORD goes with filters, -k and --json only")
    filters = Filters(
        folder=options.folder,
        since=options.since,
        until=options.until,
        camera=options.camera,
        label=options.with_label,
        box=options.box,
    )
    with open_library(options.library, create=False) as library:
        if options.album is not None:
            filters = replace(filters, album=library.albums.get(options.album).id)
        if options.label is not None:
            labelled = library.labelled(options.label, options.k, filters=filters)
            print_labelled(labelled, as_json=options.json)
            return 0
        photo, *like = options.photos
        answer = library.answer(
            photo,
            options.k,
            like=like,
            unlike=options.unlike,
            region=options.region,
            mode=options.mode or "auto",
            filters=filters,
        )
        if options.html is not None:
            from ui.report import write_report

            write_report(options.html, photo, answer, library)
    if options.explain:
        print_effort(answer.effort)
    print_hits(answer.hits, as_json=options.json)
    return 0


def status(options: argparse.Namespace) -> int:
    from indexer import open_library

    with open_library(options.library, create=False) as library:
        now = library.status()
    if options.json:
        print(json.dumps(asdict(now), default=str))
        return 0
    print(f"library    {shown(now.path)} ({now.bytes / 1e6:,.1f} MB)")
    if now.catalog is not None:
        print(f"catalog    {shown(now.catalog)}")
    if now.store is not None:
        print(f"vectors    {shown(now.store)}")
    print(f"photos     {now.photos:,}")
    for folder in now.folders:
        gone = "" if folder.is_dir() else "  (not there now: its photos are kept)"
        print(f"folder     {shown(folder)}{gone}")
    print(f"network    {now.network or 'none yet'}, weights {now.weights or 'none yet'}")
    print_codes_status(now)
    print(f"last run   {now.last_run or 'never'}")
    print(f"skipped    {len(now.skipped):,}")
    print_skips(now.skipped, len(now.skipped))
    return 0


def train_codes(options: argparse.Namespace) -> int:
    from indexer import open_library

    with open_library(options.library, create=False) as library, Stages() as tell:
        library.train_codes(options.bits, seed=options.seed, device=options.device, progress=tell)
        now = library.status()
    print(f"{now.photos:,} photos have new codes of {options.bits} bits")
    return 0


def compare_codes(options: argparse.Namespace) -> int:
    from indexer import open_library

    with open_library(options.library, create=False) as library, Stages() as tell:
        rows = library.compare_codes(
            options.bits, seed=options.seed, device=options.device, progress=tell
        )
    print_comparison(rows, as_json=options.json)
    return 0


def browse(options: argparse.Namespace) -> int:
    from indexer import open_library
    from ui.browser import launch
    from ui.guard import is_this_machine, read_password

    asks = not is_this_machine(options.host) or options.password_file is not None
    password = read_password(options.password_file) if asks else None
    with open_library(options.library) as library:
        where = library.path
    return launch(where, options.port, not options.no_browser, options.host, password)


def networks(options: argparse.Namespace) -> int:
    from retrieval.networks import NETWORKS
    from retrieval.weights import weights_table

    table = weights_table()
    if options.json:
        for info in table:
            print(json.dumps(asdict(info), default=str))
        return 0
    print("network   weights    top-1  top-5     MB  sha256    here  source, licence")
    for info in table:
        here = "yes" if info.path is not None else "no"
        figures = f"{percent(info.top1):>6} {percent(info.top5):>6} {info.bytes / 1e6:6.1f}"
        known = f"{info.sha256[:8]:8}  {here:4}  {info.source}, {info.licence}"
        print(f"{info.network:9} {info.name:9} {figures}  {known}")
    print("top-1 and top-5 in per cent: published on ImageNet's validation set; of bundled weights")
    print("measured on 500 photos, one a class (data/weights/README.md)")
    bare = sorted(set(NETWORKS) - {info.network for info in table})
    print(f"without weights of their own, to be trained: {', '.join(bare)}")
    return 0


def labels(options: argparse.Namespace) -> int:
    import numpy as np

    from retrieval.errors import ImageError
    from retrieval.extractor import Extractor
    from retrieval.images import frame, read_photo
    from retrieval.labels import top_labels

    with Progress("bytes") as progress:
        extractor = Extractor(options.network, options.weights, options.device, progress=progress)
    failed = 0
    for photo in options.photos:
        try:
            pixels, _ = read_photo(photo)
        except ImageError as error:
            print(f"fc7: {shown(photo)} can't be used: {error.reason}", file=sys.stderr)
            failed = 1
            continue
        framed = frame(pixels, extractor.framing, extractor.side)
        described = extractor.describe(framed[np.newaxis])
        _print_labels(photo, top_labels(described.probabilities, extractor.classes)[0], options)
    return failed


def _print_labels(photo: Path, top: list[Prediction], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps({"path": str(photo), "labels": [asdict(one) for one in top]}))
        return
    print(shown(photo))
    for one in top:
        print(f"  {one.probability:6.1%}  {one.label}")


def distill(options: argparse.Namespace) -> int:
    from retrieval.training.distill import DistillSettings
    from retrieval.training.distill import distill as run
    from retrieval.training.student import StudentSettings

    student = StudentSettings(epochs=options.epochs, seed=options.seed)
    with Stages() as tell:
        report = run(
            options.folders,
            options.out,
            network=options.network,
            conv=options.conv,
            settings=DistillSettings(views=options.views, most=options.most, student=student),
            device=options.device,
            progress=tell,
        )
    print(
        f"{shown(report.weights)}: {report.bytes / 1e6:.1f} MB from {report.photos:,} photos "
        f"({report.skipped:,} skipped) in {report.seconds / 60:.0f} minutes"
    )
    print(
        "on photos held out, the teacher's first class is the student's in "
        f"{report.agreement:.1%}, among its first five in {report.agreement5:.1%}"
    )
    print(f"use it: fc7 index FOLDER --library DIR --network {report.network} "
          f"--weights {shown(report.weights)}")  # fmt: skip
    return 0


# --- the arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fc7", description="Find photos that look like this one, offline."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_library_commands(commands)
    add_watch_command(commands)
    add_check_command(commands)
    add_keeping_commands(commands)
    _add_network_commands(commands)
    add_album_commands(commands)
    add_map_command(commands)
    add_duplicate_commands(commands)
    add_training_commands(commands)
    add_measuring_commands(commands)
    add_plan_command(commands)
    add_figure_commands(commands)
    return parser


def _add_library_commands(commands: Any) -> None:
    one = command(commands, "index", index, "index photo folders: only what is new or changed")
    one.add_argument("folders", nargs="*", metavar="FOLDER",
                     help="default: every folder indexed before")  # fmt: skip
    add_library(one)
    add_catalog(one)
    add_store(one)
    add_new_model(one)
    one.add_argument("--prune", action="store_true",
                     help="forget the photos of folders that are missing or empty")  # fmt: skip
    one.add_argument("--explain", action="store_true", help="say on stderr what took the time")
    add_json(one, "the summary as one JSON object")
    add_engine(one)

    add_load_command(commands)

    one = command(commands, "forget", forget, "let a folder's photos leave the library")
    one.add_argument("folder", type=Path, metavar="FOLDER", help="its files are not touched")
    add_library(one)

    _add_search(commands)

    one = command(commands, "status", status, "what the library holds")
    add_library(one)
    add_json(one, "as one JSON object")

    codes = commands.add_parser("codes", help="binary codes, for fast search in large libraries")
    kinds = codes.add_subparsers(required=True, metavar="WHAT")
    one = command(kinds, "train", train_codes, "learn codes from this library's photos")
    one.add_argument("--bits", type=int, default=256, help="32, 64, 128, 256 (default) or 512")
    one.add_argument("--seed", type=int, default=0)
    add_library(one)
    add_device(one)

    one = command(kinds, "compare", compare_codes, "how much of exact search codes would keep")
    one.add_argument("--bits", type=int, default=256, help="32, 64, 128, 256 (default) or 512")
    one.add_argument("--seed", type=int, default=0)
    add_library(one)
    add_device(one)
    add_json(one, "one JSON object a method")

    one = command(commands, "ui", browse, "the photos in the browser, for this machine only")
    add_library(one)
    one.add_argument("--port", type=int, help="default: 8501, or the next that is free")
    one.add_argument("--no-browser", action="store_true", help="don't open the browser")
    one.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                     help="serve other machines too, at this address (0.0.0.0: at all); they are "
                     "asked for a password: $FC7_PASSWORD, or --password-file")  # fmt: skip
    one.add_argument("--password-file", type=Path, metavar="FILE",
                     help="its first line is the password; this machine is asked too then"
                     )  # fmt: skip


def _add_search(commands: Any) -> None:
    one = command(commands, "search", search, "the photos that look like this one")
    one.set_defaults(refuse=one.error)
    one.add_argument("photos", nargs="*", type=Path, metavar="PHOTO",
                     help="several are asked with at once: by the mean of them")  # fmt: skip
    one.add_argument("-k", type=int, default=10, help="how many answers (default: 10)")
    add_library(one)
    add_json(one, "one JSON object an answer")
    one.add_argument("--html", type=Path, metavar="FILE", help="write one page with thumbnails too")
    one.add_argument("--not", type=Path, nargs="+", default=[], dest="unlike", metavar="PHOTO",
                     help="and that look less like these")  # fmt: skip
    one.add_argument("--region", type=numbers, metavar="X,Y,W,H",
                     help="the part of the photo to ask with, from its upper left corner: pixels, "
                     "or shares of its sides if none is above 1")  # fmt: skip
    one.add_argument("--label", metavar="WORD",
                     help="instead of PHOTO: what the network likeliest sees in them")  # fmt: skip
    one.add_argument("--mode", choices=("auto", "exact", "codes"),
                     help="compare with all (exact), or with the nearest by code; default: auto, "
                     "codes where there are many photos")  # fmt: skip
    one.add_argument("--explain", action="store_true", help="say on stderr what was compared")
    only = one.add_argument_group("only photos that ...")
    only.add_argument("--folder", type=Path, metavar="DIR", help="lie under this folder")
    only.add_argument("--since", metavar="DATE",
                      help="were taken then or later: 2023, 2023-05 or 2023-05-17")  # fmt: skip
    only.add_argument("--until", metavar="DATE", help="were taken then or earlier")
    only.add_argument("--camera", metavar="TEXT", help="were taken by a camera of such a name")
    only.add_argument("--with-label", metavar="TEXT",
                      help="have such a word among their five likeliest classes")  # fmt: skip
    only.add_argument("--album", metavar="ALBUM", help="are in this album, by number or name")
    only.add_argument("--box", type=numbers, metavar="S,W,N,E",
                      help="were taken between these degrees; as --box=S,W,N,E if S is below 0"
                      )  # fmt: skip


def _add_network_commands(commands: Any) -> None:
    one = command(commands, "networks", networks, "every network and its weights")
    add_json(one, "one JSON object a line")

    one = command(commands, "labels", labels, "the five likeliest classes of photos")
    one.add_argument("photos", type=Path, nargs="+", metavar="PHOTO")
    add_model(one)
    add_json(one, "one JSON object a photo")

    one = command(
        commands, "distill", distill, "learn fc6, fc7 and fc8 from unlabelled photos, by a teacher"
    )
    one.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    one.add_argument("--network", required=True, choices=("alexnet", "vgg16"))
    one.add_argument("--conv", type=Path, required=True, metavar="FILE",
                     help="the convolutional layers: see data/weights/README.md")  # fmt: skip
    one.add_argument("--out", type=Path, required=True, metavar="FILE",
                     help="the result, .safetensors; a run cut off goes on from there")  # fmt: skip
    one.add_argument("--views", type=int, default=5, help="of each photo (default: 5)")
    one.add_argument("--most", type=int, help="photos of each folder (default: all)")
    one.add_argument("--epochs", type=int, default=40, help="default: 40")
    one.add_argument("--seed", type=int, default=0)
    add_device(one)


if __name__ == "__main__":
    run()
