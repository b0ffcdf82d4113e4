"""How search grows: libraries of more and more photos, exact search beside search by codes.

Each library is a real one, on disk, of descriptors drawn from real ones. It is asked by processes
of their own, one that only compares exactly and one that only uses codes, so that neither has the
other's memory.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from indexer.bench.drawn import BLOCK, DrawnLibrary, check_room, read_seeds
from indexer.bench.memory import forget_pages, peak_bytes
from indexer.library import open_library
from retrieval.errors import BenchError

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

Progress = Callable[[str, int, int], None]  # what, done, in all

LEAST = 1_000  # photos
_STEPS = (1_000, 3_000)  # and these times 10, 100, ...: the sizes on the way to the largest
_K = 10
_ASKED = 50
_ASKED_COLD = 10
_BYTES_A_PHOTO = 9_000  # on disk: 8,192 of FC7, 32 of the code, the catalogue's rows


@dataclass(frozen=True, slots=True)
class SearchRow:
    """What search costs in a library of so many photos. Times: a query in the middle (p50)."""

    photos: int
    exact_ms: float
    codes_ms: float
    codes_cold_ms: float  # with the descriptors not in memory: each is read from the disk
    recall_at_10: float  # of codes: which share of the ten nearest they find
    shortlist: int
    opening_ms: float  # from a closed library to its first answer by codes
    codes_bytes: int  # the peak memory of a process that asks by codes, mapped pages included
    exact_bytes: int  # ... exactly

    def summary(self) -> dict[str, object]:
        """The same, ready for JSON, the figures under their usual names."""
        return {
            "photos": self.photos,
            "exact_ms": self.exact_ms,
            "codes_ms": self.codes_ms,
            "codes_cold_ms": self.codes_cold_ms,
            "times_faster": self.exact_ms / self.codes_ms,
            "recall@10": self.recall_at_10,
            "shortlist": self.shortlist,
            "opening_ms": self.opening_ms,
            "rss_mb": self.codes_bytes / 1e6,
            "exact_rss_mb": self.exact_bytes / 1e6,
        }


def sizes(photos: int) -> list[int]:
    """The libraries' sizes: 10,000, 30,000, 100,000, ... up to `photos`."""
    steps = (step * 10**power for power in range(1, 10) for step in _STEPS)
    return [*(size for size in steps if size < photos), photos]


def bench_search(
    photos: int, folder: Path, extractor: Extractor, progress: Progress | None = None
) -> Iterator[SearchRow]:
    """Measure search in growing libraries, the last of `photos` photos; one row a size.

    folder: photos whose descriptors are mixed; 500 of them at most are read.

    Takes 9 KB of the folder for temporary files a photo, and gives them back.
    Raises BenchError if there is not so much, the folder holds no photos, or no codes come with
    these weights.
    """
    if photos < LEAST:
        raise BenchError(f"{photos:,} photos are too few to measure: {LEAST:,} or more")
    tell = progress or (lambda what, done, total: None)
    with tempfile.TemporaryDirectory(prefix="fc7-bench-") as place:
        check_room(Path(place), photos * _BYTES_A_PHOTO, photos)
        seeds = read_seeds(folder, extractor, lambda done, total: tell("photos", done, total))
        drawn = DrawnLibrary(Path(place), extractor, seeds)
        for size in sizes(photos):
            while drawn.rows < size:
                drawn.add(min(BLOCK, size - drawn.rows))
                tell("descriptors", drawn.rows, photos)
            yield _measure(Path(place), size)
        drawn.catalog.close()


# Measuring


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a process that asked a library has to tell."""

    opening: float  # s
    seconds: list[float]  # of each query
    found: list[list[int]]  # photos of each answer
    bytes: int
    shortlist: int


def _measure(library: Path, size: int) -> SearchRow:
    with open_library(library) as opened:
        opened.fit_shortlist()
    photos = np.random.default_rng(size).choice(size, _ASKED, replace=False) + 1
    exact = _in_a_process(library, photos.tolist(), "exact")
    codes = _in_a_process(library, photos.tolist(), "codes")
    forget_pages(library / "segments")
    cold = _in_a_process(library, photos[:_ASKED_COLD].tolist(), "codes")
    kept = sum(len({*a} & {*b}) for a, b in zip(exact.found, codes.found, strict=True))
    return SearchRow(
        photos=size,
        exact_ms=1e3 * statistics.median(exact.seconds),
        codes_ms=1e3 * statistics.median(codes.seconds),
        codes_cold_ms=1e3 * statistics.median(cold.seconds),
        recall_at_10=kept / sum(map(len, exact.found)),
        shortlist=codes.shortlist,
        opening_ms=1e3 * codes.opening,
        codes_bytes=codes.bytes,
        exact_bytes=exact.bytes,
    )


def _in_a_process(library: Path, photos: list[int], mode: Literal["exact", "codes"]) -> _Asked:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_ask, args=(library, photos, mode, theirs))
    process.start()
    theirs.close()
    try:
        asked: _Asked = ours.recv()
    except EOFError:
        raise BenchError("the process that asks was killed: memory may be short") from None
    finally:
        process.join()
    return asked


def _ask(
    library: Path, photos: list[int], mode: Literal["exact", "codes"], answer: Connection
) -> None:
    """What runs in the process of its own."""
    start = time.perf_counter()
    with open_library(library, create=False) as opened:
        opened.answer(photos[0], _K, mode=mode)
        opening = time.perf_counter() - start
        seconds, found, shortlist = [], [], 0
        for photo in photos:
            start = time.perf_counter()
            got = opened.answer(photo, _K, mode=mode)
            seconds.append(time.perf_counter() - start)
            found.append([hit.photo.id for hit in got.hits])
            shortlist = got.effort.shortlist
    answer.send(_Asked(opening, seconds, found, peak_bytes(), shortlist))
