"""What the arguments of several commands have in common, and how their texts become values."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    """Add a command that calls `run` with its options. what: a line of help, small first letter."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + "."
    )
    parser.set_defaults(run=run)
    return parser


def add_library(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--library", type=Path, metavar="DIR",
                         help="default: $FC7_LIBRARY, else in your data folder")  # fmt: skip


def add_catalog(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--catalog", metavar="URL",
                         help="of a new library: keep what is known of the photos in this "
                         "PostgreSQL database, postgresql+psycopg://USER@HOST/DATABASE; password: "
                         "$PGPASSWORD or ~/.pgpass")  # fmt: skip


def add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="ADDRESS",
                         help="of a new library: keep its descriptors and codes on this Milvus "
                         "server, milvus://HOST:PORT[/NAME][?replicas=2&shards=2], or in a file of "
                         "milvus-lite, FILE.db; user:password: $FC7_MILVUS_TOKEN")  # fmt: skip


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network",
                         help="alexnet (default), vgg16, ...; weights of your own name theirs"
                         )  # fmt: skip
    parser.add_argument("--weights", default="bundled", metavar="NAME|FILE|RUN",
                         help="bundled (default), imagenet, a file, or the folder of a run of "
                         "fc7 train")  # fmt: skip
    add_device(parser)


def add_new_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network",
                         help="of a new library: alexnet (default), vgg16, ...; weights of your "
                         "own name theirs")  # fmt: skip
    parser.add_argument("--weights", metavar="NAME|FILE|RUN",
                         help="of a new library: bundled (default), imagenet, a file, or the "
                         "folder of a run of fc7 train")  # fmt: skip
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=what)


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def large_count(text: str) -> int:
    """A whole number from 1 to 1e15, as people write large ones: 1e9, 100M, 1_000_000."""
    found = re.fullmatch(
        r"([\d_]+(?:\.\d+)?(?:e\d{1,2})?)([kMGB]?)", text, re.ASCII | re.IGNORECASE
    )
    value = Decimal(0)
    if found:
        with suppress(InvalidOperation):
            value = Decimal(found[1].replace("_", "")) * _SUFFIXES[found[2].upper()]
    if not 1 <= value <= 10**15 or value % 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number like 1e9, 100M, 1_000_000")
    return int(value)


def seconds(text: str) -> float:
    """A time from a tenth of a second to a day."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds, 0.1 to 86400")
    return value


def lengths(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not numbers like 64,128") from None


def svg(text: str) -> Path:
    """A file's name that ends in .svg, in a folder that is there."""
    path = Path(text)
    if path.suffix.lower() != ".svg":
        raise argparse.ArgumentTypeError(f"{text} is not a name like figure.svg")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no folder {path.parent}")
    return path


def numbers(text: str) -> tuple[float, ...]:
    """Four numbers with commas between."""
    try:
        x, y, z, w = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not four numbers with commas between"
        ) from None
    return x, y, z, w
