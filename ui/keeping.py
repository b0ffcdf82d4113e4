"""`fc7 backup` saves a library in one file; `fc7 restore` makes it anew."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ui.arguments import add_library, command
from ui.terminal import Progress, shown


def add_keeping_commands(commands: Any) -> None:
    """`fc7 backup` and `fc7 restore`."""
    one = command(commands, "backup", backup, "save the library in one file, also while it is used")
    one.add_argument("file", type=Path, metavar="FILE",
                     help="a new file; your photos are not in it")  # fmt: skip
    add_library(one)

    one = command(commands, "restore", restore, "make the library anew of a backup")
    one.add_argument("file", type=Path, metavar="FILE", help="what fc7 backup made")
    add_library(one)


def backup(options: argparse.Namespace) -> int:
    from indexer.backup import back_up
    from indexer.library import default_path

    library = options.library or default_path()
    with Progress("bytes") as progress:
        report = back_up(library, options.file, progress)
    print(f"{shown(options.file)}: {report.photos:,} photos of {shown(library)}, "
          f"{report.bytes / 1e6:,.1f} MB in {report.files:,} files")  # fmt: skip
    return 0


def restore(options: argparse.Namespace) -> int:
    from indexer.backup import restore as make_anew
    from indexer.library import default_path

    library = options.library or default_path()
    with Progress("bytes") as progress:
        report = make_anew(options.file, library, progress)
    print(f"{shown(library)}: {report.photos:,} photos, as of {shown(report.made)}, "
          f"{report.bytes / 1e6:,.1f} MB in {report.files:,} files")  # fmt: skip
    return 0
