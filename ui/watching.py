"""`fc7 watch` keeps a library in step with its folders, and tells of it a line a round."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ui.arguments import add_catalog, add_json, add_library, add_new_model, command, seconds
from ui.terminal import Progress, print_skips, shown

if TYPE_CHECKING:
    from indexer.watching import Round

_NAMED_SKIPS = 20  # paths


def add_watch_command(commands: Any) -> None:
    """`fc7 watch`."""
    one = command(commands, "watch", watch, "index photo folders, and go on as they change")
    one.add_argument("folders", nargs="*", type=Path, metavar="FOLDER",
                     help="default: every folder indexed before")  # fmt: skip
    add_library(one)
    add_catalog(one)
    add_new_model(one)
    one.add_argument("--settle", type=seconds, default=3.0, metavar="SECONDS",
                     help="that folders must be quiet, and a file unchanged, before it is read "
                     "(default: 3)")  # fmt: skip
    one.add_argument("--poll", type=seconds, metavar="SECONDS",
                     help="look so often instead of waiting for the system's word (default: 10, "
                     "and only on network drives and where the system can't tell)")  # fmt: skip
    add_json(one, "one JSON object a round")


def watch(options: argparse.Namespace) -> int:
    """Until Ctrl-C or SIGTERM, which are how it is meant to end: 0."""
    from indexer import open_library
    from indexer.watching import Notice, watch_folders

    bar = Progress("photos")
    try:
        with (
            _terminated_as_interrupted(),
            open_library(options.library, catalog=options.catalog) as library,
        ):
            rounds = watch_folders(
                library,
                options.folders,
                settle=options.settle,
                poll=options.poll,
                network=options.network,
                weights=options.weights,
                device=options.device,
                progress=bar.tell,
            )
            with closing(rounds):
                for event in rounds:
                    bar.close()
                    if isinstance(event, Notice):
                        print(f"fc7: {shown(event.text)}", file=sys.stderr, flush=True)
                    else:
                        _print_round(event, as_json=options.json)
    except KeyboardInterrupt:
        bar.close()
        print("fc7: stopped; the same command goes on from here", file=sys.stderr)
    return 0


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does: what is not committed is left undone."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_round(one: Round, *, as_json: bool) -> None:
    report, now = one.report, datetime.now().astimezone()
    counts = {
        name: getattr(report, name) for name in ("added", "updated", "moved", "removed", "later")
    }
    if as_json:
        skips = [{"path": str(skip.path), "reason": skip.reason} for skip in one.new_skips]
        line = {
            "at": now.isoformat(timespec="seconds"),
            **counts,
            "unchanged": report.unchanged,
            "new_skips": skips,
            "missing_folders": [str(folder) for folder in report.missing_folders],
        }
        print(json.dumps(line), flush=True)
        return
    counts["left for later"] = counts.pop("later")
    counts["skipped"] = len(one.new_skips)
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    print(f"{now:%H:%M} {told or f'{report.unchanged:,} unchanged'}")
    print_skips(one.new_skips, _NAMED_SKIPS)
    sys.stdout.flush()
