"""Libraries for benches: made as indexing makes them, but of drawn descriptors, without photos."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer.catalog import Catalog, FileStat, NewContent, Writer
from indexer.coding import CoderStore, recode
from indexer.inside import CATALOG, THUMBNAILS
from indexer.map_rows import add_places
from indexer.segments import SegmentStore
from indexer.thumbnails import ThumbnailStore
from retrieval.codes import shipped_coder
from retrieval.errors import BenchError
from retrieval.ground_truth import files_below
from retrieval.synthetic import VIEWS, describe_views, mix

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

BLOCK = 8_192  # rows a segment, 130 MB while it is made
_SEEDED = 500  # photos at most that are described
_PICTURES = 100  # thumbnails of each shape; a library of photos has as many as photos
_CAMERAS = ("Canon EOS 5D", "NIKON D750", "Apple iPhone 12", "SONY ILCE-7M3", "Pixel 6", None)
_SHAPES = ((4032, 3024), (3024, 4032), (6000, 4000), (4000, 6000), (1920, 1080))


def check_room(place: Path, needed: int, photos: int) -> None:
    """Raises BenchError if the disk of `place` has not so many bytes left."""
    free = shutil.disk_usage(place).free
    if free < needed:
        raise BenchError(
            f"{place} has {free / 1e9:.1f} GB left, {photos:,} photos need {needed / 1e9:.1f}: "
            "ask for fewer, or name a folder on another disk in TMPDIR"
        )


def read_seeds(
    folder: Path, extractor: Extractor, progress: Callable[[int, int], None]
) -> NDArray[np.float32]:
    """Describe up to 500 photos of a folder, for others to be mixed from.

    Returns unit rows (n, d). Raises BenchError if there are too few.
    """
    if not folder.is_dir():
        raise BenchError(f"no folder {folder}: give one of photos")
    files = [folder / file for file in files_below(folder)]
    chosen = files[:: -(-len(files) // _SEEDED) or 1]
    seeds = describe_views(chosen, extractor, progress)
    if len(seeds) <= 10 * VIEWS:
        raise BenchError(
            f"{folder} holds {len(seeds) // VIEWS} photos: too few to draw others from"
        )
    return seeds


class DrawnLibrary:
    """A library of rows: no files, no thumbnails, nothing known of a photo but its size."""

    def __init__(self, place: Path, extractor: Extractor, seeds: NDArray[np.float32]) -> None:
        """place: its folder. seeds: (n, d) unit rows. Raises BenchError if no codes are known."""
        coder = shipped_coder(extractor.network, extractor.stamp)
        if coder is None:
            raise BenchError(
                f"no codes come with {extractor.network}'s {extractor.weights} weights: "
                "take bundled"
            )
        self.rows = 0
        self.place = place
        self.catalog = Catalog(place / CATALOG)
        self._segments = SegmentStore(place / "segments")
        self._seeds = seeds
        self._rng = np.random.default_rng(0)
        with self.catalog.write() as writer:
            writer.set(network=extractor.network, weights=extractor.weights, stamp=extractor.stamp)
        recode(self.catalog, self._segments, CoderStore(place / "coders"), *coder)

    def add(self, count: int) -> None:
        """Draw so many photos more."""
        numbers = range(self.rows + 1, self.rows + count + 1)
        ids = np.arange(numbers.start, numbers.stop, dtype=np.int64)
        segment = self._segments.write(ids, mix(self._seeds, count, self._rng))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        always = {"format": "JPEG", "orientation": 1, "norm": 1.0, "indexed_at": now}
        contents = [
            NewContent(hash_of(one), always | self.columns(one), self.labels(one))
            for one in numbers
        ]
        self.prepare(numbers)
        with self.catalog.write() as writer:
            writer.add_segment(segment)
            writer.add_contents(list(numbers), segment.name, contents)
            stats = [FileStat(str(self.path(one)), 0, 0) for one in numbers]
            writer.put_photos(list(zip(stats, numbers, strict=True)))
            self.write_more(writer, numbers)
        self.rows += count

    def path(self, one: int) -> Path:
        """Where the photo of this number is said to be."""
        return Path(f"/drawn/{one // 1000}/{one}.jpg")

    def columns(self, one: int) -> dict[str, Any]:
        """What is known of it beyond what all have in common."""
        return {"width": 640, "height": 480}

    def labels(self, one: int) -> tuple[tuple[str, float], ...]:
        """Its likeliest classes."""
        return ()

    def prepare(self, numbers: range) -> None:
        """Put in place what must be there before the rows are."""

    def write_more(self, writer: Writer, numbers: range) -> None:
        """Write what else a library knows of them."""


class DressedLibrary(DrawnLibrary):
    """One that looks like a person's: dates, cameras, folders, classes, thumbnails, empty files.

    It has a map, whose places are drawn too: t-SNE would take as long as all the rest.
    """

    def __init__(self, place: Path, extractor: Extractor, seeds: NDArray[np.float32]) -> None:
        super().__init__(place, extractor, seeds)
        self.photos = place.with_name(f"{place.name}-photos")
        self._classes = extractor.classes
        self._thumbnails = ThumbnailStore(place / THUMBNAILS)
        self._pictures = [[_picture(seed, shape) for shape in _SHAPES] for seed in range(_PICTURES)]
        with self.catalog.write() as writer:
            writer.add_folder(self.photos)

    def path(self, one: int) -> Path:
        taken = _taken(one)
        return self.photos / f"{taken:%Y}" / f"{taken:%m}" / f"IMG_{one:06}.jpg"

    def columns(self, one: int) -> dict[str, Any]:
        width, height = _SHAPES[one % len(_SHAPES)]
        return {
            "width": width,
            "height": height,
            "camera": _CAMERAS[one % 7 % len(_CAMERAS)],
            "taken_at": None if one % 10 == 0 else _taken(one).isoformat(),
        }

    def labels(self, one: int) -> tuple[tuple[str, float], ...]:
        # Of a few classes there are many photos, of most a few, as people's are.
        rng = np.random.default_rng(one)
        chosen = dict.fromkeys(int(len(self._classes) * x**3) for x in rng.random(5))
        shares = np.sort(rng.dirichlet(np.ones(len(chosen))))[::-1]
        return tuple((self._classes[at], float(p)) for at, p in zip(chosen, shares, strict=True))

    def prepare(self, numbers: range) -> None:
        for one in numbers:
            path = self.path(one)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        self._thumbnails.put({hash_of(one): self._drawn(one) for one in numbers})

    def write_more(self, writer: Writer, numbers: range) -> None:
        places = np.random.default_rng(numbers.start).normal(0, 20, (len(numbers), 2))
        add_places(writer, dict(zip(numbers, places.tolist(), strict=True)))
        writer.set(map_version=str(numbers.stop), map_drawn_from=str(numbers.stop - 1))

    def _drawn(self, one: int) -> bytes:
        return self._pictures[one % _PICTURES][one % len(_SHAPES)]


def hash_of(one: int) -> str:
    """What stands for the hash of a photo of this number; its first letters differ too."""
    return f"{one * 0x9E3779B97F4A7C15 % 2**64:016x}{one:048x}"


def _taken(one: int) -> datetime:
    """When: over ten years, in no order."""
    return datetime(2014, 1, 1) + timedelta(minutes=one * 2_654_435_761 % (10 * 365 * 24 * 60))


def _picture(seed: int, shape: tuple[int, int]) -> bytes:
    """A photo-like JPEG whose long side is 320: coarse noise and fine grain."""
    rng = np.random.default_rng(seed)
    scale = 320 / max(shape)
    size = (round(shape[0] * scale), round(shape[1] * scale))
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    grain = Image.fromarray(rng.integers(0, 256, (size[1] // 2, size[0] // 2, 3), dtype=np.uint8))
    picture = Image.blend(coarse.resize(size, Image.Resampling.BICUBIC), grain.resize(size), 0.08)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()
