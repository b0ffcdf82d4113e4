"""Indexing against the usual loop, and against what this machine could do at most.

Four works over the same photos, in turn, several rounds: the plain torchvision loop, fc7's own
indexing, decoding alone, the network alone. Each has a process of its own, so that none disturbs
the others' threads and memory; loading the network is in none of the times.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

from indexer.bench.memory import peak_bytes
from indexer.library import open_library
from indexer.pipeline import BATCH, READERS
from indexer.scan import scan
from retrieval.errors import BenchError, ImageError
from retrieval.extractor import Extractor, choose_device
from retrieval.figures import draw_bars
from retrieval.images import MAX_PIXELS, frame, read_photo
from retrieval.networks import MEAN, PUBLISHED, STD
from retrieval.reading import describe_files
from retrieval.weights import load_weights, network_of

_COMPARED = 100  # photos of which both roads' descriptors are compared


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured. It goes to the processes that measure."""

    folder: Path  # every file in it is a photo that both roads can read, and no two are alike
    network: str
    weights: str
    device: str
    batch: int  # of the plain loop
    workers: int  # of the plain loop

    def photos(self) -> list[Path]:
        return sorted(self.folder.iterdir())


@dataclass(frozen=True, slots=True)
class Round:
    """One work done once over all photos."""

    photos: int
    seconds: float
    peak_bytes: int  # of the process so far


@dataclass(frozen=True, slots=True)
class IndexingFigures:
    """What `fc7 bench index` shows. Rates are photos/s, medians over the rounds."""

    network: str
    weights: str
    device: str  # cpu or cuda
    how: str  # what computes, in fc7's words
    cores: int
    photos: int
    left_out: int  # files that one of the two roads can't read, and copies
    mean_megabytes: float
    mean_megapixels: float
    rounds: int
    batch: int
    plain: float
    fc7: float
    decoding: float
    computing: float
    distance: float  # between both roads' descriptors, median
    reduced: float  # between fc7's descriptors and its own of photos decoded whole, median
    peak_megabytes: float  # of the process that indexes

    @property
    def limit(self) -> float:
        """What fc7 could reach at most: on a card both stages run at once, on cores in turn."""
        if self.device == "cuda":
            return min(self.decoding, self.computing)
        return 1 / (1 / self.decoding + 1 / self.computing)

    @property
    def ratio(self) -> float:
        return self.fc7 / self.plain

    @property
    def efficiency(self) -> float:
        return self.fc7 / self.limit

    @property
    def binds(self) -> str:
        return "decoding" if self.decoding < self.computing else "the network"

    def rates(self) -> dict[str, float]:
        """What is shown and drawn, photos/s, by its name."""
        return {
            "plain loop": self.plain,
            "fc7": self.fc7,
            "decoding only": self.decoding,
            "network only": self.computing,
            "limit": self.limit,
        }

    def summary(self) -> dict[str, object]:
        """All of it, for JSON."""
        names = ("limit", "ratio", "efficiency", "binds")
        return asdict(self) | {name: getattr(self, name) for name in names}


def measure_indexing(
    folder: Path,
    *,
    network: str | None,
    weights: str,
    device: str,
    most: int,
    rounds: int,
    batch: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> IndexingFigures:
    """Time the four works over at most `most` photos of a folder.

    network: one of torchvision's, for the plain loop is; None: the one that the weights are for.
    batch: photos a pass of the plain loop.
    progress: called with the stage, how much of it is done, of how much.

    Raises BenchError if the folder holds no photos or torchvision no such network; WeightsError,
    DeviceError.
    """
    network = network or network_of(weights)
    if network not in PUBLISHED:
        raise BenchError(f"the plain loop is torchvision's, which has no {network}")
    cores = os.cpu_count() or 1
    with TemporaryDirectory(prefix="fc7-bench-") as place, ExitStack() as parts:
        job = Job(Path(place) / "photos", network, weights, device, batch, cores)
        files = [Path(stat.path) for stat in scan(folder).files]

        def tell(done: int) -> None:
            if progress:
                progress("photos copied", done, min(most, len(files)))

        megapixels, left_out = copy_usable(files, job.folder, most, tell)
        if not megapixels:
            raise BenchError(f"{folder} holds no photos that the plain loop can read too")
        pools = [parts.enter_context(ProcessPoolExecutor(1, get_context("spawn"))) for _ in WORKS]
        # A first round that doesn't count loads the network and warms all there is to warm.
        times: list[list[Round]] = [[] for _ in WORKS]
        for done in range(rounds + 1):
            for work, pool, its_times in zip(WORKS, pools, times, strict=True):
                its_times.append(pool.submit(work, job).result())
            if progress:
                progress("rounds", done, rounds)
        where, how = pools[1].submit(_explain, job).result()
        theirs = pools[0].submit(plain_descriptors, job, _COMPARED).result()
        ours = pools[1].submit(fc7_descriptors, job, _COMPARED).result()
        whole = pools[1].submit(whole_descriptors, job, _COMPARED).result()
        size = statistics.fmean(photo.stat().st_size for photo in job.photos())
    plain, fc7, decoding, computing = (
        statistics.median(one.photos / one.seconds for one in its_times[1:]) for its_times in times
    )
    return IndexingFigures(
        network=network,
        weights=weights,
        device=where,
        how=how,
        cores=cores,
        photos=len(megapixels),
        left_out=left_out,
        mean_megabytes=size / 1e6,
        mean_megapixels=statistics.fmean(megapixels),
        rounds=rounds,
        batch=batch,
        plain=plain,
        fc7=fc7,
        decoding=decoding,
        computing=computing,
        distance=_median_distance(ours, theirs),
        reduced=_median_distance(ours, whole),
        peak_megabytes=times[1][-1].peak_bytes / 1e6,
    )


def _median_distance(some: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    return float(np.median(np.linalg.norm(some - others, axis=1)))


def copy_usable(
    files: Sequence[Path], folder: Path, most: int, tell: Callable[[int], None]
) -> tuple[list[float], int]:
    """Copy up to `most` photos, evenly chosen, into a new folder, numbered in their order.

    Left out are files that fc7 or Pillow alone can't read (HEIC, RAW, broken ones), and copies,
    which fc7 would read once only. Returns each photo's megapixels, and how many were left out.
    """
    folder.mkdir()
    chosen = [files[i * len(files) // most] for i in range(most)] if len(files) > most else files
    megapixels: list[float] = []
    hashes: set[bytes] = set()
    for done, file in enumerate(chosen, start=1):
        try:
            _, info = read_photo(file)
            hash_ = hashlib.sha256(file.read_bytes()).digest()
            if info.format != "RAW" and hash_ not in hashes:  # of RAW, Pillow reads a thumbnail
                _plain_pixels(file)
                shutil.copyfile(file, folder / f"{len(hashes):06}{file.suffix}")
                megapixels.append(info.width * info.height / 1e6)
                hashes.add(hash_)
        except (ImageError, OSError, ValueError, SyntaxError):  # what Pillow raises
            pass
        tell(done)
    return megapixels, len(chosen) - len(megapixels)


def draw_indexing(figures: IndexingFigures) -> str:
    """Draw the rates as bars. Returns a whole SVG file."""
    title = f"{figures.network}, {figures.mean_megapixels:.1f} megapixels: photos/s"
    return draw_bars(title, figures.rates())


# --- the plain loop: what a user would write


class PlainPhotos(Dataset[Tensor]):
    """Photos as ImageFolder gives them with torchvision's usual transforms: (3, 224, 224)."""

    def __init__(self, photos: Sequence[Path]) -> None:
        self._photos = photos
        self._transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Tensor:
        pixels: Tensor = self._transform(_plain_pixels(self._photos[index]))
        return pixels


def _plain_pixels(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def plain_loop(job: Job) -> Round:
    """The usual loop over all photos, in float32, up to FC7. Nothing is stored."""
    loader = _plain_loader(job)
    start = time.perf_counter()
    photos = sum(len(fc7) for fc7 in _plain_passes(job, loader))
    return _round(photos, start)


def plain_descriptors(job: Job, most: int) -> NDArray[np.float32]:
    """The plain loop's FC7 (n, 4096) of the first photos, made unit rows."""
    passes = -(-most // job.batch)
    fc7 = torch.cat(list(islice(_plain_passes(job, _plain_loader(job)), passes)))[:most]
    unit: NDArray[np.float32] = nn.functional.normalize(fc7).numpy()
    return unit


@torch.inference_mode()
def _plain_passes(job: Job, loader: DataLoader[Tensor]) -> Iterator[Tensor]:
    model, device = _plain_model(job)
    for images in loader:
        yield model(images.to(device, non_blocking=True)).cpu()


@cache
def _plain_model(job: Job) -> tuple[nn.Module, torch.device]:
    device, _ = choose_device(job.device)
    loaded = load_weights(job.network, job.weights)
    model = models.get_model(job.network, num_classes=len(loaded.classes))
    model.load_state_dict(loaded.state_dict)
    model.classifier = model.classifier[:6]  # up to FC7
    return model.eval().to(device), device


@cache
def _plain_loader(job: Job) -> DataLoader[Tensor]:
    """As many workers as cores; they stay, so that starting them is not counted either."""
    return DataLoader(
        PlainPhotos(job.photos()),
        batch_size=job.batch,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
        pin_memory=choose_device(job.device)[0].type == "cuda",
    )


# --- fc7


def index_photos(job: Job) -> Round:
    """fc7's own indexing into a new library, from opening it to closing it."""
    extractor = _extractor(job)
    with TemporaryDirectory(dir=job.folder.parent) as place:
        start = time.perf_counter()
        with open_library(Path(place) / "library", extractor=extractor) as library:
            added = library.index([job.folder]).added
        return _round(added, start)


def decode_only(job: Job) -> Round:
    """Files to framed pixels in as many threads as indexing has; no hashes, no thumbnails."""
    framing, side = _extractor(job).framing, _extractor(job).side

    def decode(photo: Path) -> None:
        frame(read_photo(photo)[0], framing, side)

    photos = job.photos()
    start = time.perf_counter()
    with ThreadPoolExecutor(READERS) as pool:
        decoded = sum(1 for _ in pool.map(decode, photos))
    return _round(decoded, start)


def compute_only(job: Job) -> Round:
    """Framed pixels in memory to descriptors, in batches as indexing has them."""
    pixels, extractor, photos = _some_pixels(job), _extractor(job), len(job.photos())
    start = time.perf_counter()
    for first in range(0, photos, len(pixels)):
        extractor.describe(pixels[: photos - first])
    return _round(photos, start)


def fc7_descriptors(job: Job, most: int) -> NDArray[np.float32]:
    """fc7's descriptors (n, 4096) of the first photos."""
    found = describe_files(job.photos()[:most], _extractor(job))
    return np.concatenate([one.fc7 for _, one in found if not isinstance(one, ImageError)])


def whole_descriptors(job: Job, most: int) -> NDArray[np.float32]:
    """The same, of photos that were decoded whole and then made small, slowly: the quality."""
    extractor = _extractor(job)
    whole = (read_photo(photo, min_side=MAX_PIXELS)[0] for photo in job.photos()[:most])
    pixels = np.stack([frame(photo, extractor.framing, extractor.side) for photo in whole])
    return extractor.describe(pixels).fc7


@cache
def _extractor(job: Job) -> Extractor:
    return Extractor(job.network, job.weights, job.device)


@cache
def _some_pixels(job: Job) -> NDArray[np.uint8]:
    framing, side = _extractor(job).framing, _extractor(job).side
    photos = job.photos()[:BATCH]
    return np.stack([frame(read_photo(photo)[0], framing, side) for photo in photos])


def _round(photos: int, start: float) -> Round:
    return Round(photos, time.perf_counter() - start, peak_bytes())


def _explain(job: Job) -> tuple[str, str]:
    extractor = _extractor(job)
    return extractor.device, extractor.explain()


Work = Callable[[Job], Round]
WORKS: tuple[Work, ...] = (plain_loop, index_photos, decode_only, compute_only)
