"""Thumbnails in one SQLite file: what was put is what one gets, in every process."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from indexer.thumbnails import ThumbnailStore
from retrieval.errors import LibraryError


def test_what_was_put_is_what_one_gets(tmp_path: Path) -> None:
    store = ThumbnailStore(tmp_path / "why? #1 50%20.sqlite")  # nothing for an address
    assert store.get("a") is None
    store.put({"a": b"one", "b": b"two"})
    store.put({"b": b"three"})
    assert [store.get(hash_) for hash_ in "abc"] == [b"one", b"three", None]
    store.remove(["a", "c"])
    assert [store.get(hash_) for hash_ in "ab"] == [None, b"three"]
    code = (
        "import sys; from pathlib import Path; from indexer.thumbnails import ThumbnailStore\n"
        "print(ThumbnailStore(Path(sys.argv[1])).get('b'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "why? #1 50%20.sqlite")]
    assert subprocess.run(command, check=True, capture_output=True).stdout.strip() == b"b'three'"


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    store = ThumbnailStore(tmp_path / "thumbnails.sqlite")
    store.put({"a": b"one"})
    with closing(sqlite3.connect(tmp_path / "thumbnails.sqlite")) as writer, writer:
        writer.execute("INSERT INTO thumbnails VALUES ('b', x'00', 0)")
        assert store.get("a") == b"one"
        assert store.get("b") is None


def test_what_is_wrong_with_the_file_is_told_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "thumbnails.sqlite"
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(LibraryError, match=r"thumbnails\.sqlite is damaged: file is not"):
        ThumbnailStore(file).get("a")
    with pytest.raises(LibraryError, match="can't be used: unable to open database file"):
        ThumbnailStore(tmp_path / "missing" / "thumbnails.sqlite").put({"a": b"one"})
