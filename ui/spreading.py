"""`fc7 index --engine ray` and `fc7 load`: indexing on many machines, and taking it in."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.arguments import add_catalog, add_json, add_library, add_store, command
from ui.terminal import Progress, print_reasons, shown

if TYPE_CHECKING:
    from collections.abc import Sequence


def add_engine(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fc7 index` that spread it over machines."""
    parser.set_defaults(refuse=parser.error)
    group = parser.add_argument_group("on many machines")
    group.add_argument("--engine", choices=("local", "ray"), default="local",
                       help="what does the work: this process (default), or a Ray cluster, which "
                       "writes shards for fc7 load; FOLDER may be s3://bucket/photos then"
                       )  # fmt: skip
    group.add_argument("--shards", metavar="DIR",
                       help="with --engine ray: where its output goes, a folder or an address that "
                       "every machine can write to; a run cut off goes on from there"
                       )  # fmt: skip
    group.add_argument("--address", metavar="HOST:PORT",
                       help="with --engine ray: of the cluster; auto: the one running here; "
                       "default: this machine alone")  # fmt: skip


def add_load_command(commands: Any) -> None:
    """`fc7 load`."""
    one = command(commands, "load", load, "fill a library from the shards of --engine ray")
    one.add_argument("shards", metavar="SHARDS", help="what --shards named")
    add_library(one)
    add_catalog(one)
    add_store(one)
    add_json(one, "the summary as one JSON object")


def local_folders(options: argparse.Namespace) -> list[Path]:
    """The folders of `fc7 index` where this process does the work."""
    if options.shards is not None or options.address is not None:
        options.refuse("--shards and --address go with --engine ray")
    far = next((folder for folder in options.folders if "://" in folder), None)
    if far is not None:
        options.refuse(f"{far} is no folder of this machine: --engine ray reads such addresses")
    return [Path(folder) for folder in options.folders]


def index_on_ray(options: argparse.Namespace) -> int:
    from indexer.spreading import extract

    if options.shards is None:
        options.refuse("--engine ray needs --shards DIR: where its output goes")
    if options.library or options.catalog or options.store or options.prune or options.explain:
        options.refuse(
            "--library, --catalog and --store go with fc7 load then, --prune and --explain with "
            "neither"
        )
    with Progress("photos") as progress:
        report = extract(
            options.folders,
            options.shards,
            network=options.network,
            weights=options.weights,
            device=options.device,
            address=options.address,
            progress=progress,
        )
    _print_unreadable(report.unreadable)
    skipped = sum(report.skipped.values())
    if options.json:
        counts = {"files": report.files, "photos": report.files - skipped, "skipped": skipped}
        made = {"shards": report.shards, "made_now": report.shards - report.before}
        print(json.dumps(counts | made | {"skipped_reasons": report.skipped}))
        return 0
    print(
        f"{report.files - skipped:,} photos, {skipped:,} skipped; shards: {report.shards:,}, "
        f"{report.shards - report.before:,} of them made now"
    )
    print_reasons(report.skipped)
    print(f"take them into a library: fc7 load {shown(options.shards)}")
    return 0


def load(options: argparse.Namespace) -> int:
    from indexer import open_library

    with (
        open_library(options.library, catalog=options.catalog, store=options.store) as library,
        Progress("photos") as progress,
    ):
        report = library.load(options.shards, progress=progress)
        where = library.path
    _print_unreadable(report.unreadable)
    if report.missing:
        print(
            f"fc7: {report.missing:,} of {report.missing + report.shards:,} shards are not made "
            "yet: go on with fc7 index --engine ray, then load again",
            file=sys.stderr,
        )
    if report.remote:
        print(
            "fc7: photos at addresses are found and shown by their thumbnails; this machine can't "
            "open the originals",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps(report.counts() | {"shards": report.shards, "missing": report.missing}))
        return 0
    print(", ".join(f"{count:,} {name}" for name, count in report.counts().items()))
    print(f"library: {shown(where)}")
    return 0


def _print_unreadable(folders: Sequence[tuple[str, str]]) -> None:
    for folder, why in folders:
        print(f"fc7: {shown(folder)} can't be listed: {why}", file=sys.stderr)
