"""The work of a run on many machines, task by task, without the engine that spreads it.

folders -> plan; a shard's files -> decoded rows and pixels -> descriptors -> shard, committed
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from indexer.catalog import FileStat, Skip
from indexer.engines.places import Place, is_remote, local_path, read_at, walk
from indexer.engines.shards import (
    RunHeader,
    begin_run,
    path_columns,
    planned_files,
    read_header,
    read_table,
    with_descriptors,
)
from indexer.run import outermost
from indexer.scan import scan
from indexer.storing import Read
from retrieval.codes import Coder, shipped_coder
from retrieval.errors import EngineError, LibraryError, ShardsError, WeightsError
from retrieval.labels import top_labels
from retrieval.reading import read_ahead

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

PER_SHARD = 512  # files: 77 MB of pixels on their way, about 12 MB written
_READERS = 4  # threads a task: a store far away answers slowly
_PIXELS = "pixels"


def open_run(
    place: Place,
    folders: Sequence[str],
    *,
    network: str | None,
    weights: str | None,
    per_shard: int = PER_SHARD,
) -> RunHeader:
    """Go on with the run that `place` holds, or plan a new one over these folders.

    folders: paths or addresses; none means those of the run that is there.

    Raises ShardsError if it holds a run of other folders or another model, LibraryError if a folder
    isn't there, EngineError if an address can't be used, WeightsError of the model.
    """
    roots = _roots(folders)
    known = read_header(place)
    if known is not None:
        _check_same(place, known, roots, network, weights)
        return known
    if not roots:
        raise ShardsError(f"{place.address} holds no run yet: name a folder of photos")
    from retrieval.extractor import Extractor

    extractor = Extractor(network, _absolute(weights or "bundled"), "cpu")
    coder = shipped_coder(extractor.network, extractor.stamp)
    exclude = Path(place.address) if place.is_local else None
    unreadable: list[list[str]] = []
    common = {
        "fc7": metadata.version("fc7"),
        "folders": roots,
        "unreadable": unreadable,
        "network": extractor.network,
        "weights": _absolute(weights or "bundled"),
        "stamp": extractor.stamp,
        "framing": extractor.framing,
        "side": extractor.side,
        "dims": extractor.fc7_size,
        "classes": list(extractor.classes),
        "coder": None if coder is None else coder_digest(coder[0]),
        "bits": 0 if coder is None else coder[0].bits,
    }
    return begin_run(place, _listed(roots, exclude, unreadable), per_shard, common)


def read_files(place: Place, header: RunHeader, shard: int) -> pa.Table:
    """Read and decode a shard's files: rows of READ and, as a last column, the framed pixels.

    Raises EngineError if this machine doesn't see the folder: its photos are not to be skipped.
    """
    for folder in header.folders:
        if not is_remote(folder) and not _holds_something(Path(folder)):
            raise EngineError(
                f"{os.uname().nodename} doesn't see {folder}, or it is empty there: every machine "
                "of the cluster must have it at the same place"
            )
    files = planned_files(place, header, shard)
    rows: list[dict[str, Any]] = []
    pixels: list[bytes | None] = []

    def read(stat: FileStat) -> Read | Skip:
        return read_at(stat, header.framing, header.side)

    for stat, item in zip(files, read_ahead(files, read, 2 * _READERS, _READERS), strict=True):
        if isinstance(item, Skip):
            rows.append(path_columns(stat) | {"skipped": item.reason})
            pixels.append(None)
            continue
        picture = item.picture
        assert picture is not None, "nothing is known here, so all is decoded"
        told = {"sha256": item.hash, "thumbnail": picture.thumbnail}
        rows.append(path_columns(item.stat) | asdict(picture.info) | told)
        pixels.append(picture.pixels.tobytes())
    kind = pa.binary(header.side * header.side * 3)
    return read_table(rows).append_column(_PIXELS, pa.array(pixels, kind))


class Describer:
    """A network and a coder, ready for the shards of one run."""

    def __init__(self, header: RunHeader, device: str) -> None:
        """Load them. Raises WeightsError if this machine has others than the run began with."""
        from retrieval.extractor import Extractor

        self._header = header
        self._extractor = Extractor(header.network, header.weights, device)
        brought = shipped_coder(header.network, header.stamp)
        digest = None if brought is None else coder_digest(brought[0])
        if self._extractor.stamp != header.stamp or digest != header.coder:
            raise WeightsError(
                f"{os.uname().nodename} has other weights or codes of {header.network} than the "
                "run began with: install the same fc7, and the same weights, on every machine"
            )
        self._coder = None if brought is None else brought[0]

    def describe(self, read: pa.Table) -> pa.Table:
        """What `read_files` gave -> the rows of a shard."""
        return describe_rows(read, self._extractor, self._coder, self._header)


def describe_rows(
    read: pa.Table, extractor: Extractor, coder: Coder | None, header: RunHeader
) -> pa.Table:
    """Replace the pixels by what the network says of them. Codes are of the rounded rows."""
    column = read[_PIXELS].combine_chunks()
    rows = np.flatnonzero(np.asarray(column.is_valid()))
    table = read.drop_columns([_PIXELS])
    if not len(rows):
        none = np.empty((0, header.dims), np.float16)
        codes = None if coder is None else np.empty((0, coder.bits // 8), np.uint8)
        return with_descriptors(table, rows, none, np.empty(0, np.float32), [], [], codes)
    kept = column.drop_null()
    shape = (-1, header.side, header.side, 3)
    start = kept.offset * kept.type.byte_width
    pixels = np.frombuffer(kept.buffers()[1], np.uint8, offset=start)
    pixels = pixels[: len(kept) * kept.type.byte_width].reshape(shape)
    told = extractor.describe(pixels)
    fc7 = told.fc7.astype(np.float16)
    top = top_labels(told.probabilities, extractor.classes)
    return with_descriptors(
        table,
        rows,
        fc7,
        told.norms,
        [[one.label for one in own] for own in top],
        [[one.probability for one in own] for own in top],
        None if coder is None else coder.encode(fc7),
    )


def coder_digest(coder: Coder) -> str:
    """Name a coder by what it computes."""
    digest = hashlib.sha256()
    for array in asdict(coder).values():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


# --- folders


def _roots(folders: Sequence[str]) -> list[str]:
    """Absolute paths and addresses, none inside another. Raises LibraryError."""
    local, far = [], []
    for folder in folders:
        path = local_path(folder)
        if path is None:
            far.append(folder.rstrip("/") if "::" not in folder else folder)
            continue
        real = Path(os.path.realpath(path.expanduser()))
        if not real.is_dir():
            what = "is a file, not a folder" if real.is_file() else "is not there"
            raise LibraryError(f"{folder} {what}: name the folder that holds your photos")
        local.append(real)
    apart = [a for a in dict.fromkeys(far) if not any(a.startswith(b + "/") for b in far)]
    return [*map(str, outermost(local)), *apart]


def _listed(
    roots: Sequence[str], exclude: Path | None, unreadable: list[list[str]]
) -> Iterator[FileStat]:
    """All files under the roots. unreadable: gets the folders that can't be listed, and why."""
    for root in roots:
        if is_remote(root):
            yield from walk(root)
            continue
        found = scan(Path(root), exclude)
        unreadable.extend([where, why] for where, why in found.unreadable)
        yield from found.files


def _check_same(
    place: Place, known: RunHeader, roots: list[str], network: str | None, weights: str | None
) -> None:
    if roots and roots != known.folders:
        raise ShardsError(
            f"{place.address} holds the run of {', '.join(known.folders)}: give another folder "
            "with --shards"
        )
    asked = (network or known.network, _absolute(weights) if weights else known.weights)
    if asked != (known.network, known.weights):
        raise ShardsError(
            f"{place.address} holds a run of {known.network} ({known.weights}), not of {asked[0]} "
            f"({asked[1]}): give another folder with --shards"
        )


def _absolute(weights: str) -> str:
    named = weights in ("bundled", "imagenet")
    return weights if named else str(Path(weights).expanduser().absolute())


def _holds_something(folder: Path) -> bool:
    """Also false for the empty place where nothing is mounted."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
