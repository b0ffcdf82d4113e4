"""Libraries made to deceive: what they name, link to, and bring with them.

Each trap is set in a copy of a small library. Then all that a person may do with it is done; what
lies outside the library must stay as it was, and what is told is one line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from indexer.database import bring_row_sum
from torture.processes import HOUSE, environment

_PATIENCE = 120.0  # seconds for one command
_COMMANDS = (
    ["status"],
    ["search", "{photo}", "-k", "2"],
    ["search", "{photo}", "-k", "2", "--mode", "codes"],
    ["check"],
    ["index"],
    ["albums"],
    ["backup", "{file}"],
    ["check", "--repair"],
)


def _rows(*statements: str) -> Callable[[Path, Path], None]:
    """Change the catalogue as a stranger does, with checksums that are right."""

    def set_trap(library: Path, outside: Path) -> None:
        with closing(sqlite3.connect(library / "catalog.sqlite")) as connection, connection:
            bring_row_sum(connection)
            for statement in statements:
                connection.execute(statement.replace("{outside}", str(outside)))

    return set_trap


def _link(name: str, to: str = "", *, keep: bool = False) -> Callable[[Path, Path], None]:
    """A part of the library becomes a link out of it; keep: what it was is there."""

    def set_trap(library: Path, outside: Path) -> None:
        place, target = library / name, outside / (to or Path(name).name)
        if keep:
            shutil.copytree(place, target) if place.is_dir() else shutil.copy(place, target)
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        place.symlink_to(target)

    return set_trap


def _pipe(pattern: str) -> Callable[[Path, Path], None]:
    def set_trap(library: Path, outside: Path) -> None:
        for file in library.glob(pattern):
            file.unlink()
            os.mkfifo(file)

    return set_trap


def _json(name: str, value: object) -> Callable[[Path, Path], None]:
    return lambda library, outside: (library / name).write_text(json.dumps(value)) and None  # type: ignore[func-returns-value]


def _thumbnails(*statements: str) -> Callable[[Path, Path], None]:
    def set_trap(library: Path, outside: Path) -> None:
        with closing(sqlite3.connect(library / "thumbnails.sqlite")) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return set_trap


_ENDLESS = "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT"
_SEGMENT = "UPDATE segments SET name = '{}'"

TRAPS: dict[str, Callable[[Path, Path], None]] = {
    "segments is a link to a person's folder": _link("segments", "documents"),
    "segments is a link to good segments": _link("segments", keep=True),
    "coders is a link to a person's folder": _link("coders", "documents"),
    "the lock is a link to a person's file": _link("index.lock", "documents/letter.txt"),
    "the catalogue is a link to another database": _link("catalog.sqlite", "other.sqlite"),
    "thumbnails are a link to another database": _link("thumbnails.sqlite", "other.sqlite"),
    "the catalogue is a pipe": _pipe("catalog.sqlite"),
    "a segment is a pipe": _pipe("segments/*.faiss"),
    "codes are a pipe": _pipe("segments/*.codes"),
    "the coder is a pipe": _pipe("coders/*"),
    "a segment's name leads up": _rows(
        "PRAGMA foreign_keys = OFF",
        "UPDATE contents SET segment = '../../outside/documents/letter.txt'",
        _SEGMENT.format("../../outside/documents/letter.txt"),
    ),
    "a segment's name is a path": _rows(
        "UPDATE contents SET segment = '{outside}/documents/letter.txt'",
        _SEGMENT.format("{outside}/documents/letter.txt"),
    ),
    "a segment's name is all names": _rows(
        "UPDATE contents SET segment = '*'", _SEGMENT.format("*")
    ),
    "the coder's name leads up": _rows(
        "UPDATE settings SET value = '../../outside/documents/letter' WHERE key = 'coder'"
    ),
    "a trigger": _rows("CREATE TRIGGER t AFTER UPDATE ON settings BEGIN DELETE FROM photos; END"),
    "a trigger that never ends": _rows(
        "CREATE TRIGGER t AFTER UPDATE ON settings BEGIN "
        f"INSERT INTO folders (path) {_ENDLESS} x FROM a; END"
    ),
    "a trigger of an older schema": _rows(
        "PRAGMA user_version = 2",
        "CREATE TRIGGER t AFTER UPDATE ON photos BEGIN "
        f"INSERT INTO folders (path) {_ENDLESS} x FROM a; END",
    ),
    "a trigger under a name of SQLite's own": _rows(
        "CREATE TRIGGER sqlitexevil AFTER UPDATE ON settings BEGIN DELETE FROM photos; END"
    ),
    "a view in the place of a table": _rows(
        "ALTER TABLE photos RENAME TO hidden",
        f"CREATE VIEW photos AS {_ENDLESS} x AS id, 'p' AS path, 1 AS size, 1 AS mtime_ns, "
        "1 AS content FROM a",
    ),
    "a virtual table": _rows("CREATE VIRTUAL TABLE evil USING fts5(x)"),
    "thumbnails that are a view": _thumbnails(
        "ALTER TABLE thumbnails RENAME TO hidden",
        f"CREATE VIEW thumbnails AS {_ENDLESS} 'a' AS hash, x'00' AS jpeg, 1 AS checksum FROM a",
    ),
    "thumbnails that are huge numbers": _thumbnails("UPDATE thumbnails SET jpeg = 1000000000000"),
    "photos that are a person's files": _rows(
        "UPDATE photos SET path = '{outside}/documents/letter.txt' WHERE id = 1"
    ),
    "dates that are none": _rows(
        "UPDATE contents SET taken_at = iif(id % 2, 'yesterday', x'ff00')",
    ),
    "a folder whose name has a NUL": _rows("UPDATE folders SET path = x'2f00'"),
    "a server's address that is none": _json("engines.json", {"catalog": "file:///etc/passwd"}),
    "a store's address that is none": _json("engines.json", {"store": ["x"]}),
    "a journal of nonsense": _json("run.json", {"token": 1}),
}


def set_up(place: Path, library: Path) -> tuple[Path, Path]:
    """A copy of the library, and beside it what must stay as it is."""
    copy, outside = place / "library", place / "outside"
    shutil.copytree(library, copy)
    (outside / "documents").mkdir(parents=True)
    (outside / "documents" / "letter.txt").write_text("root:x:0:0: a secret\n")
    (outside / "documents" / "other.faiss").write_bytes(b"theirs")
    with closing(sqlite3.connect(outside / "other.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute("INSERT INTO theirs VALUES ('a secret')")
    return copy, outside


def troubles_of(trap: str, place: Path, library: Path, commands: int = len(_COMMANDS)) -> list[str]:
    """Set a trap, do what people do, and say what went wrong."""
    copy, outside = set_up(place, library)
    TRAPS[trap](copy, outside)
    before = digests(outside)
    photo = next((library.parent / "photos").iterdir())
    found = []
    for command in _COMMANDS[:commands]:
        words = [word.format(photo=photo, file=place / "file.fc7") for word in command]
        (place / "file.fc7").unlink(missing_ok=True)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "ui.cli", *words, "--library", str(copy)],
                capture_output=True, text=True, cwd=HOUSE, timeout=_PATIENCE,
                env=environment(), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            found.append(f"{trap}: {words[0]} never ends")
            continue
        if done.returncode not in (0, 1) or "Traceback" in done.stderr:
            found.append(f"{trap}: {words[0]} ends with {done.returncode}: {done.stderr[-200:]}")
        if "a secret" in done.stdout + done.stderr:
            found.append(f"{trap}: {words[0]} tells a secret")
        if digests(outside) != before:
            found.append(f"{trap}: {words[0]} changed what is outside")
            break
    backup = place / "file.fc7"
    if backup.exists() and b"a secret" in backup.read_bytes():
        found.append(f"{trap}: the backup holds what is outside")
    return found


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
