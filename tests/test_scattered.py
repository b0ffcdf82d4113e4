"""Rows read here and there in files are the files' rows, in memory or not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import retrieval.scattered
from retrieval.scattered import RowFile, read_scattered

HEAD = 100  # bytes before the rows


@pytest.fixture
def stored(tmp_path: Path) -> tuple[list[Path], list[NDArray[np.float16]]]:
    """Two files of 500 rows of 4096 numbers."""
    rows = [np.random.default_rng(at).random((500, 4096)).astype(np.float16) for at in range(2)]
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, block in zip(paths, rows, strict=True):
        path.write_bytes(bytes(HEAD) + block.tobytes())
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return paths, rows


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("flag", [retrieval.scattered._AT_ONCE, None])
def test_rows_come_from_their_files_to_their_places(
    stored: tuple[list[Path], list[NDArray[np.float16]]],
    monkeypatch: pytest.MonkeyPatch,
    in_memory: bool,
    flag: int | None,
) -> None:
    monkeypatch.setattr(retrieval.scattered, "_AT_ONCE", flag)
    paths, rows = stored
    rng = np.random.default_rng(2)
    chosen = [rng.choice(500, 60, replace=False) for _ in paths]
    places = np.split(rng.permutation(120), 2)
    if not in_memory and hasattr(os, "posix_fadvise"):
        for path in paths:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    found = np.zeros((120, 4096), np.float16)
    files = [RowFile(path, HEAD, 8192) for path in paths]
    read_scattered(zip(files, chosen, places, strict=True), found)
    for block, mine, place in zip(rows, chosen, places, strict=True):
        assert np.array_equal(found[place], block[mine])


def test_a_file_that_was_cut_is_an_error_not_zeros(
    stored: tuple[list[Path], list[NDArray[np.float16]]],
) -> None:
    paths, _ = stored
    file = RowFile(paths[0], HEAD, 8192)
    os.truncate(paths[0], HEAD + 8192 * 10 + 5)
    found = np.zeros((1, 4096), np.float16)
    with pytest.raises(OSError, match="the file ends before its row"):
        read_scattered([(file, np.array([10]), np.array([0]))], found)


def test_an_open_file_is_closed_with_its_owner(
    stored: tuple[list[Path], list[NDArray[np.float16]]],
) -> None:
    file = RowFile(stored[0][0], HEAD, 8192)
    handle = file.handle
    os.fstat(handle)
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)
