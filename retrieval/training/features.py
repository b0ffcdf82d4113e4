"""Photos -> what the student starts from and what the teacher says, kept in shards on disk.

One shard holds up to 500 photos of one folder: `<teacher>-<key>.safetensors` the teacher's scores
(n, 1000) and `<network>-<key>.safetensors` the pyramids (n, views, 14 c), both float16, and their
photos' paths, sizes and sha256. The key is a hash of all that the shard depends on, so that a run
that was cut off goes on, added folders cost only themselves, and a second network reuses the
teacher's shards.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

from retrieval.errors import DistillError, ImageError
from retrieval.images import frame, read_photo

PYRAMID = (1, 2, 3)  # averages over the whole photo, its quarters, its ninths
_SHARD = 500
_BATCH = 32  # photos
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".avif"})
_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
_DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

Values = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """One line of the data manifest."""

    path: str  # folder name / path inside it
    bytes: int
    sha256: str
    skipped: str = ""  # why it was left out; empty if it was used


@dataclass(frozen=True, slots=True)
class Shard:
    """Up to 500 photos of one folder, and how many views of each are looked at."""

    folder: Path
    photos: tuple[Path, ...]
    views: int
    seed: int

    def key(self) -> str:
        names = [[p.relative_to(self.folder).as_posix(), p.stat().st_size] for p in self.photos]
        text = json.dumps([self.folder.name, names, self.views, self.seed, PYRAMID])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan(folders: Sequence[Path], *, views: int, seed: int, most: int | None) -> list[Shard]:
    """Cut folders into shards; at most `most` photos of each folder, chosen by the seed.

    Raises DistillError when a folder is missing or none holds a photo.
    """
    shards = []
    for folder in folders:
        if not folder.is_dir():
            raise DistillError(f"{folder}: no such folder of photos")
        found = [p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file()]
        # By hash: a mixed order that stays when photos are added, so most shards stay valid.
        found.sort(key=lambda p: _digest(f"{seed}/{p.relative_to(folder).as_posix()}"))
        chosen = found[:most]
        for i in range(0, len(chosen), _SHARD):
            shards.append(Shard(folder, tuple(chosen[i : i + _SHARD]), views, seed))
    if not shards:
        raise DistillError(f"{', '.join(map(str, folders))}: no photo in there")
    return shards


def conv_input(views: NDArray[np.uint8]) -> Tensor:
    """(n, 224, 224, 3) uint8 -> (n, 3, 224, 224) float32, normalised as torchvision does."""
    pixels = torch.from_numpy(views).permute(0, 3, 1, 2).contiguous().float()
    return pixels.sub_(255 * _MEAN).div_(255 * _DEVIATION)


def pyramid(pool5: Tensor) -> Tensor:
    """(n, c, g, g) -> (n, 14 c): averages over 1x1, 2x2 and 3x3 regions, level by level."""
    levels = [torch.nn.functional.adaptive_avg_pool2d(pool5, k).flatten(1) for k in PYRAMID]
    return torch.cat(levels, dim=1)


def photo_views(
    pixels: NDArray[np.uint8], count: int, rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    """(h, w, 3) -> `count` views (224, 224, 3): first as the user's photos, then random crops."""
    height, width = pixels.shape[:2]
    views = [frame(pixels, "crop")]
    while len(views) < count:
        area, shape = rng.uniform(0.35, 1.0), np.exp(rng.uniform(-0.29, 0.29))
        high = min(height, round(np.sqrt(area * height * width / shape)))
        wide = min(width, round(np.sqrt(area * height * width * shape)))
        top, left = rng.integers(height - high + 1), rng.integers(width - wide + 1)
        part = pixels[top : top + high, left : left + wide]
        view = frame(np.ascontiguousarray(part), "squash")
        views.append(np.ascontiguousarray(view[:, ::-1]) if rng.random() < 0.5 else view)
    return views


def sample_views(shards: Sequence[Shard], count: int) -> NDArray[np.uint8]:
    """About `count` first views spread over all shards, (n, 224, 224, 3): to set 8-bit scales."""
    each = -(-count // len(shards))
    photos = [(s, p) for s in shards for p in s.photos[:each]][: 2 * count]
    read = (_read(shard, photo)[1] for shard, photo in photos)
    return np.stack([views[0] for views in read if views is not None])


def compute(
    shards: Sequence[Shard],
    folder: Path,
    name: str,
    values: Values,
    progress: Progress | None = None,
) -> list[Path]:
    """Compute the shards that are not in `folder` yet; return all their files in order.

    values: (n, 224, 224, 3) views -> (n, d).
    """
    folder.mkdir(parents=True, exist_ok=True)
    total, done, files = sum(len(s.photos) for s in shards), 0, []
    for shard in shards:
        file = folder / f"{name}-{shard.key()}.safetensors"
        if not file.exists():
            _compute_shard(shard, file, values)
        files.append(file)
        done += len(shard.photos)
        if progress:
            progress(name, done, total)
    return files


def load(files: Sequence[Path]) -> tuple[NDArray[np.float16], list[PhotoRecord]]:
    """Read shards: values (n, views, d) of the photos used, and the records of all."""
    parts, records = [], []
    for file in files:
        with safe_open(file, "np") as shard:
            parts.append(shard.get_tensor("values"))
            records += [PhotoRecord(**r) for r in json.loads(shard.metadata()["photos"])]
    return np.concatenate(parts), records


def _compute_shard(shard: Shard, file: Path, values: Values) -> None:
    records: list[PhotoRecord] = []
    rows: list[NDArray[np.float16]] = []
    for batch in _decoded(shard):
        records += [record for record, _ in batch]
        views = [v for _, v in batch if v is not None]
        if views:
            flat = values(np.concatenate(views))
            rows.append(flat.reshape(len(views), -1, flat.shape[-1]).astype(np.float16))
    if not rows:
        raise DistillError(f"{shard.folder}: none of {len(shard.photos)} photos can be read")
    whole = np.concatenate(rows)
    aside = file.with_suffix(".part")
    text = json.dumps([asdict(r) for r in records])
    save_file({"values": whole}, aside, {"photos": text})
    aside.replace(file)


def _decoded(shard: Shard) -> Iterator[list[tuple[PhotoRecord, NDArray[np.uint8] | None]]]:
    """Batches of (record, views (v, 224, 224, 3) or None), two batches decoded ahead."""

    def decode(photo: Path) -> tuple[PhotoRecord, NDArray[np.uint8] | None]:
        return _read(shard, photo, shard.views)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = [shard.photos[i : i + _BATCH] for i in range(0, len(shard.photos), _BATCH)]
        ahead = [[pool.submit(decode, p) for p in part] for part in parts[:2]]
        for i in range(len(parts)):
            if i + 2 < len(parts):
                ahead.append([pool.submit(decode, p) for p in parts[i + 2]])
            yield [f.result() for f in ahead.pop(0)]


def _read(
    shard: Shard, photo: Path, views: int = 1
) -> tuple[PhotoRecord, NDArray[np.uint8] | None]:
    label = f"{shard.folder.name}/{photo.relative_to(shard.folder).as_posix()}"
    try:
        data = photo.read_bytes()
    except OSError as error:
        return PhotoRecord(label, 0, "", f"can't be read: {error.strerror}"), None
    sha = hashlib.sha256(data).hexdigest()
    try:
        pixels, _ = read_photo(data)
    except ImageError as error:
        return PhotoRecord(label, len(data), sha, error.reason), None
    rng = np.random.default_rng([shard.seed, int(_digest(label)[:8], 16)])
    return PhotoRecord(label, len(data), sha), np.stack(photo_views(pixels, views, rng))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
