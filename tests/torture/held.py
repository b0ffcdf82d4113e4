"""Readers beside a writer that is stopped in the middle of its work: all of them must get through.

Nothing here is timed. The writer holds its transaction from before the first reader begins until
the last one has ended, so a reader that waited for it would never end, or end with an error.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from serving import HOUSE

from indexer import Library, open_library

# It holds what a run holds in its commits, of both files, as long as its stdin is open.
_HOLD = """
import sqlite3, sys
from pathlib import Path
from indexer.engines.catalogs import open_catalog
path = Path(sys.argv[1])
thumbnails = sqlite3.connect(path / "thumbnails.sqlite", isolation_level=None)
thumbnails.execute("BEGIN IMMEDIATE")
thumbnails.execute("DELETE FROM thumbnails")
try:
    with open_catalog(path).write() as writer:
        writer.remove_photos(writer.paths_of(1))
        writer.set(generation="held")
        print("held", flush=True)
        sys.stdin.read()
        raise KeyboardInterrupt
except KeyboardInterrupt:
    thumbnails.execute("ROLLBACK")
print("given back", flush=True)
"""

# A run in batches of two that stops itself at its n-th commit: all is written, nothing committed.
_STOPPING = """
import os, signal, sys
from pathlib import Path
import sqlalchemy
import indexer.pipeline
from indexer import open_library
indexer.pipeline.BATCH = 2
left = int(sys.argv[3])
def stop(connection):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
sqlalchemy.event.listen(sqlalchemy.Engine, "commit", stop)
with open_library(Path(sys.argv[1])) as library:
    library.index([Path(sys.argv[2])])
"""


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process has begun to write both files of a library, and goes on doing so."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)],
        cwd=HOUSE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        assert process.poll() is None
        told, _ = process.communicate()
        assert told == "given back\n", "it held them all the time"


@contextmanager
def stopped_run(path: Path, folder: Path, commit: int) -> Iterator[bool]:
    """A run that is stopped at its n-th commit while this lasts; False if it made fewer."""
    command = [sys.executable, "-c", _STOPPING, str(path), str(folder), str(commit)]
    with subprocess.Popen(command, cwd=HOUSE, stderr=subprocess.PIPE, text=True) as process:
        yield _is_stopped(process)
        process.send_signal(signal.SIGCONT)
        _, told = process.communicate()
        assert process.returncode == 0, told


@contextmanager
def running(path: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The same run, that nothing stops but who holds its process."""
    command = [sys.executable, "-c", _STOPPING, str(path), str(folder), "0"]
    with subprocess.Popen(command, cwd=HOUSE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.send_signal(signal.SIGCONT)
        _, told = process.communicate()
        assert process.returncode == 0, told


@contextmanager
def paused(process: subprocess.Popen[str], rng: random.Random) -> Iterator[bool]:
    """Stop a process after a moment; False if it has ended."""
    time.sleep(rng.random() / 5)
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGSTOP)
    yield _is_stopped(process)
    process.send_signal(signal.SIGCONT)


def _is_stopped(process: subprocess.Popen[str]) -> bool:
    """Wait until a process is stopped or has ended; whether it is stopped."""
    while process.poll() is None:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state in "Tt":
            return True
        time.sleep(0.005)
    return False


def readers_of(library: Library, outside: bytes) -> Mapping[str, Callable[[], object]]:
    """Everything that reads a library, by name. outside: a photo that it doesn't hold."""
    first = library.photos(limit=1)[0]
    label = library.labels(first.id)[0].label
    return {
        "exact": lambda: library.answer(first.id, 5, mode="exact").hits,
        "codes": lambda: library.answer(first.id, 5, mode="codes").hits,
        "path": lambda: library.answer(first.path, 5).hits,
        "upload": lambda: len(library.answer(outside, 5).hits),
        "label": lambda: library.labelled(label, 5),
        "photos": library.photos,
        "labels": lambda: library.labels(first.id),
        "thumbnail": lambda: library.thumbnail(first.id),
        "facets": library.facets,
        "status": lambda: library.status().photos,
        "albums": library.albums.all,
        "album": lambda: [
            library.albums.photos(a.id, by="closeness") for a in library.albums.all()
        ],
        "proposal": lambda: library.albums.propose().report.photos,
        "map": library.map.points,
        "duplicates": library.duplicates.find,
    }


def fresh_readers_of(path: Path, outside: Path) -> Mapping[str, Callable[[], object]]:
    """Processes that open the library anew, as a person does in a terminal."""

    def call(*arguments: object) -> Callable[[], str]:
        command = [sys.executable, "-m", "ui.cli", *map(str, arguments), "--library", str(path)]
        return lambda: (
            subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, check=True).stdout
        )

    def status() -> object:
        # But for the bytes on disk: SQLite's files beside its two come and go.
        first, *others = call("status")().splitlines()
        path, size = first.rsplit(" (", 1)
        assert size.endswith(" MB)")
        return path, others

    def opened() -> object:
        with open_library(path, create=False) as library:
            return library.photos()

    return {
        "fc7 search": call("search", outside, "--json", "-k", 3),
        "fc7 status": status,
        "a library opened": opened,
    }


def routes_of(address: str, library: Library) -> Mapping[str, Callable[[], object]]:
    """The pictures and files that the server sends."""
    (album,) = library.albums.all()[:1]
    photos = library.photos(limit=3)

    def fetch(path: str) -> object:
        with urlopen(f"{address}/{path}", timeout=600) as answer:
            return answer.status, answer.read()

    paths = [f"thumb/{one.id}.jpg" for one in photos] + [f"original/{photos[0].id}"]
    paths += [f"landscape/{library.change()}.json", f"album/{album.id}.zip"]
    return {path: lambda path=path: fetch(path) for path in paths}  # type: ignore[misc]


def differences(
    readers: Mapping[str, Callable[[], object]], before: Mapping[str, object]
) -> list[str]:
    """What now answers otherwise than before, or fails."""
    found = []
    for name, read in readers.items():
        try:
            if (now := read()) != before[name]:
                told = f"{str(now)[:300]} instead of {str(before[name])[:300]}"
                found.append(f"{name} is another answer: {told}")
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
            found.append(f"{name}: {type(error).__name__}: {error}")
    return found


def answers_of(readers: Mapping[str, Callable[[], object]]) -> dict[str, object]:
    return {name: read() for name, read in readers.items()}


def troubles_of(readers: Mapping[str, Callable[[], object]]) -> list[str]:
    """What fails beside a run that is stopped, or answers otherwise although nothing moves."""
    before: dict[str, object] = {}
    found = []
    for name, read in readers.items():
        try:
            before[name] = read()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
            found.append(f"{name}: {type(error).__name__}: {error}")
    return found + differences({name: readers[name] for name in before}, before)
