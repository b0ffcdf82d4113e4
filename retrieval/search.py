"""Exact search by Euclidean distance over FAISS files of FC7, on the CPU or a CUDA card.

A file holds a flat FAISS index (`IDMap2` over fp16 rows) and is never edited: it is written whole
and then memory-mapped, so a library may be larger than memory. faiss returns squared distances;
everything that leaves this file is the distance itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import DeviceError, SearchError

_BUILDS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cuvs")


def _installed_builds() -> list[str]:
    found = {(dist.metadata["Name"] or "").lower() for dist in metadata.distributions()}
    return [name for name in _BUILDS if name in found]


def check_faiss_builds(builds: Sequence[str]) -> None:
    """Refuse an environment where two builds of faiss have overwritten each other's files.

    Raises DeviceError with the commands that mend it.
    """
    if len(builds) > 1:
        raise DeviceError(
            f"{' and '.join(builds)} are both installed and overwrite each other's files; keep "
            f"one: pip uninstall -y {' '.join(builds)}, then pip install {builds[0]}"
        )


check_faiss_builds(_installed_builds())  # before the import: a wrong mix can crash it

import faiss  # noqa: E402


def write_rows(path: Path, ids: NDArray[np.int64], descriptors: NDArray[np.float32]) -> None:
    """Write descriptors (n, d) float32 under their ids (n,) int64 as one FAISS file, in fp16."""
    index = _empty(descriptors.shape[1])
    index.add_with_ids(np.ascontiguousarray(descriptors, np.float32), ids.astype(np.int64))
    faiss.write_index(index, str(path))


def merge_rows(path: Path, sources: Sequence[Path], keep: NDArray[np.int64]) -> int:
    """Write the rows of `sources` whose id is in `keep` as one file; return how many there are.

    Rows are copied as they are stored: no rounding is added.
    """
    opened = [_Rows(source) for source in sources]
    merged = _empty(opened[0].fp16.shape[1])
    for rows in opened:
        kept = np.isin(rows.ids, keep)
        if kept.any():
            stored = np.ascontiguousarray(rows.fp16[kept]).view(np.uint8)
            merged.add_sa_codes(stored, rows.ids[kept])
    faiss.write_index(merged, str(path))
    return int(merged.ntotal)


def write_codes(path: Path, codes: NDArray[np.uint8]) -> None:
    """Write codes (n, bits / 8) as one FAISS file, in their order."""
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(np.ascontiguousarray(codes))
    faiss.write_index_binary(index, str(path))


def read_codes(path: Path) -> NDArray[np.uint8]:
    """Read codes (n, bits / 8). Raises SearchError if the file is missing or damaged."""
    try:
        index = faiss.read_index_binary(str(path))
    except RuntimeError as error:
        raise SearchError(f"{path} is missing or damaged") from error
    return np.asarray(faiss.vector_to_array(index.xb)).reshape(index.ntotal, -1)


def stored_rows(path: Path) -> NDArray[np.float16]:
    """The descriptors (n, d) of a FAISS file, memory-mapped, in their order."""
    return _Rows(path).fp16


def itq_rotation(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The rotation (d, d) of centred rows (n, d) that brings them near their signs (ITQ)."""
    itq = faiss.ITQMatrix(rows.shape[1])
    itq.seed = seed
    itq.train(np.ascontiguousarray(rows, np.float32))
    return np.asarray(faiss.vector_to_array(itq.A).reshape(rows.shape[1], -1), np.float32)


def random_planes(width: int, count: int, seed: int) -> NDArray[np.float32]:
    """Normals (count, width) of random hyperplanes, at right angles to each other."""
    planes = faiss.RandomRotationMatrix(width, count)
    planes.init(seed)
    return np.asarray(faiss.vector_to_array(planes.A).reshape(count, width), np.float32)


class ExactSearch:
    """The nearest descriptors of a set of FAISS files, by comparing with every one of them.

    Where a CUDA card and the GPU build of faiss are there, the rows are kept on the card in fp16;
    that is asked of the card (`get_num_gpus`), since the GPU build imports without one.
    """

    def __init__(self, files: Sequence[Path], hidden: NDArray[np.int64]) -> None:
        """files: as `write_rows` made them; hidden: (m,) int64, ids that must not be answered.

        Raises SearchError if a file is missing or damaged.
        """
        self._parts = [_Rows(file) for file in files]
        self._hidden = np.unique(hidden.astype(np.int64))
        self._on_card = self._copy_to_card() if faiss.get_num_gpus() > 0 else None

    def search(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k nearest rows of each query, nearest first; equal distances by id.

        queries: (n, d) float32. Returns distances (n, m) float32 and ids (n, m) int64 with
        m = min(k, rows that are not hidden).
        """
        queries = np.ascontiguousarray(queries, np.float32)
        found = [index.search(queries, k, **options) for index, options in self._searchable()]
        if not found:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        squared = np.concatenate([distances for distances, _ in found], axis=1)
        ids = np.concatenate([labels for _, labels in found], axis=1)
        squared = np.where(ids < 0, np.inf, squared)  # faiss pads short answers with id -1
        order = np.lexsort((ids, squared), axis=1)[:, :k]
        squared = np.take_along_axis(squared, order, axis=1)
        ids = np.take_along_axis(ids, order, axis=1)
        full = int(np.isfinite(squared[0]).sum())  # the same for each query: all rows compete
        return np.sqrt(np.maximum(squared[:, :full], 0)), ids[:, :full]

    def descriptors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the stored rows of these ids, (n, d) float32. An unknown id is a KeyError."""
        rows = []
        for wanted in ids:
            for part in self._parts:
                at = part.position.get(int(wanted))
                if at is not None:
                    rows.append(part.fp16[at].astype(np.float32))
                    break
            else:
                raise KeyError(wanted)
        return np.stack(rows)

    def _searchable(self) -> list[tuple[Any, dict[str, Any]]]:
        if self._on_card is not None:
            return [(self._on_card, {})]
        if not self._hidden.size:
            return [(part.index, {}) for part in self._parts]
        # faiss keeps only a pointer to a selector's numbers: both must outlive the search.
        self._selector = faiss.IDSelectorBatch(self._hidden)
        self._visible = faiss.IDSelectorNot(self._selector)
        options = {"params": faiss.SearchParameters(sel=self._visible)}
        return [(part.index, options) for part in self._parts]

    def _copy_to_card(self) -> Any:
        if not self._parts:
            return None
        width = self._parts[0].fp16.shape[1]
        config = faiss.GpuIndexFlatConfig()
        config.useFloat16 = True
        self._resources = faiss.StandardGpuResources()  # must outlive the index
        index = faiss.IndexIDMap(faiss.GpuIndexFlatL2(self._resources, width, config))
        for part in self._parts:
            shown = ~np.isin(part.ids, self._hidden)
            for start in range(0, len(part.ids), 65536):
                block = slice(start, start + 65536)
                rows = part.fp16[block][shown[block]].astype(np.float32)
                if len(rows):
                    index.add_with_ids(rows, part.ids[block][shown[block]])
        return index


class _Rows:
    """One FAISS file, memory-mapped: its index, its ids (n,) and a view of its rows (n, d) fp16."""

    def __init__(self, path: Path) -> None:
        try:
            self.index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise SearchError(f"{path} is missing or damaged") from error
        self.ids: NDArray[np.int64] = faiss.vector_to_array(self.index.id_map)
        stored = faiss.downcast_index(self.index.index).codes
        flat = faiss.rev_swig_ptr(stored.data(), stored.size())
        self.fp16: NDArray[np.float16] = flat.view(np.float16).reshape(len(self.ids), -1)
        self._position: dict[int, int] | None = None

    @property
    def position(self) -> dict[int, int]:
        if self._position is None:
            self._position = {int(id_): at for at, id_ in enumerate(self.ids)}
        return self._position


def _empty(width: int) -> Any:
    rows = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
    return faiss.IndexIDMap2(rows)
