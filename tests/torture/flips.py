"""A library's files damaged: by one bit, a sector of zeros, a cut, a loss. `check` finds it.

What it doesn't find must be nothing: each row of each table and each other file is compared with
what it was, by plain SQLite. Bytes that no row uses may change unseen.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from indexer import Grouping, open_library
from indexer.checking import check
from indexer.repairing import repair
from retrieval.errors import LibraryError
from retrieval.extractor import Extractor
from torture.table import Row, times

GALLERY = Path(__file__).parent.parent.parent / "data" / "gallery"
_GROUPS = ("sunflowers", "shoes", "bananas", "mountains")
_SECTOR = 512

Damage = Callable[[bytearray, random.Random], bytearray]


def rows(share: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        intact = make_library(Path(folder))
        for what, damage, most in (
            ("a bit flipped", flip, 4000),
            ("a sector of zeros", blank, 1000),
            ("a file cut short", cut, 500),
            ("a file lost", None, 20),
        ):
            yield find(intact, what, damage, times(most, share))
        yield mend(intact, times(300, share))


def make_library(folder: Path, photos: int = 3) -> Path:
    """A library of some photos of four groups, with albums and a map; return its folder."""
    for group in _GROUPS:
        (folder / "photos" / group).mkdir(parents=True)
        for photo in sorted((GALLERY / group).iterdir())[:photos]:
            shutil.copy2(photo, folder / "photos" / group / photo.name)
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    with open_library(folder / "library", extractor=Extractor(device="cpu")) as library:
        library.index([folder / "photos"])
        library.albums.group(Grouping(number=3))
        library.map.update()
    return folder / "library"


def flip(data: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    return data


def blank(data: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(0, len(data), _SECTOR)
    size = len(data[at : at + _SECTOR])
    data[at : at + size] = bytes(size)
    return data


def cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def damageable(library: Path) -> list[Path]:
    """Its files, but for the lock, what tells of the last run, and SQLite's own of the moment."""
    files = sorted(file for file in library.rglob("*") if file.is_file() and file.stat().st_size)
    passing = ("run.json", "index.lock")
    return [f for f in files if f.name not in passing and not f.name.endswith(("-wal", "-shm"))]


def damaged_copy(
    intact: Path, target: Path, damage: Damage | None, rng: random.Random
) -> str | None:
    """Copy a library and damage one file, each as often as another; return which. None: as it was.

    damage: None removes the file.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(intact, target)
    file = rng.choice(damageable(target))
    if damage is None:
        file.unlink()
        return file.name
    before = file.read_bytes()
    after = damage(bytearray(before), rng)
    file.write_bytes(after)
    return None if after == before else file.name


def contents_of(library: Path) -> dict[str, object]:
    """All that a library knows: rows by table, other files by hash. Raises sqlite3.Error."""
    found: dict[str, object] = {}
    for file in damageable(library):
        if file.suffix != ".sqlite":
            found[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
            continue
        with closing(sqlite3.connect(file)) as connection:
            connection.text_factory = bytes
            names = (
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
            for (table,) in connection.execute(names).fetchall():
                told = connection.execute(f"SELECT rowid, * FROM {table.decode()} ORDER BY rowid")
                found[f"{file.name} {table.decode()}"] = told.fetchall()
    return found


def find(intact: Path, what: str, damage: Damage | None, tries: int) -> Row:
    rng, known = random.Random(what), contents_of(intact)
    target = intact.with_name("damaged")
    lost, found, unused = Counter[str](), 0, 0
    for _ in range(tries):
        file = damaged_copy(intact, target, damage, rng)
        if file is None:
            unused += 1
        elif is_told(target):
            found += 1
        elif same(target, known):
            unused += 1
        else:
            lost[file] += 1
    note = f"{found:,} found, {unused:,} in bytes that nothing uses"
    return Row("flips", what, tries, lost.total(), note + (f"; lost: {dict(lost)}" if lost else ""))


def is_told(library: Path) -> bool:
    try:
        return bool(check(library).problems)
    except LibraryError:  # there is none any more
        return True


def same(library: Path, known: dict[str, object]) -> bool:
    with suppress(sqlite3.Error):
        return contents_of(library) == known
    return False


def mend(intact: Path, tries: int) -> Row:
    """Damage, repair, index: all of it is as it was, or what is left is told."""
    rng = random.Random("mended")
    known, target = answers(intact), intact.with_name("damaged")
    mended = told = lost = 0
    for _ in range(tries):
        if damaged_copy(intact, target, flip, rng) is None:
            continue
        if repair(target).after.problems:
            told += 1
        elif check_again(target) and answers(target) == known:
            mended += 1
        else:
            lost += 1
    note = f"{mended:,} as before, {told:,} left, and told"
    return Row("flips", "a bit flipped, then fc7 check --repair and fc7 index", tries, lost, note)


def check_again(library: Path) -> bool:
    with open_library(library) as opened:
        opened.index()
    return not check(library).problems


def answers(library: Path) -> dict[str, list[tuple[str, float]]]:
    """What is answered for each photo, and with what distances, to three places."""
    with open_library(library) as opened:
        return {
            str(photo.path): [
                (str(hit.photo.path), round(hit.distance, 3)) for hit in opened.search(photo.id, 5)
            ]
            for photo in opened.photos()
        }
