"""Broken and hostile photos down the real road: a worker of its own process, and `fc7 index`.

FC7_HOSTILE_PHOTOS names a folder of broken files, as Pillow and others collect them. Without it
its row says so.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from indexer import open_library
from retrieval import decode_worker, images, workers
from retrieval.errors import ImageError
from retrieval.images import read_photo, read_picture, read_region
from retrieval.photo import MAX_PIXELS, PhotoInfo
from torture.photo_mutants import mutant, originals
from torture.table import Row, times

MUTANTS = 20_000
INDEXED = 4_000
GALLERY = Path(__file__).parents[2] / "data" / "gallery"
# What a reason may begin with: see `retrieval.decoding`.
REASONS = (
    "empty file",
    "not an image",
    "not a file",
    "damaged",
    "truncated",
    "unsupported ",
    "too many pixels",
    "too large for this machine's memory",
    "can't be read (",
    workers.CRASHES,
    workers.TOO_LONG,
)


@dataclass
class Tally:
    """What became of some files."""

    read: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    fell: list[str] = field(
        default_factory=list
    )  # files that were read at the second try, as a worker fell
    wrong: list[str] = field(default_factory=list)  # neither a sound picture nor a known reason
    peak_bytes: int = 0  # of a worker
    slowest: float = 0.0  # seconds, by the clock

    @property
    def tried(self) -> int:
        return self.read + self.reasons.total() + len(self.wrong)

    @property
    def lost(self) -> int:
        return len(self.wrong) + (self.peak_bytes > decode_worker.MEMORY_BYTES)

    def note(self) -> str:
        crashed, long = self.reasons[workers.CRASHES], self.reasons[workers.TOO_LONG]
        told = (
            f"{self.read:,} read, {self.reasons.total():,} refused ({crashed} crash their decoder, "
            f"{long} take too long), {len(self.fell)} at the second try; workers' peak "
            f"{self.peak_bytes / 1e6:,.0f} MB, slowest {self.slowest:.1f} s"
        )
        return "; ".join([told, *self.fell[:5], *self.wrong[:5]])


def rows(share: float) -> Iterator[Row]:
    yield originals_row()
    for format in originals():
        tally = tally_of(mutants(format, times(MUTANTS // len(originals()), share)))
        yield Row("images", f"a mutated {format}", tally.tried, tally.lost, tally.note())
    yield collections(share)
    with tempfile.TemporaryDirectory() as place:
        yield indexed(Path(place), times(INDEXED, share))


def originals_row() -> Row:
    """The files that mutants are made of must all be read: else those would say nothing."""
    named = ((f"{f} {i}", d) for f, own in originals().items() for i, d in enumerate(own))
    tally = tally_of(named)
    lost = tally.tried - tally.read
    return Row("images", "a sound small photo of each format", tally.tried, lost, tally.note())


def mutants(format: str, count: int) -> Iterator[tuple[str, bytes]]:
    return ((f"{format} {number}", mutant(format, number)) for number in range(count))


def collections(share: float) -> Row:
    what = "a file of a collection of broken photos"
    folder = os.environ.get("FC7_HOSTILE_PHOTOS")
    if not folder:
        return Row("images", what, 0, 0, "not tried: FC7_HOSTILE_PHOTOS names no folder of them")
    found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    chosen = found[:: max(1, round(1 / share))]
    tally = tally_of((str(path), path.read_bytes()) for path in chosen)
    return Row("images", what, tally.tried, tally.lost, tally.note())


def tally_of(files: Iterable[tuple[str, bytes]]) -> Tally:
    """Read each file, in the three ways in turn that there are."""
    tally, worker = Tally(), _worker()
    for number, (name, data) in enumerate(files):
        begun = time.monotonic()
        try:
            _read(number, data)
            tally.read += 1
        except ImageError as error:
            if error.reason.startswith(REASONS):
                tally.reasons[error.reason] += 1
            else:
                tally.wrong.append(f"{name}: {error.reason}")
        except Exception as error:  # noqa: BLE001  (what it is, is what is asked)
            tally.wrong.append(f"{name}: {error!r}")
        tally.slowest = max(tally.slowest, time.monotonic() - begun)
        fresh = _worker()
        if worker is not None and fresh is not None and worker != fresh:
            tally.fell.append(name)
        worker = fresh
        if fresh is not None and number % 50 == 0:
            tally.peak_bytes = max(tally.peak_bytes, _peak_bytes(fresh))
    if worker is not None:
        tally.peak_bytes = max(tally.peak_bytes, _peak_bytes(worker))
    return tally


def _read(number: int, data: bytes) -> None:
    """Raises ImageError, AssertionError if what comes is no picture as promised."""
    if number % 3 == 0:
        picture = read_picture(data, "crop")
        assert picture.pixels.shape == (224, 224, 3)
        assert picture.pixels.dtype == np.uint8
        with Image.open(io.BytesIO(picture.thumbnail), formats=["JPEG"]) as small:
            small.load()
            assert max(small.size) <= 320
        _check(picture.info)
        return
    if number % 3 == 1:
        pixels, info = read_photo(data)
        _check(info)
    else:
        pixels = read_region(data, (0.0, 0.0, 1.0, 1.0))
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS


def _check(info: PhotoInfo) -> None:
    assert info.width > 0
    assert info.height > 0
    assert info.orientation in range(1, 9)
    for text in (info.taken_at, info.camera, info.lens):
        assert text is None or (text.isprintable() and len(text) <= 500)
    assert info.latitude is None or -90 <= info.latitude <= 90
    assert info.longitude is None or -180 <= info.longitude <= 180


def _worker() -> int | None:
    """The process that was last used; read from one thread, there is one at most."""
    idle = images._POOL._idle
    return idle[-1].pid if idle else None


def _peak_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


# ---- a folder of them


def indexed(place: Path, count: int, sound: Path = GALLERY) -> Row:
    """`fc7 index` over so many mutants, with a folder of sound photos among them."""
    folder, library = place / "photos", place / "library"
    shutil.copytree(sound, folder / "good")
    good = {path for path in (folder / "good").glob("*/*") if path.suffix != ".md"}
    bad = folder / "bad"
    bad.mkdir()
    formats = [*originals()]
    for number in range(count):
        format = formats[number % len(formats)]
        (bad / f"{number:05}.{format.lower()}").write_bytes(mutant(format, -1 - number))
    command = [sys.executable, "-m", "ui.cli", "index", "--library", str(library), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    every = {path for path in folder.rglob("*") if path.is_file()}
    with open_library(library) as opened:
        taken = {photo.path for photo in opened.photos(limit=len(every))}
        skipped = {skip.path: skip.reason for skip in opened.status().skipped}
    lost = len(good - taken) + len(every - taken - skipped.keys()) + (done.returncode != 0)
    lost += "Traceback" in done.stderr
    crashes = sum(reason == workers.CRASHES for reason in skipped.values())
    note = f"{len(taken):,} indexed, {len(skipped):,} skipped, {crashes} crash their decoder"
    if lost:
        note += f"; ended with {done.returncode}: {done.stderr[-300:]!r}"
    return Row("images", "a broken file in a folder for fc7 index", len(every), lost, note)
