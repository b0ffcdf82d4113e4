"""`fc7 check` compares a library with its checksums, and mends it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ui.arguments import add_json, add_library, command
from ui.terminal import Progress, shown


def add_check_command(commands: Any) -> None:
    """`fc7 check`."""
    one = command(commands, "check", check, "whether a library is as it was written")
    one.add_argument("--repair", action="store_true",
                     help="mend what can be had again, from the photos and the rest"
                     )  # fmt: skip
    add_library(one)
    add_json(one, "as one JSON object")


def check(options: argparse.Namespace) -> int:
    """1 if something is damaged still."""
    from indexer.checking import check as look
    from indexer.library import default_path
    from indexer.repairing import repair

    library = options.library or default_path()
    notes: tuple[str, ...] = ()
    with Progress("segments") as progress:
        if options.repair:
            done = repair(library, progress)
            before, after, notes = done.before, done.after, done.notes
        else:
            before = after = look(library, progress)
    left = [one.line for one in after.problems]
    mended = [one.line for one in before.problems if one.line not in left]
    if options.json:
        counts = {"photos": after.photos, "segments": after.segments, "contents": after.contents}
        print(json.dumps(counts | {"problems": left, "mended": mended, "notes": notes}))
        return 1 if left else 0
    for what, lines in (("mended", mended), ("note", notes), ("damaged", left)):
        for line in lines:
            print(f"{what:10} {shown(line)}")
    if not left:
        print(f"{after.photos:,} photos, {after.contents:,} descriptors and thumbnails in "
              f"{after.segments:,} segments: all as it was written")  # fmt: skip
    elif options.repair:
        print("what is still damaged can't be had again: fc7 restore a backup, or delete the "
              "library and index again")  # fmt: skip
    else:
        print("fc7 check --repair mends what can be had again")
    return 1 if left else 0
