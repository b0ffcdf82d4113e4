"""Rows read here and there in files are the files' rows, in memory or not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import retrieval.scattered
from retrieval.scattered import OpenFile, read_scattered

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
    owner = np.random.default_rng(2).integers(0, 2, 120)
    chosen = np.random.default_rng(3).integers(0, 500, 120)
    if not in_memory and hasattr(os, "posix_fadvise"):
        for path in paths:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    found = np.zeros((120, 4096), np.float16)
    files = [OpenFile(path) for path in paths]
    read_scattered(
        [files[at].handle for at in owner], [HEAD + 8192 * int(row) for row in chosen], found
    )
    expected = [rows[at][row] for at, row in zip(owner, chosen, strict=True)]
    assert np.array_equal(found, np.stack(expected))


def test_a_file_that_was_cut_is_an_error_not_zeros(
    stored: tuple[list[Path], list[NDArray[np.float16]]],
) -> None:
    paths, _ = stored
    file = OpenFile(paths[0])
    os.truncate(paths[0], HEAD + 8192 * 10 + 5)
    found = np.zeros((1, 4096), np.float16)
    with pytest.raises(OSError, match="the file ends before its row"):
        read_scattered([file.handle], [HEAD + 8192 * 10], found)
    with pytest.raises(ValueError, match="C-contiguous"):
        read_scattered([file.handle], [HEAD], np.zeros((1, 8192), np.float16)[:, ::2])


def test_an_open_file_is_closed_with_its_owner(
    stored: tuple[list[Path], list[NDArray[np.float16]]],
) -> None:
    file = OpenFile(stored[0][0])
    handle = file.handle
    os.fstat(handle)
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)
