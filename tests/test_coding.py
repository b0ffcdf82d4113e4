"""The library's codes: there from the first photo on, made anew all at once or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

import indexer.coding
import indexer.pipeline
from indexer import Library
from indexer import schema as t
from indexer.catalog import SegmentRow
from indexer.coding import CoderStore
from indexer.engines.catalogs import open_catalog
from indexer.segments import SegmentStore
from retrieval.codes import Coder, shipped_coder
from retrieval.errors import CodesError
from retrieval.layout import read_codes
from retrieval.search import stored_rows


@pytest.fixture
def drawn(draw: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 40 small pictures, enough to learn a coder from, for once."""
    monkeypatch.setattr(indexer.coding, "LEAST", 40)
    for seed in range(40):
        draw(tmp_path / "drawn" / f"{seed}.png", seed, (64, 64))
    return tmp_path / "drawn"


def coder_of(library: Library) -> tuple[str, Coder]:
    with closing(open_catalog(library.path)) as catalog:
        name = catalog.settings()["coder"]
    return name, CoderStore(library.path / "coders").read(name)


def segments_of(library: Library) -> list[SegmentRow]:
    with closing(open_catalog(library.path)) as catalog:
        return catalog.segments()


def check_whole(library: Library) -> None:
    """Every segment has the codes of its rows by the library's coder, and nothing else is there."""
    name, coder = coder_of(library)
    store = SegmentStore(library.path / "segments")
    expected = set()
    for segment in segments_of(library):
        codes = store.codes_path(segment.name, name)
        rows = stored_rows(store.path(segment.name))
        assert len(rows) == segment.rows
        assert np.array_equal(read_codes(codes), coder.encode(rows))
        expected |= {segment.name, codes.name}
    assert {file.name for file in (library.path / "segments").iterdir()} == expected
    assert [file.stem for file in (library.path / "coders").iterdir()] == [name]


def test_a_new_library_has_codes_by_the_coder_that_comes_with_fc7(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer.pipeline, "BATCH", 3)
    library.index([photos])
    check_whole(library)
    _, coder = coder_of(library)
    stamp = library.status().stamp
    assert stamp is not None
    brought = shipped_coder("alexnet", stamp)
    assert brought is not None
    rows = np.random.default_rng(0).random((5, 4096), np.float32)
    assert np.array_equal(coder.encode(rows), brought[0].encode(rows))
    assert coder.bits == 256


def test_codes_follow_when_photos_come_and_go(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer.pipeline, "BATCH", 1)  # eight files of one row: they are merged
    library.index([photos])
    check_whole(library)
    for photo in sorted(photos.rglob("*.jpg"))[:5]:
        photo.unlink()
    library.index([photos])
    check_whole(library)


def test_a_library_made_before_there_were_codes_gets_them(library: Library, photos: Path) -> None:
    library.index([photos])
    with closing(open_catalog(library.path)) as catalog, catalog.write() as writer:
        writer.execute(sa.delete(t.settings).where(t.settings.c.key.startswith("coder")))
    for file in (library.path / "segments").glob("*.codes"):
        file.unlink()
    library.index([photos])
    check_whole(library)


def test_a_damaged_coder_is_replaced_by_the_one_that_comes_with_fc7(
    library: Library, photos: Path
) -> None:
    library.index([photos])
    CoderStore(library.path / "coders").path(coder_of(library)[0]).write_bytes(b"")
    library.index([photos])
    check_whole(library)


def test_a_trained_coder_takes_the_place_of_the_old_one(library: Library, drawn: Path) -> None:
    library.index([drawn])
    old, _ = coder_of(library)
    library.train_codes(32, seed=3)
    new, coder = coder_of(library)
    assert new != old
    assert coder.bits == 32
    check_whole(library)


def test_too_few_photos_teach_no_coder(library: Library, photos: Path) -> None:
    library.index([photos])
    with pytest.raises(CodesError, match="8 photos are too few to learn codes from: index 1,000"):
        library.train_codes()
    check_whole(library)


def test_the_shortlist_is_measured_on_the_library(library: Library, drawn: Path) -> None:
    library.index([drawn])
    library.train_codes(32)
    with closing(open_catalog(library.path)) as catalog:
        settings = catalog.settings()
    assert settings["shortlist"] == "400"  # all forty are in it
    assert float(settings["shortlist_recall"]) == 1
    assert settings["shortlist_rows"] == "40"


def test_comparing_coders_changes_nothing(library: Library, drawn: Path) -> None:
    library.index([drawn])
    before = coder_of(library)[0]
    rows = library.compare_codes(32)
    assert [row.method for row in rows] == [
        "in use",
        "autoencoder",
        "ITQ",
        "PCA signs",
        "random hyperplanes",
    ]
    for row in rows:
        assert row.bits == (256 if row.method == "in use" else 32)
        assert list(row.recalls) == sorted(row.recalls)  # a longer list keeps more
        assert row.recalls[2] == 1  # 50 of 40
    assert coder_of(library)[0] == before
    check_whole(library)


# Kills itself when the n-th file of codes is in place.
RECODE = """
import os, signal, sys
from pathlib import Path
import indexer.coding
from indexer import open_library
from indexer.segments import SegmentStore

indexer.coding.LEAST = 4
left = int(sys.argv[2])
place = SegmentStore._place

def dying(self, name, write):
    global left
    place(self, name, write)
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

SegmentStore._place = dying
with open_library(Path(sys.argv[1])) as library:
    library.train_codes(32)
"""


@pytest.mark.parametrize("when", [0, 3])
def test_a_recode_that_is_killed_leaves_the_old_codes_whole(
    library: Library, drawn: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    monkeypatch.setattr(indexer.pipeline, "BATCH", 10)
    library.index([drawn])
    before = coder_of(library)[0]
    command = [sys.executable, "-c", RECODE, str(library.path), str(when)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    name, coder = coder_of(library)
    assert name == before
    store = SegmentStore(library.path / "segments")
    for segment in segments_of(library):
        codes = read_codes(store.codes_path(segment.name, name))
        assert np.array_equal(codes, coder.encode(stored_rows(store.path(segment.name))))
    library.index([drawn])  # sweeps what the killed run left
    check_whole(library)
