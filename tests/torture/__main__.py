"""Run the parts named, or all; print a row as each thing is done, and the log of them all."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from pathlib import Path

from torture.table import HEAD

PARTS = ("flips", "killed", "power", "places", "images", "fuzzing", "elsewhere", "together",
         "backups", "soak", "load")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="torture")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--share", type=float, default=1.0, help="of the times of a whole run")
    parser.add_argument("--log", type=Path, help="add the rows to this file too")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    # In the background of a script it ignores Ctrl-C, and what it starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lost = 0
    print(HEAD, flush=True)
    for part in options.parts or PARTS:
        begun = time.monotonic()
        for row in importlib.import_module(f"torture.{part}").rows(options.share):
            lost += row.lost
            print(row.line(), flush=True)
            if options.log is not None:
                with options.log.open("a", encoding="utf-8") as log:
                    log.write(row.line() + "\n")
        print(f"{part}: {(time.monotonic() - begun) / 60:.1f} minutes", file=sys.stderr, flush=True)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
