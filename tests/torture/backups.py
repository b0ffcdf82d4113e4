"""Backups taken while the library is written to, killed, cut, and with flipped bits."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
from drawn import encode, scene

from indexer import Library, open_library
from indexer.backup import back_up, restore
from indexer.checking import check
from indexer.finder import Mode
from retrieval.errors import BackupError
from retrieval.extractor import Extractor
from retrieval.search import stored_ids, stored_rows
from torture.processes import HOUSE, environment
from torture.table import Row, times
from torture.writers import WRITERS, digest_of

_PATIENCE = 120.0  # seconds for anything at all to happen

# A process that does one thing, once it has said that it begins. It kills itself at the n-th thing
# that it asks of the system from then on (what Python tells audit hooks of), unless n is 0.
DOING = """
import os, signal, sys
from pathlib import Path
from indexer.backup import back_up, restore

what, source, target, when = sys.argv[1:]
left = int(when)
watched = ("open", "os.", "shutil.", "sqlite3.", "fcntl.")

def die(event, args):
    global left
    if left and event.startswith(watched):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

print("begins", flush=True)
sys.stdin.readline()
if left:
    sys.addaudithook(die)
(back_up if what == "backup" else restore)(Path(source), Path(target))
print("done", flush=True)
"""


def rows(share: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="backups-") as folder:
        place = Path(folder)
        yield under_load(place / "load", times(200, share))
        library = small_library(place / "small")
        yield killed("backup", library, place / "killed", times(200, share))
        yield killed_at_each_point("backup", library, place / "points", share)
        file = place / "whole.fc7"
        back_up(library, file)
        yield killed("restore", file, place / "killed", times(200, share))
        yield killed_at_each_point("restore", file, place / "points", share)
        yield flipped(file, place / "flipped", times(2000, share))
        yield cut(file, place / "cut", times(500, share))


# --- under load


def under_load(
    place: Path, count: int, writers: Sequence[str] = tuple(WRITERS), photos: int = 60
) -> Row:
    """Backups while processes index, edit albums and make codes anew; each restored."""
    pool, library, states = place / "photos", place / "library", place / "states"
    pool.mkdir(parents=True)
    for seed in range(photos):
        draw(pool / f"{seed:02}.png", seed)
    extractor = Extractor(device="cpu")
    with open_library(library, extractor=extractor) as opened:
        opened.index([pool])
        known = described(opened)
    states.write_text(f"{digest_of(library)}\n")
    lost, sizes, rng = 0, set(), random.Random(0)
    with writing(library, pool, states, place, writers) as alive:
        for _ in range(count):
            file, again = place / "file.fc7", place / "again"
            sizes.add(back_up(library, file).photos)
            restore(file, again)
            lost += bool(troubles_of(again, states, known, extractor))
            file.unlink()
            shutil.rmtree(again)
            alive()
            time.sleep(rng.random() / 2)
    commits = len(states.read_text().split())
    note = f"{commits:,} commits, {min(sizes)} to {max(sizes)} photos"
    what = "a backup while three processes write, restored: as of one commit"
    return Row("backups", what, count, lost, note)


@contextmanager
def writing(
    library: Path, photos: Path, states: Path, place: Path, writers: Sequence[str]
) -> Iterator[Callable[[], None]]:
    """Processes write into the library; gives what says that all are alive.

    Raises RuntimeError if one has ended by itself, or with an error.
    """
    stop = place / "stop"
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "torture.writers", name,
             *map(str, (library, photos, states, stop))],
            cwd=HOUSE, env=environment(),
        )
        for name in writers
    ]  # fmt: skip

    def alive() -> None:
        if any(process.poll() is not None for process in begun):
            raise RuntimeError("a process that writes has ended")

    try:
        before = states.stat().st_size
        deadline = time.monotonic() + _PATIENCE
        while states.stat().st_size < before + 65 * 10:  # lines
            alive()
            if time.monotonic() > deadline:
                raise RuntimeError("nothing is written")
            time.sleep(0.01)
        yield alive
        stop.touch()
        if any(process.wait(_PATIENCE) for process in begun):
            raise RuntimeError("a process that writes ended with an error")
    finally:
        for process in begun:
            process.kill()
            process.wait()


def troubles_of(
    library: Path, states: Path, known: dict[str, np.ndarray], extractor: Extractor
) -> list[str]:
    """What is wrong with a restored library, if anything.

    states: a file of the digests that its catalogue may have. known: descriptors by content hash.
    """
    found = []
    if digest_of(library) not in states.read_text().split():
        found.append("its catalogue is of no commit")
    found += [problem.line for problem in check(library).problems]
    with open_library(library, extractor=extractor) as opened:
        photos = opened.photos(limit=1000)
        found += [f"{one.id}: no thumbnail" for one in photos if not opened.thumbnail(one.id)]
        mine = np.stack([known[one.content_hash] for one in photos])
        for at, photo in enumerate(photos):
            wanted = np.sort(np.linalg.norm(mine - mine[at], axis=1)[np.arange(len(photos)) != at])
            for mode in get_args(Mode)[1:]:  # all but "auto"
                hits = opened.answer(photo.id, 5, mode=mode).hits
                distances = [hit.distance for hit in hits]
                if not np.allclose(distances, wanted[:5], atol=2e-3):
                    found.append(f"{photo.id}: a wrong answer, {mode}")
    return found


def described(library: Library) -> dict[str, np.ndarray]:
    """The descriptors of all photos by the hash of their content, out of the files themselves."""
    rows: dict[int, np.ndarray] = {}
    for file in (library.path / "segments").glob("*.faiss"):
        stored = stored_rows(file).astype(np.float32)
        rows |= dict(zip(stored_ids(file).tolist(), stored, strict=True))
    with closing(sqlite3.connect(library.path / "catalog.sqlite")) as connection:
        return {
            hash_: rows[id_] for id_, hash_ in connection.execute("SELECT id, hash FROM contents")
        }


# --- killed


def small_library(place: Path) -> Path:
    folder = place / "photos"
    folder.mkdir(parents=True)
    for seed in range(4):
        draw(folder / f"{seed}.png", seed)
    with open_library(place / "library", extractor=Extractor(device="cpu")) as library:
        library.index([folder])
    return place / "library"


def killed(what: str, source: Path, place: Path, count: int) -> Row:
    """Kill a backup or a restore at random moments: nothing is there afterwards, or all of it."""
    place.mkdir(exist_ok=True)
    lost = whole = 0
    rng = random.Random(what)
    took = 0.0
    for at in range(count + 1):
        target = place / "target"
        process = begun(what, source, target, 0)
        assert process.stdout is not None
        started = time.monotonic()
        if not at:  # how long it takes when nobody kills it
            assert process.stdout.readline() == "done\n"
            took = time.monotonic() - started
        else:
            time.sleep(rng.uniform(0, took))
            process.kill()
        end(process)
        if target.exists() and at:
            whole += 1
            lost += not is_whole(what, target)
        lost += not goes_on(what, source, target)
    return Row("backups", f"a {what} killed at a random moment: nothing there, or all",
               count, lost, f"all in {whole}")  # fmt: skip


def killed_at_each_point(what: str, source: Path, place: Path, share: float) -> Row:
    """The same before each thing that it asks of the system (or of a share of them)."""
    place.mkdir(exist_ok=True)
    tried = lost = whole = 0
    at = 1
    while True:
        target = place / "target"
        process = begun(what, source, target, at)
        ended = end(process)
        if ended == 0:  # so many things are not asked
            lost += not goes_on(what, source, target)
            break
        tried += 1
        lost += ended != -signal.SIGKILL
        if target.exists():
            whole += 1
            lost += not is_whole(what, target)
        lost += not goes_on(what, source, target)
        at += max(1, round(1 / share))
    return Row("backups", f"a {what} killed at a call of the system: nothing there, or all",
               tried, lost, f"all in {whole}")  # fmt: skip


def begun(what: str, source: Path, target: Path, when: int) -> subprocess.Popen[str]:
    """A process that has just been told to begin."""
    process = subprocess.Popen(
        [sys.executable, "-c", DOING, what, str(source), str(target), str(when)],
        cwd=HOUSE, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    process.stdin.write("\n")
    process.stdin.close()
    return process


def end(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    process.stdout.read()
    process.stdout.close()
    return process.wait()


def goes_on(what: str, source: Path, target: Path) -> bool:
    """Whether it can be done again after that, and leaves nothing else; removes what it made."""
    if target.exists():
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    (back_up if what == "backup" else restore)(source, target)
    good = is_whole(what, target) and not target.with_name("target.partial").exists()
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return good


def is_whole(what: str, target: Path) -> bool:
    """Whether a backup can be restored, or a restored library holds its four photos."""
    if what == "restore":
        with closing(sqlite3.connect(target / "catalog.sqlite")) as connection:
            (photos,) = connection.execute("SELECT count(*) FROM photos").fetchone()
        with open_library(target) as library:
            return photos == 4 and len(library.answer(1, 3, mode="codes").hits) == 3
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            return restore(target, Path(folder) / "library").photos == 4
        except BackupError:
            return False


# --- damaged


def flipped(file: Path, place: Path, count: int) -> Row:
    """Flip a bit: half of them anywhere, half of them where names, sizes and digests are."""
    place.mkdir(exist_ok=True)
    copy = place / "file.fc7"
    shutil.copy(file, copy)
    rng = random.Random(1)
    head = 4096
    size = copy.stat().st_size
    lost = 0
    with copy.open("r+b", buffering=0) as open_file:
        for number in range(count):
            at = rng.randrange(size) if number % 2 else rng.randrange(head)
            (byte,) = os.pread(open_file.fileno(), 1, at)
            os.pwrite(open_file.fileno(), bytes([byte ^ 1 << rng.randrange(8)]), at)
            lost += not is_refused(copy, place)
            os.pwrite(open_file.fileno(), bytes([byte]), at)
    lost += is_refused(copy, place)  # as it was again: the test itself can fail
    return Row("backups", "a bit flipped in a backup: restoring finds it", count, lost)


def cut(file: Path, place: Path, count: int) -> Row:
    """Cut a backup short, or let something follow it."""
    place.mkdir(exist_ok=True)
    copy = place / "file.fc7"
    whole = file.read_bytes()
    rng = random.Random(2)
    lost = 0
    for number in range(count):
        at = rng.randrange(len(whole))
        more = rng.randbytes(rng.randint(1, 2000)) if rng.random() < 0.5 else bytes(512)
        copy.write_bytes(whole + more if number % 5 == 0 else whole[:at])
        lost += not is_refused(copy, place)
    return Row("backups", "a backup cut short, or continued: restoring finds it", count, lost)


def is_refused(file: Path, place: Path) -> bool:
    """Whether restoring raises one line, and leaves nothing."""
    target = place / "library"
    try:
        restore(file, target)
    except BackupError as error:
        return "\n" not in str(error) and {one.name for one in place.iterdir()} == {file.name}
    shutil.rmtree(target)
    return False


def draw(path: Path, seed: int) -> None:
    """A picture that is no other's: a scene with noise of its own."""
    noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    blocks = noise[::8, ::8].repeat(8, axis=0).repeat(8, axis=1)
    path.write_bytes(encode((scene(64, 64) // 4 + blocks // 4 * 3).astype(np.uint8), "PNG"))
