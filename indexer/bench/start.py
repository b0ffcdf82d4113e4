"""What people wait for before anything happens: fresh processes, timed from outside."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from indexer.library import default_path, open_library
from retrieval.errors import BenchError

_OPEN = (
    "import sys, pathlib, indexer\n"
    "with indexer.open_library(pathlib.Path(sys.argv[1]), create=False) as library:\n"
    "    library.count()\n"
)


@dataclass(frozen=True, slots=True)
class StartFigures:
    """What `fc7 bench start` shows: seconds of whole processes, medians."""

    photos: int  # of the library
    rounds: int
    help: float  # fc7 --help
    opening: float  # Python, opening the library, closing it
    known: float  # fc7 search with a photo of the library, whose descriptor is stored
    new: float  # fc7 search with one that is not: the network is loaded too


def measure_start(
    library: Path | None,
    photo: Path | None = None,
    *,
    rounds: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> StartFigures:
    """Time fresh processes, in turn, several rounds after one that doesn't count.

    library: None is the default one.
    photo: to ask with; None takes one of the library that is still there.

    Raises LibraryError if there is no such library, BenchError if a command fails.
    """
    where = library or default_path()
    with open_library(where, create=False) as opened:
        photos = opened.count()
        photo = photo or next((p.path for p in opened.photos() if p.path.is_file()), None)
    if photo is None:
        raise BenchError(f"none of the first photos of {where} is there: name one with --photo")
    with TemporaryDirectory(prefix="fc7-bench-") as place:
        new = Path(place) / photo.name
        new.write_bytes(photo.read_bytes() + b"\n")  # the same picture, but nobody knows the file
        fc7 = (sys.executable, "-P", "-m", "ui.cli")
        search = (*fc7, "search", "--library", str(where))
        commands = (
            (*fc7, "--help"),
            (sys.executable, "-P", "-c", _OPEN, str(where)),
            (*search, str(photo)),
            (*search, str(new)),
        )
        times: list[list[float]] = [[] for _ in commands]
        for done in range(rounds + 1):
            for command, its_times in zip(commands, times, strict=True):
                its_times.append(_seconds(command))
            if progress:
                progress("rounds", done, rounds)
    return StartFigures(photos, rounds, *(statistics.median(one[1:]) for one in times))


def _seconds(command: tuple[str, ...]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{' '.join(command[3:])} failed: {done.stderr.strip()}")
    return time.perf_counter() - start
