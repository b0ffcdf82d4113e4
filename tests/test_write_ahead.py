"""Damage in SQLite's log is told from a log that was cut off; SQLite itself is the oracle."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from indexer.write_ahead import loses_commits

_PAGE, _FRAME = 4096, 24


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as a killed process leaves it: 20 commits of some pages each are in its log."""
    folder = tmp_path_factory.mktemp("log")
    with closing(sqlite3.connect(folder / "own", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE t (n INTEGER, text TEXT)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for n in range(20):
            connection.execute("INSERT INTO t VALUES (?, ?)", (n, f"{n}" * 4000))
        for end in ("", "-wal"):
            shutil.copy(folder / f"own{end}", folder / f"killed{end}")
    return folder / "killed-wal"


def rows(log: Path, data: bytes, folder: Path) -> int:
    """How many rows SQLite finds when the log holds this."""
    shutil.copy(log.with_name("killed"), folder / "killed")
    (folder / "killed-shm").unlink(missing_ok=True)
    (folder / "killed-wal").write_bytes(data)
    with closing(sqlite3.connect(folder / "killed")) as connection:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def told(folder: Path, data: bytes) -> bool:
    (folder / "log").write_bytes(data)
    return loses_commits(folder / "log")


def test_a_whole_log_and_none_lose_nothing(log: Path, tmp_path: Path) -> None:
    assert rows(log, log.read_bytes(), tmp_path) == 20
    assert not loses_commits(log)
    assert not loses_commits(tmp_path / "none")


def test_a_flipped_bit_that_costs_commits_is_told_but_in_the_last_one(
    log: Path, tmp_path: Path
) -> None:
    whole, rng = log.read_bytes(), random.Random(7)
    for _ in range(150):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        found = rows(log, bytes(data), tmp_path)
        assert told(tmp_path, data) == (found < 19), found


def test_a_log_that_was_cut_off_is_not_damaged(log: Path, tmp_path: Path) -> None:
    whole = log.read_bytes()
    for frames in range(1, (len(whole) - 32) // (_FRAME + _PAGE)):
        end = 32 + frames * (_FRAME + _PAGE)
        assert not told(tmp_path, whole[:end])
        assert not told(tmp_path, whole[: end + 100])
        assert not told(tmp_path, whole[:end] + bytes(len(whole) - end))
