"""An hour of use: one `fc7 ui` and one `fc7 watch`, photos that come and go, a browser, a terminal.

What both processes take is written down every half minute. It is level if the last quarter of the
time takes no more than the second: the first is for what is loaded once.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

from serving import HOUSE

from indexer import open_library
from retrieval.extractor import Extractor
from torture.changing import damage_of
from torture.servers import Running, Sample, sample, server_of
from torture.soaking import Contents, ask_on, browse_on, change_on, fetch_on, run_on
from torture.states import is_right, keep_log, read_states
from torture.table import Row

PART = "soak"
LOG = "FC7_SOAK_LOG"  # names the file of the samples
PHOTOS = 1_050  # codes are learned from a thousand
_WATCH = """
import sys
from pathlib import Path
from torture.states import tell_commits
from ui.cli import run
tell_commits(Path(sys.argv.pop(1)))
run()
"""
_SECONDS = 3600.0
_EVERY = 30.0
_SAMPLES = 24  # at least, however short the soak is
_KEPT = 150.0  # seconds; Streamlit keeps the session of a closed window for two minutes
# What a level process may differ by between two quarters, as a share. Handles and threads go with
# how many visitors there happened to be in the last two minutes.
_SLACK = {"rss": 0.05, "anonymous": 0.05, "handles": 0.25, "threads": 0.25, "children": 0.25}
_LEAST_SLACK = 4  # of each, in MB or in number


def rows(share: float) -> Iterator[Row]:
    seconds = max(60.0, _SECONDS * share)
    with tempfile.TemporaryDirectory(prefix="fc7-soak-") as place:
        yield from soak(Path(place), seconds)


def soak(home: Path, seconds: float, photos: int = PHOTOS) -> Iterator[Row]:
    """Use it for so long; rows of what was done, and of what each process took."""
    contents = Contents(home / "photos", photos, Extractor(device="cpu"))
    path, over = home / "library", Event()
    with open_library(path) as library:
        library.index([contents.folder])
        library.map.update()
        library.albums.group()
    keep_log(path)
    watch = Running(_start_watch(path, contents.folder))
    with server_of(path) as (address, server):
        pids = {"fc7 ui": server.process.pid, "fc7 watch": watch.process.pid}
        jobs: dict[str, Callable[[], tuple[int, list[str]]]] = {
            "changes of photos": lambda: change_on(contents, over),
            "visits of pages": lambda: browse_on(address, path, contents, over),
            "pictures fetched": lambda: fetch_on(address, path, over),
            "commands of a terminal": lambda: run_on(path, over),
        }
        with ThreadPoolExecutor(len(jobs) + 1) as threads:
            doing = {what: threads.submit(job) for what, job in jobs.items()}
            asking = threads.submit(ask_on, path, contents, over)
            samples = take_samples(pids, seconds)
            over.set()
            done = {what: job.result() for what, job in doing.items()}
            asked, errors = asking.result()
        ends = {"fc7 ui": server.stop(), "fc7 watch": watch.stop()}
    faults = [f"{name}: {fault}" for name, told in ends.items() for fault in told]
    for what, (tried, wrong) in done.items():
        yield _row(what, tried, wrong)
    states = read_states(path)
    wrong = [one for one in asked if not is_right(one, states, contents.truth)]
    lost = errors + [f"wrong: {one}" for one in wrong]
    yield _row("answers of a library opened before", len(asked), lost, f"{len(states):,} states")
    errors = faults + damage_of(path) + _out_of_step(path, contents.folder)
    yield _row("faults that they told of, or left", len(pids), errors)
    write_samples(samples)
    for name, own in samples.items():
        grown = {what: told for what in _SLACK if (told := growth(own, what))}
        for what, text in grown.items():
            print(f"{name}: {what} grew {text}", file=sys.stderr)
        # In a shorter quarter no session has ended yet.
        judged = len(grown) if seconds / 4 > _KEPT else 0
        note = "" if seconds / 4 > _KEPT else " (too short a time to judge)"
        yield Row(PART, f"{name}: is it level?", len(own), judged, _figures(own) + note)


def _row(what: str, tried: int, errors: Sequence[str], note: str = "") -> Row:
    for error in dict.fromkeys(errors):
        print(error, file=sys.stderr)
    return Row(PART, what, tried, len(errors), note)


def _start_watch(path: Path, folder: Path) -> subprocess.Popen[str]:
    """The real one, in a process that also tells the log of its commits; see `torture.states`."""
    command = [sys.executable, "-c", _WATCH, str(path), "watch", str(folder), "--settle", "0.5"]
    return subprocess.Popen(
        [*command, "--library", str(path)],
        cwd=HOUSE,
        env={**os.environ, "PYTHONPATH": f"{HOUSE}{os.pathsep}{HOUSE / 'tests'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _out_of_step(path: Path, folder: Path) -> list[str]:
    """What the library and its folder don't have in common once a last run has been."""
    with open_library(path) as library:
        library.index()
        found = {photo.path for photo in library.photos(limit=100_000)}
    there = {file for file in folder.rglob("*") if file.is_file()}
    return [f"{len(found ^ there)} photos are not as in the folder"] * (found != there)


# --- is it level?


def take_samples(pids: dict[str, int], seconds: float) -> dict[str, list[tuple[float, Sample]]]:
    """What processes take, by name: (seconds since the begin, sample)."""
    found: dict[str, list[tuple[float, Sample]]] = {name: [] for name in pids}
    begun = time.monotonic()
    every = min(_EVERY, seconds / _SAMPLES)
    while (now := time.monotonic() - begun) < seconds:
        for name, pid in pids.items():
            with suppress(FileNotFoundError, ProcessLookupError):  # it died: that is told elsewhere
                found[name].append((now, sample(pid)))
        time.sleep(every)
    return found


def growth(samples: Sequence[tuple[float, Sample]], what: str) -> str:
    """How much more the last quarter took than the second, in words; "" if it is level.

    Compared is what each took when little was at work: a fifth of its samples were lower. Work that
    is at hand just then, as a search for duplicates, is so left out; what is kept for ever is not.
    """
    before, after = floors(samples, what)
    grown = after - before > max(_LEAST_SLACK, _SLACK[what] * before)
    return f"from {before:,.0f} to {after:,.0f}" if grown else ""


def floors(samples: Sequence[tuple[float, Sample]], what: str) -> tuple[float, float]:
    """The second quarter's, and the last one's."""
    values = [float(getattr(one, what)) for _, one in samples]
    quarter = len(values) // 4
    second, last = sorted(values[quarter : 2 * quarter]), sorted(values[-quarter:])
    return second[quarter // 5], last[quarter // 5]


def _figures(samples: Sequence[tuple[float, Sample]]) -> str:
    """Of the second and the last quarter, and the most there was."""
    told = []
    for what in Sample.names():
        before, after = floors(samples, what)
        most = max(float(getattr(one, what)) for _, one in samples)
        told.append(f"{what} {before:,.0f} -> {after:,.0f} (most {most:,.0f})")
    return ", ".join(told)


def write_samples(samples: dict[str, list[tuple[float, Sample]]]) -> None:
    """To the file that $FC7_SOAK_LOG names, if it does."""
    if not (log := os.environ.get(LOG)):
        return
    with Path(log).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["process", "seconds", *Sample.names()])
        for name, own in samples.items():
            for now, one in own:
                figures = [round(getattr(one, what)) for what in Sample.names()]
                table.writerow([name, round(now), *figures])
